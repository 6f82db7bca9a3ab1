//! The command line as a whole; what a command takes is beside what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    account, action, completion, console, doctor, down, events, game, login, logs, send, server, service, session, status, token, up,
    worker,
};

/// Game servers on your own machines: one line to begin, one tool for all of them.
#[derive(Debug, Parser)]
#[command(
    name = "manman",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  manman up --yes                                  everything on this machine\n  manman server create openarena --name oa --wait  a game, from nothing to Ready\n  manman console oa                                its log and its command line\n\nExit codes: 0 done, 1 refused or failed, 2 usage, 3 nobody answered"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// They stand anywhere on the line.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Globals {
    /// The host's address; else MANMAN_HOST, else what is in the data directory
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) host: Option<String>,
    /// The token to show the host; else MANMAN_TOKEN, else what is in the data directory
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// The data directory; else MANMAN_DATA, else ~/.local/share/manman
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Write JSON for programs: a list as an array, one thing as an object
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Box<up::Up>),
    Down(down::Down),
    Status(status::Status),
    Doctor(doctor::Doctor),
    Login(login::Login),
    #[command(subcommand)]
    Server(server::Server),
    Console(console::Console),
    Logs(logs::Logs),
    Send(send::Send),
    Action(action::Action),
    #[command(subcommand)]
    Worker(worker::Worker),
    #[command(subcommand)]
    Game(game::Game),
    #[command(subcommand)]
    Service(service::Service),
    #[command(subcommand)]
    Account(account::Account),
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    Session(session::Session),
    Events(events::Events),
    Completion(completion::Completion),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            for child in command.get_subcommands() {
                visit(child, &path);
            }
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "`{path}` has no example");
                assert!(command.get_about().is_some(), "`{path}` does not say what it does");
            }
        }
        visit(&Cli::command(), "");
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in
            [&["manman", "--json", "server", "list"][..], &["manman", "server", "--json", "list"], &["manman", "server", "list", "--json"]]
        {
            let cli = Cli::try_parse_from(line).expect("a good line");
            assert!(cli.globals.json, "{line:?}");
        }
    }

    #[test]
    fn what_is_revoked_is_not_what_is_shown_to_the_host() {
        let cli = Cli::try_parse_from(["manman", "token", "revoke", "grafana"]).expect("a good line");
        assert_eq!(cli.globals.token, None);
        let cli = Cli::try_parse_from(["manman", "token", "revoke", "grafana", "--token", "mm_admin_x"]).expect("a good line");
        assert_eq!(cli.globals.token.as_deref(), Some("mm_admin_x"));
    }
}
