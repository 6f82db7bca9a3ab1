//! How long an instance may run without a further word: moments on CLOCK_BOOTTIME, which goes on while
//! the machine sleeps and which nobody sets. The shim alone enforces them, so that a worker that is
//! stopped, dead or cut off changes nothing.

use std::time::Duration;

/// No moments at all, on the wire and in files, are no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When the stop ladder begins.
    pub until: Duration,
    /// When everything that still lives is killed.
    pub kill_at: Duration,
}

impl Lease {
    /// From milliseconds since boot; `None` for two zeros. No kill comes before the ladder.
    #[must_use]
    pub fn from_millis(until: u64, kill_at: u64) -> Option<Self> {
        let (until, kill_at) = (Duration::from_millis(until), Duration::from_millis(kill_at));
        (!until.is_zero() || !kill_at.is_zero()).then(|| Self { until, kill_at: kill_at.max(until) })
    }

    /// Rounded down: a lease never grows on its way.
    #[must_use]
    pub fn millis(lease: Option<Self>) -> (u64, u64) {
        let millis = |moment: Duration| u64::try_from(moment.as_millis()).unwrap_or(u64::MAX);
        lease.map_or((0, 0), |lease| (millis(lease.until), millis(lease.kill_at)))
    }
}

/// What is due by a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Ladder,
    Kill,
}

/// How far a lease has run out. Pure: the time comes in.
#[derive(Debug, Default)]
pub struct Course {
    lease: Option<Lease>,
    climbed: bool,
    killed: bool,
}

impl Course {
    #[must_use]
    pub const fn new(lease: Option<Lease>) -> Self {
        Self { lease, climbed: false, killed: false }
    }

    #[must_use]
    pub const fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// A later word takes the place of an earlier one; false once the lease has run out, since a stop
    /// that has begun is not taken back.
    pub fn set(&mut self, lease: Option<Lease>) -> bool {
        if self.climbed {
            return false;
        }
        self.lease = lease;
        true
    }

    /// When [`due`](Self::due) will have something to say.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let lease = self.lease?;
        match (self.climbed, self.killed) {
            (false, _) => Some(lease.until),
            (true, false) => Some(lease.kill_at),
            (true, true) => None,
        }
    }

    /// What is due by now, one thing at a time, each once.
    pub fn due(&mut self, now: Duration) -> Option<Due> {
        let lease = self.lease?;
        if !self.climbed && now >= lease.until {
            self.climbed = true;
            return Some(Due::Ladder);
        }
        if self.climbed && !self.killed && now >= lease.kill_at {
            self.killed = true;
            return Some(Due::Kill);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_is_renewed_never_ends_and_one_that_is_not_ends_in_two_steps() {
        let mut course = Course::default();
        assert_eq!((course.next(), course.due(at(1_000_000))), (None, None), "no lease, no end");
        assert!(course.set(Lease::from_millis(10_000, 20_000)));
        assert_eq!(course.due(at(9)), None);
        assert!(course.set(Lease::from_millis(15_000, 25_000)));
        assert_eq!((course.due(at(14)), course.next()), (None, Some(at(15))));
        assert_eq!(course.due(at(15)), Some(Due::Ladder));
        assert_eq!((course.due(at(15)), course.next()), (None, Some(at(25))));
        assert!(!course.set(Lease::from_millis(99_000, 99_000)), "it is too late");
        assert_eq!(course.due(at(25)), Some(Due::Kill));
        assert_eq!((course.due(at(26)), course.next()), (None, None));
    }

    #[test]
    fn after_a_long_sleep_both_are_due_one_after_the_other() {
        let mut course = Course::new(Lease::from_millis(10_000, 20_000));
        assert_eq!(course.due(at(600)), Some(Due::Ladder));
        assert_eq!(course.due(at(600)), Some(Due::Kill));
        assert_eq!(course.due(at(600)), None);
    }

    #[test]
    fn it_can_be_lifted_and_zeros_are_none() {
        let mut course = Course::new(Lease::from_millis(10_000, 5_000));
        assert_eq!(course.lease().map(|lease| lease.kill_at), Some(at(10)), "no kill before the ladder");
        assert!(course.set(Lease::from_millis(0, 0)));
        assert_eq!((course.due(at(600)), course.next()), (None, None));
        assert_eq!(Lease::millis(None), (0, 0));
        assert_eq!(Lease::millis(Lease::from_millis(7, 9)), (7, 9));
    }
}
