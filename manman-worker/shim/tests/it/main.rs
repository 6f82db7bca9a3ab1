//! The shim as real processes. Each test waits for conditions, never for a time.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod container;
mod lease;
mod life;
mod output;
mod socket;
mod start;
mod stop;
mod stuck;
mod support;
