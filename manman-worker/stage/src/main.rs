//! `manman-stage`: the stage alone, for a machine that runs no worker. `manman-worker` has the same
//! two commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use manman_stage::reply::ReplyArgs;
use manman_stage::service::StageArgs;

/// Turns HTTP requests into processes that answer on a socket.
#[derive(Debug, Parser)]
#[command(name = "manman-stage", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the routes of a file
    Stage(StageArgs),
    /// Answer a request, from within its process
    Reply(ReplyArgs),
}

fn main() -> ExitCode {
    if let Some(code) = manman_stage::shim::asked() {
        return code;
    }
    match Cli::parse().command {
        Command::Stage(args) => manman_stage::run_stage(args),
        Command::Reply(args) => manman_stage::run_reply(args),
    }
}
