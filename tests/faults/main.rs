//! Fault scenarios: the table of faults, row by row, with real processes. `tests/faults/run` runs
//! them all; what each saw is in target/faults.md.

// What the scenarios share; not each of them needs all of it.
mod gather;
#[expect(dead_code, reason = "shared by scenarios, some of which are still to come")]
mod stage;

mod day;
mod disk;
mod host;
mod machine;
mod network;
mod restore;
mod steady;
