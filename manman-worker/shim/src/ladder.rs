//! Where a stop stands: which rung, until when, and how the end is forced. Pure; [`run`](crate::run)
//! does what it says.

use std::time::{Duration, Instant};

use manman_shim::rung::Rung;

/// How long a tree may outlive SIGKILL before it is called stuck.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(15);
/// SIGKILL is sent again this often: something may have been forked while it was being sent.
const KILL_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(crate) struct Ladder {
    rungs: Vec<Rung>,
    at: At,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Ground,
    /// The rung `next - 1` has been begun and is waited on until `until`; `next` follows.
    Rung {
        next: usize,
        until: Instant,
    },
    Kill {
        since: Instant,
        again: Instant,
        stuck: bool,
    },
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Do {
    /// Begin this rung.
    Rung(usize),
    /// SIGKILL to everything.
    Kill,
    /// Say that SIGKILL has not helped.
    Stuck,
}

impl Ladder {
    pub(crate) fn begin(&mut self, rungs: Vec<Rung>, now: Instant) {
        if self.at == At::Ground {
            self.rungs = rungs;
            self.at = At::Rung { next: 0, until: now };
        }
    }

    /// Leaves the ladder: SIGKILL next.
    pub(crate) fn kill(&mut self, now: Instant) {
        if !self.is_killing() {
            self.at = At::Kill { since: now, again: now, stuck: false };
        }
    }

    /// Does not wait for the present rung any longer.
    pub(crate) fn skip(&mut self, now: Instant) {
        if let At::Rung { until, .. } = &mut self.at {
            *until = now;
        }
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.at != At::Ground
    }

    pub(crate) fn is_killing(&self) -> bool {
        matches!(self.at, At::Kill { .. })
    }

    /// The rung being waited on.
    pub(crate) fn rung(&self) -> Option<(usize, &Rung)> {
        match self.at {
            At::Rung { next, .. } => next.checked_sub(1).and_then(|index| Some((index, self.rungs.get(index)?))),
            At::Ground | At::Kill { .. } => None,
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Rung> {
        self.rungs.get(index)
    }

    /// When [`due`](Self::due) will have something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        match self.at {
            At::Ground => None,
            At::Rung { until, .. } => Some(until),
            At::Kill { again, .. } => Some(again),
        }
    }

    /// What is due by now, one thing at a time.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Do> {
        match &mut self.at {
            At::Ground => None,
            At::Rung { until, .. } if now < *until => None,
            At::Rung { next, until } => match self.rungs.get(*next) {
                Some(rung) => {
                    let index = *next;
                    (*next, *until) = (index + 1, now + rung.wait);
                    Some(Do::Rung(index))
                }
                None => {
                    self.at = At::Kill { since: now, again: now + KILL_AGAIN, stuck: false };
                    Some(Do::Kill)
                }
            },
            At::Kill { again, .. } if now < *again => None,
            At::Kill { since, stuck, .. } if !*stuck && now >= *since + STUCK_AFTER => {
                *stuck = true;
                Some(Do::Stuck)
            }
            At::Kill { since, again, .. } => {
                // Seldom, once it has not helped for a while: what hangs in the kernel stays there.
                *again = now + if now < *since + Duration::from_secs(2) { KILL_AGAIN } else { KILL_AGAIN * 10 };
                Some(Do::Kill)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use manman_shim::clock;

    use super::*;

    #[test]
    fn rungs_follow_one_another_and_the_kill_follows_them() {
        let start = clock::instant();
        let at = |ms| start + Duration::from_millis(ms);
        let rungs: Vec<_> =
            ["1000 console save", "0 signal INT", "500 signal-all TERM"].iter().filter_map(|text| Rung::parse(text)).collect();
        let mut ladder = Ladder::default();
        assert_eq!((ladder.due(start), ladder.next()), (None, None));
        ladder.begin(rungs.clone(), start);
        assert_eq!(ladder.due(at(0)), Some(Do::Rung(0)));
        assert_eq!((ladder.due(at(999)), ladder.next()), (None, Some(at(1000))));
        ladder.begin(rungs, at(999));
        assert_eq!(ladder.due(at(999)), None, "a second wish does not begin it anew");
        assert_eq!(ladder.due(at(1000)), Some(Do::Rung(1)));
        assert_eq!(ladder.due(at(1000)), Some(Do::Rung(2)));
        assert_eq!(ladder.rung().map(|(index, _)| index), Some(2));
        assert_eq!(ladder.due(at(1000)), None);
        assert_eq!(ladder.due(at(1500)), Some(Do::Kill));
        assert_eq!(ladder.due(at(1550)), None);
        assert_eq!(ladder.due(at(1600)), Some(Do::Kill));
        assert_eq!(ladder.due(at(16_499)), Some(Do::Kill));
        assert_eq!(ladder.due(at(17_600)), Some(Do::Stuck));
        assert_eq!(ladder.due(at(17_600)), Some(Do::Kill));
        assert_eq!(ladder.due(at(60_000)), Some(Do::Kill), "said once, tried on");
    }

    #[test]
    fn a_kill_leaves_the_ladder_and_a_skip_the_rung() {
        let now = clock::instant();
        let mut ladder = Ladder::default();
        ladder.begin(vec![Rung::parse("60000 signal TERM").expect("a rung")], now);
        assert_eq!(ladder.due(now), Some(Do::Rung(0)));
        ladder.skip(now);
        assert_eq!(ladder.due(now), Some(Do::Kill));
        let mut ladder = Ladder::default();
        ladder.kill(now);
        assert_eq!(ladder.due(now), Some(Do::Kill));
    }
}
