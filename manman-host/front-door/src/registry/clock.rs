//! The clock of a registry: the real one, or one that a test turns by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use manman_common::Timestamp;
use manman_common::lease::Tick;

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
        Self(Source::Real(crate::clock::instant()))
    }

    /// A clock that stands still until its hand turns it.
    #[must_use]
    pub fn by_hand() -> (Self, Hand) {
        let micros = Arc::new(AtomicU64::new(0));
        (Self(Source::Hand { micros: Arc::clone(&micros), start: crate::clock::now() }), Hand(micros))
    }

    pub(crate) fn now(&self) -> Tick {
        match &self.0 {
            Source::Real(start) => Tick::default().plus(crate::clock::instant().saturating_duration_since(*start)),
            Source::Hand { micros, .. } => Tick::from_micros(micros.load(Ordering::SeqCst)),
        }
    }

    /// The time of day, which alone survives a restart.
    pub(crate) fn wall(&self) -> Timestamp {
        match &self.0 {
            Source::Real(_) => crate::clock::now(),
            Source::Hand { micros, start } => start.plus(Duration::from_micros(micros.load(Ordering::SeqCst))),
        }
    }
}

impl Hand {
    pub fn turn(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}
