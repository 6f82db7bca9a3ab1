//! The loop's time: the machine's, or for tests one that runs faster.

use std::time::Duration;

use manman_common::Timestamp;

use crate::clock;

#[derive(Clone, Copy, Debug)]
pub struct LoopClock {
    base: Timestamp,
    speed: u32,
}

impl LoopClock {
    #[must_use]
    pub fn real() -> Self {
        Self::fast(1)
    }

    /// Runs `speed` times as fast from now on, so that a back-off of minutes passes in a moment.
    #[must_use]
    pub fn fast(speed: u32) -> Self {
        Self { base: clock::now(), speed: speed.max(1) }
    }

    #[must_use]
    pub fn now(self) -> Timestamp {
        let now = clock::now();
        if self.speed == 1 { now } else { self.base.plus(now.since(self.base).saturating_mul(self.speed)) }
    }

    /// How long to sleep until `moment`.
    #[must_use]
    pub fn until(self, moment: Timestamp) -> Duration {
        moment.since(self.now()) / self.speed
    }
}
