//! The only place of the crate that reads a clock or draws a random number.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Milliseconds since 1970: for what people and scripts read, never for a decision.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Who knows the id may answer the request, so it is random: 122 bits, and no time in it.
#[expect(clippy::disallowed_methods, reason = "this is the place that draws; an id that tells the time could be guessed")]
pub(crate) fn request_id() -> Uuid {
    Uuid::new_v4()
}
