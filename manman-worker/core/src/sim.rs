//! The simulator.

pub(crate) mod fixtures;
