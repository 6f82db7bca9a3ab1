//! What happened on all machines of a scenario, and whether anything in it must not be.
//!
//! Four kinds of sources that know nothing of each other: the shims' journals, what the games wrote
//! down themselves, the events in the host's database, and what the scenario itself did. All times
//! are of this kernel's boot clock, which every fake machine of a scenario shares.

mod check;
mod read;

pub use check::{Violation, check};
pub use read::Witness;

use std::collections::BTreeMap;

/// One thing in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at_ms: u64,
    pub machine: String,
    pub server: String,
    pub instance: String,
    pub what: What,
}

/// A process by which nobody else can be meant in this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: i32,
    pub ticks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The game's process is there and may run.
    Begins {
        epoch: u64,
        process: Process,
    },
    /// Something that the game started belongs to it as well.
    Adopts {
        process: Process,
    },
    Signalled {
        process: Process,
    },
    /// Nothing of the instance lives.
    Ends {
        code: Option<i32>,
        signal: Option<i32>,
        cause: Option<String>,
        asked: bool,
    },
}

/// A lifecycle event as the host has stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub id: i64,
    /// The worker's own number of it; 0 for an event of the host's.
    pub seq: u64,
    pub worker: String,
    pub server: String,
    pub kind: String,
    pub instance: Option<String>,
}

/// Something that a person asked for, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub server: String,
    pub at_ms: u64,
    /// Whether an end of the game is what was wished: stop, restart, delete, a move, a drain.
    pub ends_it: bool,
    /// For a command that is to be done once: how often it took effect, how often it was answered.
    pub once: Option<(u32, u32)>,
}

/// How a server is when all faults are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub server: String,
    pub generation: u64,
    pub applied: u64,
    /// The instance that runs, as the host shows it.
    pub instance: Option<String>,
    pub wanted: bool,
    /// A lease may end it without anybody's wish.
    pub leased: bool,
}

/// Everything known of one scenario.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub journal: Vec<Entry>,
    pub witness: Vec<Witness>,
    pub stored: Vec<Stored>,
    pub wishes: Vec<Wish>,
    pub settled: Vec<Settled>,
    /// Last number that each worker gave to an event which the host must have.
    pub told: BTreeMap<String, u64>,
}
