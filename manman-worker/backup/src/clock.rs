//! The only place of the crate that reads a clock.
#![expect(clippy::disallowed_methods, reason = "this is the place they are allowed in")]

use std::time::SystemTime;

use chrono::{DateTime, Utc};

pub(crate) fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}
