use std::path::PathBuf;

use clap::Subcommand;
use manman_common::InstallMethod;
use manman_common::client::Client;
use manman_common::wire::GameView;

mod validate;
mod view;

use crate::commands::App;
use crate::failure::Failure;
use crate::find::all_pages;
use crate::output;

/// The catalogue: games that can be created by name
#[derive(Debug, Subcommand)]
pub(crate) enum Game {
    /// List the games of the catalogue
    #[command(after_help = "Examples:\n  manman game list\n  manman game list survival\n  manman game list --method docker --proven")]
    List {
        /// Only games whose name, id or tags hold this word
        word: Option<String>,
        /// Only games that are installed so: docker or steamcmd
        #[arg(long, value_name = "METHOD", value_parser = method)]
        method: Option<InstallMethod>,
        /// Only games that somebody has run with exactly this definition
        #[arg(long)]
        proven: bool,
    },
    /// Show a game: its settings, ports and actions
    #[command(after_help = "Example:\n  manman game show openarena")]
    Show {
        /// A game_id or a name of the catalogue
        game: String,
    },
    /// Check definitions of games, without a host
    ///
    /// Each problem is shown with file, line and column. A folder stands for the definitions in it.
    #[command(after_help = "Examples:\n  manman game validate mygame.yaml\n  manman game validate ~/.local/share/manman/games --json")]
    Validate {
        /// Files, or folders with files that end in .yaml
        #[arg(required = true, value_name = "FILE")]
        paths: Vec<PathBuf>,
    },
}

fn method(text: &str) -> Result<InstallMethod, String> {
    match text {
        "docker" => Ok(InstallMethod::Docker),
        "steamcmd" | "steam" => Ok(InstallMethod::Steamcmd),
        _ => Err("it is `docker` or `steamcmd`".to_owned()),
    }
}

impl Game {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::List { word, method, proven } => {
                let mut games = all(&app.client()?).await?;
                let word = word.unwrap_or_default().to_lowercase();
                games.retain(|game| {
                    holds(game, &word) && method.is_none_or(|method| game.game_id.method() == method) && (!proven || game.proven.is_some())
                });
                games.sort_by_key(|game| game.name.to_lowercase());
                app.output.list(&games, "no game of the catalogue fits", view::table)?;
                if !app.output.json && games.len() > 1 {
                    output::talk(&format!("{} games; `manman game show GAME` tells more of one", games.len()));
                }
                Ok(())
            }
            Self::Show { game } => app.output.one(&find(&app.client()?, &game).await?, view::sheet),
            Self::Validate { paths } => validate::run(app, &paths),
        }
    }
}

fn holds(game: &GameView, word: &str) -> bool {
    let texts = [game.name.as_str(), game.short.as_str()];
    texts.into_iter().chain(game.tags.iter().map(String::as_str)).any(|text| text.to_lowercase().contains(word))
        || game.game_id.to_string().to_lowercase().contains(word)
}

async fn all(client: &Client) -> Result<Vec<GameView>, Failure> {
    all_pages("could not read the catalogue", async |page| client.game_list(&page).await).await
}

/// A game by its id, its short name (`valheim`), its name (`Valheim`), or the last word of its image.
pub(crate) async fn find(client: &Client, given: &str) -> Result<GameView, Failure> {
    choose(all(client).await?, given)
}

fn choose(games: Vec<GameView>, given: &str) -> Result<GameView, Failure> {
    // What names exactly one game by itself comes before what may name several.
    for names in [exact_names, loose_names] {
        let fits = |game: &&GameView| names(game).iter().any(|name| !name.is_empty() && name.eq_ignore_ascii_case(given));
        let found: Vec<&GameView> = games.iter().filter(fits).collect();
        match found.as_slice() {
            [] => {}
            [game] => return Ok((*game).clone()),
            several => {
                let ids = several.iter().map(|game| game.game_id.to_string()).collect::<Vec<_>>().join(", ");
                return Err(Failure::new(format!("`{given}` could be several games")).hint(format!("write one of: {ids}")));
            }
        }
    }
    Err(Failure::new(format!("there is no game `{given}` in the catalogue")).hint(format!(
        "{}`manman game list` shows all; any Docker image can be run as `docker:IMAGE`",
        near(&games, given).map(|near| format!("did you mean {near}? ")).unwrap_or_default()
    )))
}

