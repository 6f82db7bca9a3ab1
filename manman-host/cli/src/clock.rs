//! The only place of the tool that reads a clock.

#![expect(clippy::disallowed_methods, reason = "this file is the one place where it is done")]

use manman_common::Timestamp;
use tokio::time::Instant;

pub(crate) fn now() -> Timestamp {
    chrono::Utc::now().into()
}

/// For measuring how long something takes; it does not jump when somebody sets the clock.
pub(crate) fn instant() -> Instant {
    Instant::now()
}
