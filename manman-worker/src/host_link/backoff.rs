//! How long to wait before the host is asked again.

use std::time::Duration;

use crate::clock;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A host on this machine is no crowd's, and its people see it start.
const LONGEST_HERE: Duration = Duration::from_secs(4);

/// Full jitter between nothing and a ceiling that doubles from 1 s to 60 s, so that a fleet whose
/// host was away does not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    attempts: u32,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(host_is_here: bool) -> Self {
        Self { attempts: 0, longest: if host_is_here { LONGEST_HERE } else { LONGEST } }
    }

    /// The next wait; at least what the host asked for, if it did.
    pub(super) fn next(&mut self, retry_after: Option<u32>) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.attempts.min(6)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        let asked = Duration::from_secs(u64::from(retry_after.unwrap_or(0))).min(10 * LONGEST);
        asked + clock::jitter_up_to(if asked.is_zero() { ceiling } else { FIRST })
    }

    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_a_minute_and_honours_the_host() {
        let mut backoff = Backoff::new(false);
        assert!(backoff.next(None) <= FIRST);
        for _ in 0..100 {
            assert!(backoff.next(None) <= LONGEST);
        }
        // A hundred draws below a second each would be a ceiling that does not grow.
        assert!((0..100).any(|_| backoff.next(None) > FIRST));
        let asked = backoff.next(Some(7));
        assert!(asked >= Duration::from_secs(7) && asked <= Duration::from_secs(8));
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }
}