/// The most games that a hint names.
const NAMED: usize = 5;

/// Games that share the word's beginning, or hold it.
fn near(games: &[GameView], given: &str) -> Option<String> {
    let given = given.to_lowercase();
    let stem: String = given.chars().take(3).collect();
    if stem.chars().count() < 3 {
        return None;
    }
    let holding: Vec<&str> = games.iter().filter(|game| holds(game, &given)).map(view::to_type).collect();
    let beginning = || games.iter().map(view::to_type).filter(|name| name.starts_with(&stem)).collect();
    let near = if holding.is_empty() { beginning() } else { holding };
    (!near.is_empty()).then(|| near.into_iter().take(NAMED).collect::<Vec<_>>().join(", "))
}

fn exact_names(game: &GameView) -> Vec<String> {
    vec![game.game_id.to_string(), game.short.clone()]
}

fn loose_names(game: &GameView) -> Vec<String> {
    let mut names = vec![game.name.clone(), game.name.replace(' ', "-")];
    if let manman_common::GameId::Docker(image) = &game.game_id {
        let last = image.as_str().rsplit('/').next().unwrap_or_default();
        names.push(last.split([':', '@']).next().unwrap_or_default().to_owned());
    }
    names
}

/// For `server create`: a game_id as it is, else a name of the catalogue.
pub(crate) async fn resolve(client: &Client, given: &str) -> Result<manman_common::GameId, Failure> {
    if given.contains(':') {
        return given.parse().map_err(|error| {
            Failure::usage(format!("could not understand the game `{given}`"))
                .because(&error)
                .hint("`manman game list` shows the catalogue; any Docker image can be run as `docker:IMAGE`")
        });
    }
    find(client, given).await.map(|game| game.game_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn game(id: &str, short: &str, name: &str) -> GameView {
        let view = serde_json::json!({
            "game_id": id, "short": short, "name": name, "description": null, "tags": ["survival"], "variables": {}, "ports": [],
            "actions": {}, "console": "none", "proven": null, "memory_bytes": null, "disk_bytes": null,
        });
        serde_json::from_value(view).expect("a game")
    }

    fn games() -> Vec<GameView> {
        vec![
            game("steamcmd:896660", "valheim", "Valheim"),
            game("docker:lloesche/valheim-server", "valheim-docker", "Valheim (Docker)"),
            game("steamcmd:294420", "seven-days-to-die", "7 Days to Die"),
            game("docker:a/openarena:1", "arena-one", "OpenArena"),
            game("docker:b/openarena", "arena-two", "Open Arena"),
        ]
    }

    #[test]
    fn a_game_has_several_names() {
        for (given, id) in [
            ("valheim", "steamcmd:896660"),
            ("Valheim", "steamcmd:896660"),
            ("valheim-server", "docker:lloesche/valheim-server"),
            ("7-days-to-die", "steamcmd:294420"),
            ("steamcmd:294420", "steamcmd:294420"),
            ("arena-two", "docker:b/openarena"),
        ] {
            assert_eq!(choose(games(), given).expect("one").game_id.to_string(), id, "{given}");
        }
    }

    #[test]
    fn what_is_several_or_none_says_what_there_is() {
        let several = choose(games(), "openarena").expect_err("two");
        assert_eq!(several.hint.as_deref(), Some("write one of: docker:a/openarena:1, docker:b/openarena"));
        let none = choose(games(), "valhiem").expect_err("none");
        assert!(none.hint.expect("a hint").starts_with("did you mean valheim, valheim-docker? "));
        assert!(choose(games(), "").is_err());
        assert!(!choose(games(), "xy").expect_err("none").hint.expect("a hint").contains("did you mean"));
    }
}
