//! The pure rules of liveness, bound to this process' clock.

use std::time::{Duration, Instant};

use crate::clock;
use crate::config::Config;
use crate::domain::liveness::{Judgement, Liveness, Moment, Rules, Watched};
use crate::fleet::kill::KillPlan;

pub(crate) struct Watch {
    pub(crate) rules: Rules,
    pub(crate) server_unknown_after: Duration,
    pub(crate) kill_plan: KillPlan,
    origin: Instant,
    liveness: Liveness,
}

impl Watch {
    pub(crate) fn new(config: &Config) -> Self {
        let rules = Rules { unknown_after: config.unknown_after, kill_after: config.kill_after, settle: config.settle };
        Self {
            rules,
            server_unknown_after: config.server_unknown_after,
            kill_plan: KillPlan::default(),
            origin: clock::instant(),
            liveness: Liveness::new(rules, Moment::ZERO),
        }
    }

    /// A moment on the rules' own clock; what was before the host's start was at its start.
    pub(crate) fn moment(&self, at: Instant) -> Moment {
        at.saturating_duration_since(self.origin)
    }

    pub(crate) fn settling(&self) -> Duration {
        self.liveness.settling(self.moment(clock::instant()))
    }

    pub(crate) fn paused(&mut self) {
        self.liveness.paused(self.moment(clock::instant()));
    }

    pub(crate) fn judge(&mut self, workers: &[Watched]) -> Judgement {
        self.liveness.judge(self.moment(clock::instant()), workers)
    }

    /// As if the host had started long ago, with this time to settle.
    #[cfg(test)]
    pub(crate) fn long_running(&mut self, settle: Duration) {
        let now = clock::instant();
        self.origin = now.checked_sub(settle).expect("the machine has been up for longer");
        self.rules.settle = settle;
        self.liveness = Liveness::new(self.rules, Moment::ZERO);
    }
}
