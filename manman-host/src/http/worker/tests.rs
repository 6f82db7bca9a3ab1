//! Joining, sessions, silence and removal, through the real router.

mod joining;
mod moving;
mod rebase;
mod silence;
mod trust;
