//! The worker's judgement: a pure plan from what should be and what is to what to do next.

mod world;

pub use world::{Failure, Instance, InstanceRef, InstanceState, Observation, Record, Stopping, Tried, World};

/// Hash of the part of a spec that a running instance was made from.
#[must_use]
pub fn run_hash(run: &manman_common::RunSpec) -> u64 {
    manman_common::link::fnv1a(&serde_json::to_vec(run).unwrap_or_default())
}
