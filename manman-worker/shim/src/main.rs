//! `manman-shim RUN_DIR`: holds one running game. What it reads, writes and answers is described in
//! the library of this crate.
//!
//! One thread, one poll loop, no memory that grows with what the game prints. The game's process is
//! made in two steps, so that no code has to run between fork and exec: the shim starts itself
//! again as a *stage* ([`stage`]), writes down who that is, and only then opens the gate behind
//! which the stage becomes the game.
//!
//! What it does not do: restart, update, judge an exit, open a network socket.

mod cgroup;
mod ladder;
mod log;
mod resume;
mod run;
mod serve;
mod setup;
mod stage;
mod stdin;
mod stream;
mod sys;
mod timer;
mod tree;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use manman_shim::exit_code;

/// First argument of the second step.
const STAGE: &str = "exec-stage";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next(), args.next()) {
        (Some(stage), Some(cwd), None) if stage == OsStr::new(STAGE) => stage::become_game(&PathBuf::from(cwd)),
        (Some(run_dir), None, None) if !run_dir.to_string_lossy().starts_with('-') => setup::hold(&PathBuf::from(run_dir)),
        _ => {
            eprintln!("usage: manman-shim RUN_DIR");
            ExitCode::from(exit_code::USAGE)
        }
    }
}
