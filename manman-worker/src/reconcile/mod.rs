//! The loop that works towards what was asked for, with games that it neither owns nor outlives.
//!
//! Woken by a new wish, the end of a step, a driver, a signal, the clock or 30 seconds, it looks at
//! the machine, folds what it saw into the records, plans, commits records, statuses and events in
//! one transaction, and only then acts. Each step is a task of its own: one hung server delays no
//! other. What to do is decided in `manman-worker-core` alone.

pub mod signals;

mod clock;
mod execute;
mod handle;
mod ladder;
mod lease;
mod let_go;
mod observe;
mod ports;
mod publish;
mod round;
mod serve;
mod task;

pub use clock::LoopClock;
pub use handle::{Applied, Created, ReconcileError, ReconcileHandle, Statuses};
pub use task::{Parts, Reconciler};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::spec as test_spec;
