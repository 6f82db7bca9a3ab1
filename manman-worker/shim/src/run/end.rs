//! How an instance ends: its process is reaped, what it left behind is waited for, all of it is recorded.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use manman_shim::files;
use manman_shim::journal::Event;
use manman_shim::proto::Notice;
use manman_shim::record::{Exit, Phase};
use manman_shim::rung::{Rung, Step, signal_name};
use manman_shim::{clock, exit_code};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus, wait};

use super::Shim;
use crate::cgroup;
use crate::setup::millis;

/// How often a cgroup is looked at that holds processes of nobody's.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// An exit record that can not be written is tried so often, a second apart.
const RECORD_TRIES: u32 = 600;

impl Shim {
    pub(super) fn reap(&mut self, now: Instant) {
        let mut ended = None;
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => ended = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => {
                    self.life.childless = false;
                    break;
                }
                Err(_) => {
                    self.life.childless = true;
                    break;
                }
            }
        }
        match ended {
            Some(status) => self.end(status, now),
            None => self.look(now),
        }
    }

    /// The game's own process has ended.
    fn end(&mut self, status: WaitStatus, now: Instant) {
        self.hear_gate();
        self.read_rest(now);
        let reason = self.life.reason.take();
        let (code, signal) = if reason.is_none() { (status.exit_status(), status.terminating_signal()) } else { (None, None) };
        let words = match (&reason, code, signal) {
            (Some(reason), _, _) => format!("could not be started: {reason}"),
            (None, Some(code), _) => format!("ended: exit code {code}"),
            (None, None, Some(number)) => {
                let name = Signal::from_named_raw(number).map_or_else(|| number.to_string(), signal_name);
                format!("ended: signal {name}")
            }
            (None, None, None) => "ended".to_owned(),
        };
        self.log.note(&format!("instance {} {words}", self.spec.instance));
        let oom_kills = cgroup::oom_kills(&self.spec.cgroups, self.first).map(|now| now.saturating_sub(self.oom_before.unwrap_or(0)));
        self.life.exit = Some(Exit {
            instance: self.spec.instance.clone(),
            code,
            signal,
            core: status.signaled() && status.as_raw() & 0x80 != 0,
            oom_kills,
            reason,
            started: Some(self.state.started.clone()),
            ended: clock::now(),
            ran_ms: millis(now.saturating_duration_since(self.begun)),
            boot_id: self.state.shim.boot_id.clone(),
            boottime_ms: millis(clock::boottime()),
            ..Exit::default()
        });
        let empty = self.is_empty();
        self.journal_exit(empty);
        if empty {
            self.record(now);
            return;
        }
        if !self.ladder.is_begun() {
            // A container ends with its first process; nobody would wait for what it left behind.
            let linger = if self.first { Some(Duration::ZERO) } else { self.spec.linger };
            self.life.linger_until = linger.map(|linger| now + linger);
            self.state.phase = Phase::Leftovers;
        } else if let Some((_, Rung { step: Step::Signal(signal), .. })) = self.ladder.rung() {
            // The process that the signal was for is gone, and it was a mere wrapper: what it has
            // left behind is the game, and gets the signal for what remains of the rung's time.
            let signal = *signal;
            self.signal(signal, true);
        }
        self.record(now);
        self.write_state();
        self.look(now);
    }

    /// Whether anything is left, and when to look again if only a look can tell.
    pub(super) fn look(&mut self, now: Instant) {
        let left = self.life.exit.is_some() && self.life.childless && !self.is_empty();
        self.life.look_again = left.then(|| now + LOOK_AGAIN);
    }

    fn is_empty(&self) -> bool {
        self.life.childless && self.spec.cgroups.iter().all(|leaf| cgroup::pids(leaf).is_empty())
    }

    /// Nothing lives any more and the record says so.
    pub(super) fn is_over(&mut self) -> bool {
        if self.life.exit.is_none() || !self.life.childless || !self.is_empty() {
            return false;
        }
        if self.life.exit.as_ref().is_some_and(|exit| !exit.tree_empty) {
            let now = clock::instant();
            self.read_rest(now);
            self.record(now);
            self.journal_exit(true);
        }
        self.life.recorded || self.life.tries > RECORD_TRIES
    }

    /// Writes the exit record as things are now.
    pub(super) fn record(&mut self, now: Instant) {
        let tree_empty = self.is_empty();
        let Some(exit) = &mut self.life.exit else { return };
        exit.tree_empty = tree_empty;
        exit.last_seq = self.log.last_seq();
        exit.lost_lines = self.log.lost_lines();
        exit.stop = self.life.asked;
        exit.rungs = self.life.rungs;
        exit.lease = self.life.lapsed;
        let text = exit.to_text();
        self.log.sync();
        let written = match self.reserve.take() {
            Some(reserve) => reserve.fill(files::EXIT, &text),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let written = written.or_else(|_| files::replace(Path::new("."), files::EXIT, &text, 0o600));
        self.life.recorded = written.is_ok();
        self.life.tries += u32::from(written.is_err());
        self.life.next_try = written.is_err().then(|| now + Duration::from_secs(1));
        if written.is_ok() {
            self.server.tell(&Notice::Exit(&text));
        }
    }

    pub(super) fn finish(mut self) -> ExitCode {
        self.server.last_words();
        // Nobody is refused by a missing socket that would have been told anything by this one.
        let _ = std::fs::remove_file(files::SOCKET);
        if let Some(held) = self.held.take() {
            // Written first: once it is let go, the next one's line may come at any moment.
            self.journal(&Event::Unlocked);
            drop(held);
        }
        let exit = self.life.exit.unwrap_or_default();
        if !self.life.recorded {
            eprintln!("manman-shim: the exit record could not be written");
            return ExitCode::from(exit_code::IO);
        }
        if !self.first {
            return ExitCode::from(if exit.reason.is_some() { exit_code::START } else { exit_code::ENDED });
        }
        // What the engine shows of its container is then what it would have shown without a shim.
        let like_game = exit.code.or(exit.signal.map(|signal| 128 + signal));
        ExitCode::from(like_game.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit_code::START))
    }

    fn journal_exit(&mut self, empty: bool) {
        let Some(exit) = &self.life.exit else { return };
        let oom = exit.oom_kills.is_some_and(|kills| kills > 0);
        let event = Event::Exit { code: exit.code, signal: exit.signal, oom, lease: self.life.lapsed, empty };
        self.journal(&event);
    }
}
