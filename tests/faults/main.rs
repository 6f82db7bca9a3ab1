//! Fault scenarios: the table of faults, row by row, with real processes. `tests/faults/run` runs
//! them all; what each saw is in target/faults.md.

mod gather;
mod stage;

mod day;
mod disk;
mod host;
mod machine;
mod network;
mod planted;
mod restore;
mod steady;
