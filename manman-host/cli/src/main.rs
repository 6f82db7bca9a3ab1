//! `manman`: the person's tool. What it can do is in [`args`]; each command has a file of its own.

mod args;
mod clock;
mod commands;
mod context;
mod escape;
mod failure;
mod feed;
mod find;
mod output;
mod parse;
mod render;
mod style;
mod table;
mod wait;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A worker within `manman up` starts its scripts by way of this very program.
    if let Some(code) = manman_worker::asked_as_tool() {
        return code;
    }
    // The first call alone can fail, and then somebody has chosen this very provider before us.
    let _ = rustls::crypto::ring::default_provider().install_default();
    manman_host::secrecy::keep_memory_private();
    match commands::run(<args::Cli as clap::Parser>::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
