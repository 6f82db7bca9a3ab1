//! The only place of this crate that reads a clock or draws a random number.

#![expect(clippy::disallowed_methods, reason = "this file is the one place where it is done")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use manman_common::Timestamp;
use manman_common::lease::Tick;
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

/// The clock of a registry or an orchestrator: the real one, or one that a test turns by hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real(Instant),
    Hand { micros: Arc<AtomicU64>, start: Timestamp },
}

/// Turns a clock forward.
#[derive(Clone, Debug)]
pub struct Hand(Arc<AtomicU64>);

impl Clock {
    #[must_use]
    pub fn real() -> Self {
        Self(Source::Real(instant()))
    }

    /// A clock that stands still until its hand turns it.
    #[must_use]
    pub fn by_hand() -> (Self, Hand) {
        let micros = Arc::new(AtomicU64::new(0));
        (Self(Source::Hand { micros: Arc::clone(&micros), start: now() }), Hand(micros))
    }

    pub(crate) fn now(&self) -> Tick {
        match &self.0 {
            Source::Real(start) => Tick::default().plus(instant().saturating_duration_since(*start)),
            Source::Hand { micros, .. } => Tick::from_micros(micros.load(Ordering::SeqCst)),
        }
    }

    /// The time of day, which alone survives a restart.
    pub(crate) fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::Real(_) => now(),
            Source::Hand { micros, start } => start.plus(Duration::from_micros(micros.load(Ordering::SeqCst))),
        }
    }
}

impl Hand {
    pub fn turn(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}
