//! Whether a game is ready: what is known of it, and what that means. Nothing here waits or asks.

use std::time::Duration;

use manman_common::RunSpec;
use tokio::time::Instant;

/// Failed queries in a row after which a ready game no longer is.
const FAILURES: u32 = 3;

/// What makes a game ready, of the spec that it was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) log: bool,
    pub(super) query: bool,
    /// Neither: its ports tell.
    pub(super) ports: bool,
    pub(super) within: Duration,
}

impl Rule {
    pub(super) fn of(run: &RunSpec) -> Self {
        let log = run.ready.log.is_some();
        let query = run.ready.query && run.query.is_some();
        Self { log, query, ports: !log && !query, within: Duration::from_secs(u64::from(run.ready.within_seconds)) }
    }
}

#[derive(Debug)]
pub(super) struct Readiness {
    pub(super) rule: Rule,
    log_seen: bool,
    ports_seen: bool,
    answered: bool,
    failures: u32,
    ready: bool,
    late: bool,
    /// When it began, or last printed a line.
    moved: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ready,
    Unready,
    Late,
}

impl Readiness {
    pub(super) fn new(rule: Rule, was_ready: bool, now: Instant) -> Self {
        Self {
            rule,
            log_seen: was_ready,
            ports_seen: was_ready,
            answered: was_ready && rule.query,
            failures: 0,
            ready: was_ready,
            late: false,
            moved: now,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether its ports still have to be looked at.
    pub(super) fn wants_ports(&self) -> bool {
        self.rule.ports && !self.ports_seen
    }

    pub(super) fn was_late(&self) -> bool {
        self.late
    }

    pub(super) fn log_matched(&mut self) -> Option<Verdict> {
        self.log_seen = true;
        self.settle()
    }

    pub(super) fn ports_bound(&mut self) -> Option<Verdict> {
        self.ports_seen = true;
        self.settle()
    }

    pub(super) fn query_answered(&mut self) -> Option<Verdict> {
        self.answered = true;
        self.failures = 0;
        self.settle()
    }

    /// A game that never answered (since it speaks the protocol badly, say) is not held to it,
    /// unless its rule asks for an answer.
    pub(super) fn query_failed(&mut self) -> Option<Verdict> {
        self.failures = self.failures.saturating_add(1);
        if self.ready && self.failures >= FAILURES && (self.answered || self.rule.query) {
            self.ready = false;
            return Some(Verdict::Unready);
        }
        None
    }

    /// The log grows: it is busy getting ready.
    pub(super) fn printed(&mut self, now: Instant) {
        self.moved = now;
    }

    pub(super) fn tick(&mut self, now: Instant) -> Option<Verdict> {
        if self.ready || self.late || now.duration_since(self.moved) < self.rule.within {
            return None;
        }
        self.late = true;
        Some(Verdict::Late)
    }

    fn settle(&mut self) -> Option<Verdict> {
        let met = (!self.rule.log || self.log_seen) && (!self.rule.query || self.answered) && (!self.rule.ports || self.ports_seen);
        // One that stopped answering has to answer again, whatever else holds.
        let silent = self.failures > 0 && (self.answered || self.rule.query);
        if met && !self.ready && !silent {
            self.ready = true;
            return Some(Verdict::Ready);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness(log: bool, query: bool) -> Readiness {
        let rule = Rule { log, query, ports: !log && !query, within: Duration::from_secs(60) };
        Readiness::new(rule, false, Instant::now())
    }

    #[test]
    fn both_are_asked_for_where_both_are_named() {
        let mut both = readiness(true, true);
        assert_eq!(both.log_matched(), None);
        assert_eq!(both.query_failed(), None);
        assert_eq!(both.query_answered(), Some(Verdict::Ready));
        assert_eq!(both.query_answered(), None);
        assert_eq!((both.query_failed(), both.query_failed()), (None, None));
        assert_eq!(both.query_failed(), Some(Verdict::Unready));
        assert_eq!(both.query_failed(), None);
        assert_eq!(both.query_answered(), Some(Verdict::Ready));
    }

    #[test]
    fn a_game_that_never_answered_is_not_held_to_it() {
        let mut log = readiness(true, false);
        assert_eq!(log.log_matched(), Some(Verdict::Ready));
        for _ in 0..10 {
            assert_eq!(log.query_failed(), None);
        }
        assert!(log.is_ready());
    }

    #[test]
    fn a_failing_query_does_not_hide_the_log() {
        let mut log = readiness(true, false);
        assert_eq!(log.query_failed(), None);
        assert_eq!(log.log_matched(), Some(Verdict::Ready));
    }

    #[test]
    fn late_is_told_once_and_not_while_it_prints() {
        let mut slow = readiness(true, false);
        let begun = slow.moved;
        assert_eq!(slow.tick(begun + Duration::from_secs(59)), None);
        slow.printed(begun + Duration::from_secs(50));
        assert_eq!(slow.tick(begun + Duration::from_secs(100)), None);
        assert_eq!(slow.tick(begun + Duration::from_secs(110)), Some(Verdict::Late));
        assert_eq!(slow.tick(begun + Duration::from_secs(200)), None);
        assert_eq!(slow.log_matched(), Some(Verdict::Ready));
    }
}
