//! The loop on a machine in memory: real store, real files, real tasks, fast clock.

mod bench;
mod crashes;
mod ladder;
mod rig;
mod standing;
mod stories;

pub(crate) use rig::spec;
