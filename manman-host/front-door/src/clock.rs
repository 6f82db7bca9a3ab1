//! The only place of this crate that reads a clock or draws a random number.

#![expect(clippy::disallowed_methods, reason = "this file is the one place where it is done")]

use std::time::Instant;

use manman_common::Timestamp;
use rand::RngCore as _;

#[must_use]
pub(crate) fn now() -> Timestamp {
    chrono::Utc::now().into()
}

/// For durations within this process; it never jumps.
#[must_use]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// 256 random bits, for a secret.
#[must_use]
pub(crate) fn random_secret() -> [u8; 32] {
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    secret
}

/// A number below `end`, for jitter and for choosing; 0 where `end` is 0.
#[must_use]
pub(crate) fn random_below(end: u64) -> u64 {
    if end == 0 { 0 } else { rand::Rng::random_range(&mut rand::rng(), 0..end) }
}
