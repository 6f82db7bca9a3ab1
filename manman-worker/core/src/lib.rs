//! The worker's judgement: a pure plan from what should be and what is to what to do next.
//!
//! One round goes `seen` (fold what the drivers found into the records) → [`plan`] → `begin` (note
//! what is about to be done) → the shell commits and does it → `finish` (fold the outcome). Every
//! function here is pure: no clock, no randomness, no IO, no order that differs from run to run.
//! Nothing in a record says that a game runs; only an [`Observation`] does.

#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod backoff;
mod happening;
mod offer;
mod plan;
mod status;
mod step;
mod transition;
mod world;

#[cfg(test)]
mod sim;

pub use backoff::{BACKOFF_MAX, TRIES_MAX, backoff};
pub use happening::Happening;
pub use offer::{LocalChange, Offer, change_here, offer, retry};
pub use plan::{Plan, plan};
pub use status::phase_before_first_look;
pub use step::{Failing, FailureKind, Outcome, Step, StepKind};
pub use transition::{Sign, begin, finish, seen, signal};
pub use world::{
    Failure, Hung, Instance, InstanceRef, InstanceState, Mode, Observation, Origin, Record, Rest, Stopping, Tried, Trouble, Withdrawn,
    World,
};

/// The reason of an exit whose lease ended: nobody's wish and no crash, and it comes back with a lease.
pub const LEASE_ENDED: &str = "lease";

/// Hash of the part of a spec that a running instance was made from. Its actions are none of that:
/// whoever changes them need not restart the game.
#[must_use]
pub fn run_hash(run: &manman_common::RunSpec) -> u64 {
    let hash = |run: &manman_common::RunSpec| manman_common::link::fnv1a(&serde_json::to_vec(run).unwrap_or_default());
    if run.actions.is_empty() {
        return hash(run);
    }
    hash(&manman_common::RunSpec { actions: std::collections::BTreeMap::new(), ..run.clone() })
}
