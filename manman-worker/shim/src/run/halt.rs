//! How an instance is made to end: by the ladder, by SIGKILL, by its lease.

use std::time::Instant;

use manman_shim::clock;
use manman_shim::journal::Event;
use manman_shim::lease::{Due, Lease};
use manman_shim::proto::Notice;
use manman_shim::record::{Phase, StopAsked};
use manman_shim::rung::{Rung, Step, signal_name};
use rustix::process::{Signal, pidfd_send_signal};

use super::Shim;
use crate::timer::BootTimer;
use crate::tree;

/// So many processes are named in the journal; a fork bomb has more.
const NAMED_MAX: usize = 64;

impl Shim {
    /// Begins the ladder, unless it has been begun.
    pub(crate) fn stop(&mut self, ladder: Vec<Rung>, asked: StopAsked, now: Instant) {
        if !self.ladder.is_begun() {
            self.journal(&Event::Stop { asked: asked.as_str().to_owned() });
            self.climb(ladder, asked, now);
        }
    }

    fn climb(&mut self, ladder: Vec<Rung>, asked: StopAsked, now: Instant) {
        if !self.ladder.is_begun() {
            self.life.asked = if self.life.exit.is_none() { asked } else { self.life.asked };
            self.life.linger_until = None;
            self.ladder.begin(ladder, now);
            self.set_phase(Phase::Stopping);
        }
    }

    pub(crate) fn kill(&mut self, now: Instant) {
        if !self.ladder.is_killing() {
            self.journal(&Event::Stop { asked: StopAsked::Kill.as_str().to_owned() });
            self.life.asked = if self.life.exit.is_none() { StopAsked::Kill } else { self.life.asked };
            self.life.linger_until = None;
            self.ladder.kill(now);
            self.state.rung = None;
            self.set_phase(Phase::Stopping);
        }
    }

    pub(super) fn begin_rung(&mut self, index: usize, now: Instant) {
        let Some(Rung { step, .. }) = self.ladder.get(index).cloned() else { return };
        let text = self.ladder.get(index).map(ToString::to_string).unwrap_or_default();
        let step_name = match &step {
            // What is typed may be anything, and is in the log of whoever reads it.
            Step::Console(_) => "console".to_owned(),
            Step::Signal(signal) => format!("signal:{}", signal_name(*signal)),
            Step::SignalAll(signal) => format!("signal-all:{}", signal_name(*signal)),
        };
        self.journal(&Event::Rung { index, step: step_name });
        self.life.rungs = index + 1;
        self.state.rung = Some(index);
        // Written down and told before it is done: a game may end at once.
        self.set_phase(Phase::Stopping);
        self.server.tell(&Notice::Rung { index: u16::try_from(index).unwrap_or(u16::MAX), text: &text });
        match step {
            Step::Console(line) => {
                if !self.ours.stdin.line(&line) {
                    // Nobody reads there: to wait for the line's effect would be time lost.
                    self.ladder.skip(now);
                }
            }
            Step::Signal(signal) => self.wake_with(signal, false),
            Step::SignalAll(signal) => self.wake_with(signal, true),
        }
    }

    /// A signal that a stopped process must see, too.
    fn wake_with(&mut self, signal: Signal, all: bool) {
        self.signal(signal, all);
        if signal != Signal::STOP {
            self.signal(Signal::CONT, all);
        }
    }

    /// A signal to the game's process, or to its whole tree; to what it left behind once it is gone.
    pub(crate) fn signal(&mut self, signal: Signal, all: bool) {
        if all || self.life.exit.is_some() {
            for (pid, ticks) in tree::signal_all(&self.spec.cgroups, signal) {
                self.journal(&Event::Signal { number: signal.as_raw(), pid, ticks });
            }
        } else if pidfd_send_signal(&self.pidfd, signal).is_ok() {
            let child = &self.state.child;
            let event = Event::Signal { number: signal.as_raw(), pid: child.pid, ticks: child.start_ticks };
            self.journal(&event);
        }
        // A process that has just ended is as good as signalled; its end is about to be seen.
    }

    /// SIGKILL to everything, as often as the ladder says.
    pub(super) fn kill_all(&mut self) {
        if !std::mem::replace(&mut self.life.killing, true) {
            self.journal(&Event::Killing);
            for (pid, ticks) in tree::members(&self.spec.cgroups).into_iter().take(NAMED_MAX) {
                self.journal(&Event::Signal { number: Signal::KILL.as_raw(), pid, ticks });
            }
        }
        tree::kill(&self.spec.cgroups, self.life.exit.is_none().then_some(self.pid));
    }

    pub(super) fn stuck(&mut self) {
        self.state.stuck = tree::pids(&self.spec.cgroups);
        self.journal(&Event::Stuck { pids: self.state.stuck.iter().copied().take(NAMED_MAX).collect() });
        self.set_phase(Phase::Stuck);
    }

    /// Another word on how long it may run; why not, where that comes too late or can not be kept.
    pub(crate) fn lease(&mut self, lease: Option<Lease>) -> Result<(), &'static str> {
        let before = self.state.lease;
        if lease.is_some() && self.timer.is_none() {
            self.timer = Some(BootTimer::new().map_err(|_| "the kernel gives no timer for a lease")?);
        }
        if !self.course.set(lease) {
            return Err("its lease has run out, and it is being stopped");
        }
        self.state.lease = lease;
        if before.is_some() != lease.is_some() {
            let (until_ms, kill_ms) = Lease::millis(lease);
            self.journal(&Event::Lease { until_ms, kill_ms });
        }
        self.arm();
        if before != lease {
            self.write_state();
        }
        Ok(())
    }

    /// Does what the lease asks for by now. The clock is asked at each wake: a machine that slept has
    /// no timer of its own to tell of it.
    pub(super) fn keep_lease(&mut self, now: Instant) {
        if self.course.lease().is_none() {
            return;
        }
        let boottime = clock::boottime();
        let mut changed = false;
        while let Some(due) = self.course.due(boottime) {
            changed = true;
            let (until_ms, kill_ms) = Lease::millis(self.course.lease());
            self.journal(&Event::Lapsed { until_ms, kill_ms, kill: due == Due::Kill });
            // What a client had begun in time is its stop, unless it has to be cut short.
            let ours = self.life.exit.is_none() && (due == Due::Kill || !self.ladder.is_begun());
            self.life.lapsed |= ours;
            match due {
                Due::Ladder if !self.ladder.is_begun() => {
                    self.log.note(&format!("instance {} has run to the end of its lease and is stopped", self.spec.instance));
                    self.journal(&Event::Stop { asked: "lease".to_owned() });
                    self.climb(self.spec.ladder.clone(), StopAsked::Ladder, now);
                }
                Due::Ladder => {}
                Due::Kill => {
                    self.log.note(&format!("instance {} has outlived its lease and is killed", self.spec.instance));
                    self.kill(now);
                }
            }
        }
        if changed {
            self.arm();
        }
    }

    fn arm(&self) {
        if let Some(timer) = &self.timer {
            // Its arguments are sound, and nothing else can be wrong with it.
            let _ = timer.set(self.course.next());
        }
    }

    pub(super) fn journal(&mut self, event: &Event) {
        if let Some(journal) = &mut self.journal {
            journal.note(event);
        }
    }
}
