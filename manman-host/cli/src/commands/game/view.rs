//! Games as people read them.

use manman_common::InstallMethod;
use manman_common::spec::{ConsoleKind, InputSpec, Platform, SteamLogin};
use manman_common::wire::GameView;

use crate::parse::show_size;
use crate::style::Colour;
use crate::table::{Cell, Sheet, Table};

/// What to type for it.
pub(super) fn to_type(game: &GameView) -> &str {
    if game.short.is_empty() { &game.name } else { &game.short }
}

pub(super) fn table(games: &[GameView]) -> Table {
    let mut table = Table::new(&["GAME", "NAME", "FROM", "MEMORY", "DISK", "PROVEN", "NEEDS"]);
    for game in games {
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), |bytes| Cell::number(show_size(bytes)));
        let proven = match &game.proven {
            Some(proven) => Cell::coloured(proven.date.clone(), Colour::Green),
            None => "-".into(),
        };
        table.row(vec![
            to_type(game).into(),
            game.name.clone().into(),
            from(game.game_id.method()).into(),
            size(game.memory_bytes),
            size(game.disk_bytes),
            proven,
            needs(game).join(", ").into(),
        ]);
    }
    table
}

const fn from(method: InstallMethod) -> &'static str {
    match method {
        InstallMethod::Docker => "docker",
        InstallMethod::Steamcmd => "steam",
    }
}

/// What is not everywhere.
fn needs(game: &GameView) -> Vec<&'static str> {
    let account = (game.steam_login == Some(SteamLogin::Account)).then_some("a Steam account that owns it");
    let proton = (game.platform == Platform::WindowsProton).then_some("Proton");
    account.into_iter().chain(proton).collect()
}

pub(super) fn sheet(game: &GameView) -> Sheet {
    let mut sheet = Sheet::new();
    sheet.line("name", game.name.clone());
    sheet.line("game", game.game_id.to_string());
    sheet.maybe("about", game.description.clone());
    sheet.maybe("tags", (!game.tags.is_empty()).then(|| game.tags.join(", ")));
    sheet.maybe("memory", game.memory_bytes.map(show_size));
    sheet.maybe("disk", game.disk_bytes.map(show_size));
    for need in needs(game) {
        sheet.line("needs", need.to_owned());
    }
    for port in &game.ports {
        sheet.line("port", format!("{} {}/{}", port.name, port.default, port.protocol));
    }
    for (name, input) in &game.variables {
        sheet.line("setting", format!("{name}: {}{}", input.label, rules(input)));
    }
    sheet.line("console", console(game.console).to_owned());
    sheet.maybe("query", game.query.clone());
    for (name, action) in &game.actions {
        let inputs: String = action.inputs.keys().map(|input| format!(" {input}=…")).collect();
        sheet.line("action", format!("{name}{inputs}: {}", action.label));
    }
    sheet.line(
        "proven",
        game.proven.as_ref().map_or_else(
            || "no: nobody has said that this definition runs".to_owned(),
            |proven| format!("{}, {}: {}", proven.date, proven.build, proven.how),
        ),
    );
    sheet.line("create", create_line(game));
    sheet
}

fn rules(input: &InputSpec) -> String {
    let mut said = Vec::new();
    match &input.default {
        Some(default) if !default.is_empty() && !input.secret => said.push(format!("default {default}")),
        _ if input.required => said.push("required".to_owned()),
        Some(_) | None => {}
    }
    if !input.options.is_empty() {
        said.push(format!("one of {}", input.options.iter().cloned().collect::<Vec<_>>().join(" ")));
    }
    if input.exposed.is_some() {
        said.push("secret, but who can list the machine's processes reads it".to_owned());
    } else if input.secret {
        said.push("secret".to_owned());
    }
    if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) }
}

const fn console(kind: ConsoleKind) -> &'static str {
    match kind {
        ConsoleKind::None => "none: the game reads no commands",
        ConsoleKind::Stdin => "its own input",
        ConsoleKind::SourceRcon => "Source RCON",
        ConsoleKind::MinecraftRcon => "Minecraft RCON",
        ConsoleKind::Quake3Rcon => "Quake 3 rcon",
        ConsoleKind::Telnet => "telnet",
        ConsoleKind::WebRcon => "WebRCON",
    }
}

/// What makes a server of it, with all that must be said.
fn create_line(game: &GameView) -> String {
    let needed = game.variables.iter().filter(|(_, input)| input.required && input.default.is_none());
    let set: String = needed.map(|(name, _)| format!(" --set {name}=…")).collect();
    format!("manman server create {}{set}", to_type(game))
}
