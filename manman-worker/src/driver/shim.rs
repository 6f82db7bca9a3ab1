//! What every instance behind a shim has in common, whatever started the shim: its run directory,
//! the conversation with it, the log that it writes, the ladder that it climbs, its exit record.
//!
//! A run directory says everything: `instance.toml` is ours, the rest is the shim's own (see the
//! crate `manman-shim`). Nothing about an instance is kept anywhere else, so that a worker may die
//! at any line.

pub(crate) mod binary;
pub(crate) mod climb;
pub(crate) mod exit;
pub(crate) mod fence;
pub(crate) mod held;
pub(crate) mod ladder;
mod lapse;
pub(crate) mod lease;
mod orphan;
pub(crate) mod refusal;
pub(crate) mod rundir;

use std::io;

use super::{DriverError, DriverErrorKind};

pub(crate) fn retry(what: impl Into<String>, source: io::Error) -> DriverError {
    DriverError { kind: DriverErrorKind::Retry, what: what.into(), hint: None, source: Some(source.into()) }
}

pub(crate) fn gone(what: impl Into<String>) -> DriverError {
    DriverError { kind: DriverErrorKind::Gone, what: what.into(), hint: None, source: None }
}

/// Where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, DriverError> + Send + 'static) -> Result<T, DriverError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The runtime goes down.
        Err(error) => Err(retry("a blocking call was cut short", io::Error::other(error))),
    }
}

/// A descriptor that is owned by what is watched, so that it stays open as long as the watch.
#[expect(deprecated, reason = "what takes its place is unsafe code, needed for descriptors that are not owned; these are")]
pub(crate) fn readable<T: std::os::fd::AsFd + std::os::fd::AsRawFd>(owner: T) -> io::Result<tokio::io::unix::AsyncFd<T>> {
    tokio::io::unix::AsyncFd::with_interest(owner, tokio::io::Interest::READABLE)
}
