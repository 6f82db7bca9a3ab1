//! Decides when a silent worker counts as unknown and when the host may try to kill it, and when
//! the host had better doubt its own sight instead.
//!
//! It reads no clock: moments are durations since the host's start, on the host's monotonic clock
//! alone, so that no decision compares two machines' clocks. It never concludes anything about
//! games; a worker that is given up keeps them.

use std::time::Duration;

use manman_common::WorkerId;
use manman_common::lease::{Leases, Tick};

/// A moment: time since the host's start.
pub(crate) type Moment = Duration;

/// How many workers must fall silent together before the host suspects itself: with one or two,
/// "half of the fleet" is an ordinary power cut.
const SUSPICIOUS_COUNT: usize = 3;

/// Silences that begin within this time count as one event.
const TOGETHER: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Silence after which a worker is shown as unknown.
    pub(crate) unknown_after: Duration,
    /// Silence after which the host tries to kill it.
    pub(crate) kill_after: Duration,
    /// How long the host judges nobody once it doubts itself; zero turns the doubt off.
    pub(crate) settle: Duration,
}

/// A worker that ought to beat. Pending workers and those that said goodbye are not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) id: WorkerId,
    /// Never before the host's start: what it heard in an earlier life proves nothing.
    pub(crate) last_seen: Moment,
    /// Since when it has been unknown, if it is.
    pub(crate) unknown_since: Option<Moment>,
    /// Whether this silence has already led to a kill attempt.
    pub(crate) kill_begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Unknown(WorkerId),
    Kill(WorkerId),
}

/// Why the host began to doubt itself; one alert for each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) silent: usize,
    pub(crate) fleet: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) alert: Option<Alert>,
}

/// The host's trust in its own sight.
#[derive(Clone, Debug)]
pub(crate) struct Liveness {
    rules: Rules,
    /// Nobody is judged before this moment. A silence that began to count before it has been
    /// doubted once, and is not a reason to doubt again.
    settled_at: Moment,
    /// Who has been heard of within the limit, each with the moment from which its time runs.
    heard: Leases<WorkerId, (), Moment>,
}

impl Liveness {
    /// A host that has just started has heard of nobody yet.
    pub(crate) fn new(rules: Rules, now: Moment) -> Self {
        Self { rules, settled_at: now + rules.settle, heard: Leases::new(usize::MAX) }
    }

    /// The host itself stood still (stopped, or swapped out): beats may lie unread in its sockets.
    pub(crate) fn paused(&mut self, now: Moment) {
        // Even without doubt everybody gets the time for another beat.
        self.settled_at = self.settled_at.max(now + self.rules.settle.max(self.rules.unknown_after));
    }

    /// The time left in which nobody is judged.
    pub(crate) fn settling(&self, now: Moment) -> Duration {
        self.settled_at.saturating_sub(now)
    }

    pub(crate) fn judge(&mut self, now: Moment, workers: &[Watched]) -> Judgement {
        self.listen(now, workers);
        if now < self.settled_at {
            return Judgement::default();
        }
        if let Some(alert) = self.suspicion(now, workers) {
            self.settled_at = now + self.rules.settle;
            return Judgement { verdicts: Vec::new(), alert: Some(alert) };
        }
        Judgement { verdicts: workers.iter().filter_map(|worker| self.verdict(now, worker)).collect(), alert: None }
    }

    /// A beat renews a worker's lease from its own moment on, however late it is looked at.
    fn listen(&mut self, now: Moment, workers: &[Watched]) {
        for Watched { id, last_seen, .. } in workers {
            if self.heard.get(tick(now), id).is_none_or(|lease| lease.value != *last_seen) {
                let lease = ((), Some(self.rules.unknown_after), *last_seen);
                self.heard.restore(tick(*last_seen), *id, lease, self.rules.unknown_after);
            }
        }
        self.heard.expire(tick(now));
    }

    fn verdict(&self, now: Moment, worker: &Watched) -> Option<Verdict> {
        let silence = now.saturating_sub(worker.last_seen);
        match worker.unknown_since {
            None => self.heard.get(tick(now), &worker.id).is_none().then_some(Verdict::Unknown(worker.id)),
            // After a doubt both limits may have passed at once; people still get the same time
            // between the two as ever.
            Some(since) => {
                let notice = self.rules.kill_after.saturating_sub(self.rules.unknown_after);
                let due = !worker.kill_begun && silence >= self.rules.kill_after && now.saturating_sub(since) >= notice;
                due.then_some(Verdict::Kill(worker.id))
            }
        }
    }

    /// Whether at least half of the fleet fell silent within the last minute.
    fn suspicion(&self, now: Moment, workers: &[Watched]) -> Option<Alert> {
        if self.rules.settle.is_zero() {
            return None;
        }
        let window = now.saturating_sub(TOGETHER).max(self.settled_at);
        let fell_silent = |worker: &&Watched| {
            let moment = worker.last_seen + self.rules.unknown_after;
            window < moment && moment <= now
        };
        let long_silent = |worker: &&Watched| worker.last_seen + self.rules.unknown_after <= window;
        let silent = workers.iter().filter(fell_silent).count();
        let fleet = workers.len() - workers.iter().filter(long_silent).count();
        (silent >= SUSPICIOUS_COUNT && silent * 2 >= fleet).then_some(Alert { silent, fleet })
    }
}

fn tick(moment: Moment) -> Tick {
    Tick::default().plus(moment)
}

#[cfg(test)]
mod tests;
