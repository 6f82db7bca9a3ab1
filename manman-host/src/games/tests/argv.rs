//! What games are started with, word for word, against what is known of the games themselves.

use super::super::{Catalogue, Definition};
use super::{catalogue, request, run, with_needed};

/// Shared with the story that starts ten of them.
const GOLDEN: &str = include_str!("../../../../tests/stories/games_argv.txt");

#[derive(Debug, Default)]
struct Golden {
    short: String,
    set: Vec<(String, String)>,
    argv: Vec<String>,
}

fn golden() -> Vec<Golden> {
    let mut games: Vec<Golden> = Vec::new();
    for line in GOLDEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "game" {
            games.push(Golden { short: rest.to_owned(), ..Golden::default() });
            continue;
        }
        let game = games.last_mut().expect("a game comes first");
        match word {
            "set" => {
                let (name, value) = rest.split_once('=').expect("NAME=value");
                game.set.push((name.to_owned(), value.to_owned()));
            }
            "arg" => game.argv.push(plain(rest)),
            other => panic!("what is `{other}`?"),
        }
    }
    games
}

/// Without the names of the ports: `<game:2456>` is 2456.
fn plain(argument: &str) -> String {
    let port = regex::Regex::new("<[a-z]+:([0-9]+)>").expect("an expression");
    port.replace_all(argument, "$1").into_owned()
}

#[test]
fn each_game_starts_as_it_is_documented() {
    let catalogue = catalogue();
    let games = golden();
    assert!(games.len() >= 20, "{}", games.len());
    let mut wrong = String::new();
    for golden in games {
        let definition = by_short(&catalogue, &golden.short);
        let mut wish = request(&definition.game.to_string());
        wish.variables = golden.set.into_iter().collect();
        match run(&catalogue, &with_needed(wish, definition)) {
            Ok(run) if run.argv == golden.argv => {}
            Ok(run) => wrong += &format!("{}:\n  is  {}\n  not {}\n", golden.short, run.argv.join("|"), golden.argv.join("|")),
            Err(problem) => wrong += &format!("{}: {problem}\n", golden.short),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn by_short<'a>(catalogue: &'a Catalogue, short: &str) -> &'a Definition {
    catalogue.find_short(short).unwrap_or_else(|| panic!("there is no `{short}`"))
}
