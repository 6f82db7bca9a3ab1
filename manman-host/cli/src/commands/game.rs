use clap::Subcommand;
use manman_common::client::Client;
use manman_common::wire::GameView;

use crate::commands::App;
use crate::failure::Failure;
use crate::find::all_pages;
use crate::parse::show_size;
use crate::table::{Cell, Sheet, Table};

/// The catalogue: games that can be created by name
#[derive(Debug, Subcommand)]
pub(crate) enum Game {
    /// List the games of the catalogue
    #[command(after_help = "Example:\n  manman game list")]
    List {
        /// Only games whose name, id or tags hold this word
        word: Option<String>,
    },
    /// Show a game: its settings, ports and actions
    #[command(after_help = "Example:\n  manman game show openarena")]
    Show {
        /// A game_id or a name of the catalogue
        game: String,
    },
}

impl Game {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let client = app.client()?;
        match self {
            Self::List { word } => {
                let mut games = all(&client).await?;
                if let Some(word) = word {
                    let word = word.to_lowercase();
                    let holds = |text: &str| text.to_lowercase().contains(&word);
                    games.retain(|game| holds(&game.name) || holds(&game.game_id.to_string()) || game.tags.iter().any(|tag| holds(tag)));
                }
                app.output.list(&games, "no game of the catalogue fits", table)
            }
            Self::Show { game } => app.output.one(&find(&client, &game).await?, sheet),
        }
    }
}

async fn all(client: &Client) -> Result<Vec<GameView>, Failure> {
    all_pages("could not read the catalogue", async |page| client.game_list(&page).await).await
}

/// A game by its id, by its name (`OpenArena`), or by the last word of its id (`openarena`).
pub(crate) async fn find(client: &Client, given: &str) -> Result<GameView, Failure> {
    let games = all(client).await?;
    let fits = |game: &GameView| names(game).iter().any(|name| name.eq_ignore_ascii_case(given));
    let known = games.iter().map(short_name).collect::<Vec<_>>().join(", ");
    let mut found: Vec<GameView> = games.into_iter().filter(fits).collect();
    match found.len() {
        0 => Err(Failure::new(format!("there is no game `{given}` in the catalogue"))
            .hint(format!("there are: {known}; any Docker image can be run as `docker:IMAGE`"))),
        1 => Ok(found.remove(0)),
        _ => {
            let ids = found.iter().map(|game| game.game_id.to_string()).collect::<Vec<_>>().join(", ");
            Err(Failure::new(format!("`{given}` could be several games")).hint(format!("write one of: {ids}")))
        }
    }
}

fn names(game: &GameView) -> [String; 4] {
    [game.game_id.to_string(), game.name.clone(), game.name.replace(' ', "-"), short_name(game)]
}

/// What is easiest to type: the image's last word, or the game's name.
fn short_name(game: &GameView) -> String {
    match &game.game_id {
        manman_common::GameId::Docker(image) => {
            let last = image.as_str().rsplit('/').next().unwrap_or_default();
            last.split([':', '@']).next().unwrap_or_default().to_owned()
        }
        manman_common::GameId::Steamcmd(_) => game.name.to_lowercase().replace(' ', "-"),
    }
}

fn table(games: &[GameView]) -> Table {
    let mut table = Table::new(&["NAME", "GAME", "MEMORY", "DISK", "TAGS"]);
    for game in games {
        table.row(vec![
            game.name.clone().into(),
            game.game_id.to_string().into(),
            game.memory_bytes.map_or_else(|| "-".into(), |bytes| Cell::number(show_size(bytes))),
            game.disk_bytes.map_or_else(|| "-".into(), |bytes| Cell::number(show_size(bytes))),
            game.tags.join(", ").into(),
        ]);
    }
    table
}

fn sheet(game: &GameView) -> Sheet {
    let mut sheet = Sheet::new();
    sheet.line("name", game.name.clone());
    sheet.line("game", game.game_id.to_string());
    sheet.maybe("about", game.description.clone());
    sheet.maybe("memory", game.memory_bytes.map(show_size));
    sheet.maybe("disk", game.disk_bytes.map(show_size));
    for port in &game.ports {
        sheet.line("port", format!("{} {}/{}", port.name, port.default, port.protocol));
    }
    for (name, input) in &game.variables {
        let default = match (&input.default, input.secret) {
            (Some(default), false) if !default.is_empty() => format!(" (default {default})"),
            _ if input.required => " (required)".to_owned(),
            _ => String::new(),
        };
        let options = if input.options.is_empty() {
            String::new()
        } else {
            format!(", one of {}", input.options.iter().cloned().collect::<Vec<_>>().join(" "))
        };
        sheet.line("setting", format!("{name}: {}{default}{options}", input.label));
    }
    for (name, action) in &game.actions {
        let inputs: String = action.inputs.keys().map(|input| format!(" {input}=…")).collect();
        sheet.line("action", format!("{name}{inputs}: {}", action.label));
    }
    sheet.maybe("proven", game.proven.as_ref().map(|proven| format!("{}, {}: {}", proven.date, proven.build, proven.how)));
    sheet
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
