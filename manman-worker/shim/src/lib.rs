//! What a worker and a shim say to each other: the run directory's files and the socket's frames.
//!
//! A shim is one small process per running instance of a game. The worker writes a [`spec::Spec`]
//! into a fresh run directory and starts `manman-shim RUN_DIR`; from then on the game needs neither
//! the worker nor its socket: the shim writes the log, climbs the stop ladder and records the exit.
//!
//! ```text
//! RUN_DIR/spec    what to run                       the worker writes it, before the shim starts
//! RUN_DIR/lock    flocked for as long as the shim lives, from before it was spawned
//! RUN_DIR/s       Unix socket, 0600: see proto      gone once the instance has ended
//! RUN_DIR/state   who runs, see record::State       written before the game may exec
//! RUN_DIR/exit    how it ended, see record::Exit    written once the game's process is gone
//! ```
//!
//! Beside them, in a directory that stays, every shim of a server keeps one [`journal`].
//!
//! All files are [`text`]: `key=value` lines, replaced whole by rename, so that no reader ever sees
//! half of one. A run directory serves one instance only; a second shim in it is refused.
//!
//! This crate decides nothing: it does not restart, update or judge. It depends on std and rustix
//! alone, since the library is part of the shim.

pub mod client;
pub mod clock;
pub mod files;
pub mod identity;
pub mod journal;
pub mod launch;
pub mod lease;
pub mod lock;
pub mod proto;
pub mod record;
pub mod rung;
pub mod spec;
pub mod text;

/// Exit codes of the shim itself. As process 1 of a container it exits as its game did instead.
pub mod exit_code {
    /// The instance has ended, all of it, and its exit is on record.
    pub const ENDED: u8 = 0;
    /// Called with other arguments than one run directory.
    pub const USAGE: u8 = 64;
    /// The spec can not be read or says something impossible.
    pub const SPEC: u8 = 65;
    /// The game could not be started; the exit record says why.
    pub const START: u8 = 71;
    /// A file of the shim's own could not be written.
    pub const IO: u8 = 74;
    /// The data directory is in use: an earlier instance, or a part of it, still lives.
    pub const LOCKED: u8 = 75;
    /// The data directory has been used by a later epoch.
    pub const EPOCH: u8 = 76;
    /// The run directory has served an instance already, or another shim is in it.
    pub const USED: u8 = 77;
    /// Its lease was over before it had begun.
    pub const LEASE: u8 = 78;
    /// The data directory remembers a stop by this start's wish or a later one.
    pub const STOPPED: u8 = 79;
}
