//! Waiting for a level, with a bound, and with the last thing seen in the message.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until `look` gives an `Ok`, for 60 s at most; else fails with what it saw last.
pub async fn eventually<T, E: Debug>(what: &str, look: impl AsyncFnMut() -> Result<T, E>) -> Result<T> {
    eventually_within(Duration::from_secs(60), what, look).await
}

pub async fn eventually_within<T, E: Debug>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> Result<T> {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() > limit => bail!("{what}: not within {} s; last seen: {last:?}", limit.as_secs()),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
