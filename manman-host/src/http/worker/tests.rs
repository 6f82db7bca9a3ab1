//! Joining, sessions, silence and removal, through the real router.

mod joining;
mod silence;
mod trust;
