//! The stage: an HTTP request becomes a process, and the process answers on a socket.
//!
//! Two doors, one engine. [`service`] is the stage as a program of its own: a front that takes HTTP
//! requests, a Unix socket at the back where scripts answer, and a file that says which path and verb
//! starts what. [`engine`] is the part that starts one process, waits for its answer, and leaves
//! nothing of it behind; a game's actions run on it without any front.
//!
//! What holds at all times:
//! - An entry for a request exists before its process does, so no answer can come too early.
//! - A signal is sent only while the process it is meant for has not been reaped, so that a pid
//!   which the kernel has given away again is never hit.
//! - When a request is over, its process group is gone, and so is whatever left the group.
//! - No payload is ever read by a shell.
//! - Every body, queue, log and wait has a bound.
//!
//! Deliberately absent: TLS and users (the front door has both), an answer that is streamed, and any
//! `unsafe`: limits are set by a second start of the own executable ([`shim`]), not between fork and exec.

pub mod command;
pub mod config;
pub mod engine;
pub mod openapi;
pub mod reply;
pub mod service;
pub mod shim;
pub mod template;

mod back;
mod clock;
mod front;
mod metrics;
mod pool;
mod problem;

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// Two: starts have threads of their own, and scripts run elsewhere.
const THREADS: usize = 2;

/// `stage` of a command line, from setting up the log to the exit code.
pub fn run_stage(args: service::StageArgs) -> ExitCode {
    let filter = EnvFilter::try_from_env("MANMAN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let to_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(to_terminal).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime can not be set up: {error}"), None, ExitCode::FAILURE),
    };
    match runtime.block_on(service::run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&service::chain(&error), error.hint(), error.exit_code()),
    }
}

/// `reply` of a command line.
pub fn run_reply(args: reply::ReplyArgs) -> ExitCode {
    args.run().unwrap_or_else(|error| fail(&service::chain(&error), None, ExitCode::FAILURE))
}

fn fail(text: &str, hint: Option<&str>, code: ExitCode) -> ExitCode {
    eprintln!("error: {text}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    code
}
