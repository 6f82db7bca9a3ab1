//! Whether a game that was ready has gone silent: neither its query nor its console over the network
//! answers any more. Nothing here waits or asks.

use std::time::Duration;

use manman_common::spec::HangRule;
use tokio::time::Instant;

use super::query;
use super::watch::Probe;
use crate::console::{Fault, Target};
use crate::reconcile::signals::Watched;

/// Asked in vain so often, whatever the clock says: a worker that was stopped itself for an hour is
/// no proof of a game's silence.
const FAILURES: u32 = 3;

/// For a console to let us in.
const PING_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Silence {
    /// The last answer, or when it was ready, or when this watch began.
    since: Instant,
    failures: u32,
    was_ready: bool,
    told: bool,
}

impl Silence {
    pub(super) fn new(was_ready: bool, now: Instant) -> Self {
        Self { since: now, failures: 0, was_ready, told: false }
    }

    pub(super) fn ready(&mut self, now: Instant) {
        self.was_ready = true;
        self.since = now;
        self.failures = 0;
        // The loop takes it for an answer.
        self.told = false;
    }

    /// Whether it had been told to be silent.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        self.since = now;
        self.failures = 0;
        std::mem::take(&mut self.told)
    }

    /// A fault of this machine's is no silence of the game's.
    pub(super) fn could_not_look(&mut self, now: Instant) {
        self.since = now;
        self.failures = 0;
    }

    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Silent for half of its time: it is asked more often, so that one lost packet is no silence.
    pub(super) fn is_suspect(&self, rule: HangRule, now: Instant) -> bool {
        self.was_ready && now.duration_since(self.since) * 2 >= Duration::from_secs(u64::from(rule.silent_seconds))
    }

    /// The seconds of its silence, once they are too many.
    pub(super) fn verdict(&mut self, rule: HangRule, now: Instant) -> Option<u64> {
        let seconds = now.duration_since(self.since).as_secs();
        let hung = self.was_ready && self.failures >= FAILURES && seconds >= u64::from(rule.silent_seconds);
        self.told |= hung;
        hung.then_some(seconds)
    }

    pub(super) fn was_ready(&self) -> bool {
        self.was_ready
    }
}

/// What came of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    Felt,
    None,
    /// The fault was ours.
    NotLooked,
}

/// Knocks at a console over the network.
#[derive(Debug, Default)]
pub(super) struct Pinger {
    /// With a wrong password every knock counts against us: some games then lock everybody out.
    given_up: bool,
    nothing_to_ask_told: bool,
}

impl Pinger {
    /// `None` where there is no such console, or none that lets us in.
    pub(super) async fn ping(&mut self, probe: &Probe, watched: &Watched) -> Option<Pulse> {
        let run = &watched.spec.run;
        if self.given_up || !run.console.is_remote() || run.console_access.is_none() {
            return None;
        }
        let target = Target { spec: &watched.spec, instance: &watched.instance, driver: &*watched.driver };
        match probe.console.ping(&target, PING_WITHIN).await {
            Ok(()) => Some(Pulse::Felt),
            Err(error) if error.fault.is_about_password() => {
                self.given_up = true;
                let hint = "its hang rule has its query alone, if it has one";
                probe.condition("HangRule", error.to_string(), Some(hint.to_owned())).await;
                None
            }
            Err(error) => match error.fault {
                // Somebody speaks with it.
                Fault::Busy => Some(Pulse::NotLooked),
                fault if query::is_ours(&fault) => Some(Pulse::NotLooked),
                _ => Some(Pulse::None),
            },
        }
    }

    pub(super) async fn tell_nothing_to_ask(&mut self, probe: &Probe, has_query: bool) {
        if has_query || self.given_up || self.nothing_to_ask_told {
            return;
        }
        self.nothing_to_ask_told = true;
        let message = "its hang rule has nothing to ask: no query and no console over the network";
        probe.condition("HangRule", message.to_owned(), None).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: HangRule = HangRule { silent_seconds: 60 };

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn only_what_was_ready_can_hang() {
        let now = Instant::now();
        let mut silence = Silence::new(false, now);
        (0..10).for_each(|_| silence.failed());
        assert_eq!(silence.verdict(RULE, after(now, 600)), None);
        silence.ready(after(now, 600));
        (0..10).for_each(|_| silence.failed());
        assert!(!silence.is_suspect(RULE, after(now, 629)) && silence.is_suspect(RULE, after(now, 630)));
        assert_eq!(silence.verdict(RULE, after(now, 659)), None);
        assert_eq!(silence.verdict(RULE, after(now, 661)), Some(61));
        assert!(silence.answered(after(now, 662)), "it is told that it answers");
        assert!(!silence.answered(after(now, 663)), "once");
    }

    #[test]
    fn a_worker_that_slept_and_faults_of_the_machine_prove_nothing() {
        let now = Instant::now();
        let mut silence = Silence::new(true, now);
        silence.failed();
        assert_eq!(silence.verdict(RULE, after(now, 3600)), None);
        (0..5).for_each(|_| silence.failed());
        silence.could_not_look(after(now, 3600));
        assert_eq!(silence.verdict(RULE, after(now, 3601)), None);
        (0..5).for_each(|_| silence.failed());
        assert_eq!(silence.verdict(RULE, after(now, 3660)), Some(60));
    }
}
