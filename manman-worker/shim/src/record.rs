//! What a shim writes down: who runs, and how it ended.
//!
//! Both are [`text`](crate::text); fields are only ever added, and a reader passes over those it
//! does not know, so that a new worker reads an old shim's files and the other way round.

use crate::identity::Identity;
use crate::lease::Lease;
use crate::text::{BadLine, fields, parsed, put, put_display, put_some};

/// `RUN_DIR/state`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub instance: String,
    pub nonce: String,
    pub epoch: Option<u64>,
    /// The namespace in which the pids are counted: another one than the worker's in a container.
    pub pid_namespace: String,
    pub shim: Identity,
    pub child: Identity,
    pub phase: Phase,
    /// RFC 3339.
    pub started: String,
    pub pty: bool,
    /// The rung being waited on, from 0, while stopping.
    pub rung: Option<usize>,
    /// Pids that SIGKILL has not ended, while stuck.
    pub stuck: Vec<i32>,
    /// As it was last renewed.
    pub lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The process is there and waits to become the game.
    #[default]
    Gated,
    Running,
    /// The ladder has been begun.
    Stopping,
    /// The game's process has ended; something that it started lives on.
    Leftovers,
    /// SIGKILL has been sent and something lives on all the same.
    Stuck,
}

impl Phase {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gated => "gated",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Leftovers => "leftovers",
            Self::Stuck => "stuck",
        }
    }

    fn from_text(text: &[u8]) -> Option<Self> {
        [Self::Gated, Self::Running, Self::Stopping, Self::Leftovers, Self::Stuck]
            .into_iter()
            .find(|phase| phase.as_str().as_bytes() == text)
    }
}

impl State {
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        put(&mut out, "instance", &self.instance);
        put(&mut out, "nonce", &self.nonce);
        put_some(&mut out, "epoch", self.epoch);
        put(&mut out, "boot_id", &self.shim.boot_id);
        put(&mut out, "pid_namespace", &self.pid_namespace);
        put_display(&mut out, "shim_pid", self.shim.pid);
        put_display(&mut out, "shim_ticks", self.shim.start_ticks);
        put_display(&mut out, "child_pid", self.child.pid);
        put_display(&mut out, "child_ticks", self.child.start_ticks);
        put(&mut out, "phase", self.phase.as_str());
        put(&mut out, "started", &self.started);
        put_display(&mut out, "pty", u8::from(self.pty));
        put_some(&mut out, "rung", self.rung);
        for pid in &self.stuck {
            put_display(&mut out, "stuck_pid", pid);
        }
        if self.lease.is_some() {
            let (until, kill_at) = Lease::millis(self.lease);
            put_display(&mut out, "lease_until_ms", until);
            put_display(&mut out, "lease_kill_ms", kill_at);
        }
        out
    }

    pub fn parse(content: &[u8]) -> Result<Self, BadLine> {
        let mut state = Self::default();
        let (mut until, mut kill_at) = (0, 0);
        for (index, field) in fields(content).enumerate() {
            let (key, value) = field?;
            let bad = BadLine(index + 1);
            match key {
                "instance" => state.instance = string(&value),
                "nonce" => state.nonce = string(&value),
                "epoch" => state.epoch = Some(parsed(&value).ok_or(bad)?),
                "boot_id" => {
                    state.shim.boot_id = string(&value);
                    state.child.boot_id = string(&value);
                }
                "pid_namespace" => state.pid_namespace = string(&value),
                "shim_pid" => state.shim.pid = parsed(&value).ok_or(bad)?,
                "shim_ticks" => state.shim.start_ticks = parsed(&value).ok_or(bad)?,
                "child_pid" => state.child.pid = parsed(&value).ok_or(bad)?,
                "child_ticks" => state.child.start_ticks = parsed(&value).ok_or(bad)?,
                "phase" => state.phase = Phase::from_text(&value).ok_or(bad)?,
                "started" => state.started = string(&value),
                "pty" => state.pty = *value == *b"1",
                "rung" => state.rung = Some(parsed(&value).ok_or(bad)?),
                "stuck_pid" => state.stuck.push(parsed(&value).ok_or(bad)?),
                "lease_until_ms" => until = parsed(&value).ok_or(bad)?,
                "lease_kill_ms" => kill_at = parsed(&value).ok_or(bad)?,
                _ => {}
            }
        }
        state.lease = Lease::from_millis(until, kill_at);
        Ok(state)
    }
}

/// `RUN_DIR/exit`. Written when the game's process ends, and once more, with `tree_empty`, when the
/// last of what it started has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    pub instance: String,
    /// Of the game's process; neither this nor `signal` when it could not be started.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub core: bool,
    /// Processes of its cgroup that the kernel killed for want of memory; `None` where nobody counts.
    pub oom_kills: Option<u64>,
    /// Why it was not started, in words: `exec /x: No such file or directory`.
    pub reason: Option<String>,
    /// With it, for a start that was refused before a process was made: one of
    /// [`exit_code`](crate::exit_code).
    pub refused: Option<u8>,
    /// RFC 3339, both.
    pub started: Option<String>,
    pub ended: String,
    pub ran_ms: u64,
    pub boot_id: String,
    /// Since boot, when it ended.
    pub boottime_ms: u64,
    /// Last line of the log, 0 for none.
    pub last_seq: u64,
    /// Lines that found no room on the disk up to the end.
    pub lost_lines: u64,
    pub stop: StopAsked,
    /// Rungs that had been begun.
    pub rungs: usize,
    /// Its lease ran out: that began the ladder, or cut it short.
    pub lease: bool,
    /// Nothing of the instance lives any more.
    pub tree_empty: bool,
}

/// Whether the end was asked for before it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopAsked {
    #[default]
    No,
    /// By a client.
    Ladder,
    /// By a client, without grace.
    Kill,
    /// By SIGTERM or SIGINT to the shim: the machine or the container goes down.
    Signal,
}

impl StopAsked {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Ladder => "ladder",
            Self::Kill => "kill",
            Self::Signal => "signal",
        }
    }

    fn from_text(text: &[u8]) -> Option<Self> {
        [Self::No, Self::Ladder, Self::Kill, Self::Signal].into_iter().find(|stop| stop.as_str().as_bytes() == text)
    }
}

/// In a container the file is the game's own, and its words go to the host in each beat and in events,
/// a hundred of which are one frame: each byte escaped, and said twice.
const REASON_MAX: usize = 1024;

impl Exit {
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        put(&mut out, "instance", &self.instance);
        put_some(&mut out, "code", self.code);
        put_some(&mut out, "signal", self.signal);
        put_display(&mut out, "core", u8::from(self.core));
        put_some(&mut out, "oom_kills", self.oom_kills);
        put_some(&mut out, "reason", self.reason.as_deref());
        put_some(&mut out, "refused", self.refused);
        put_some(&mut out, "started", self.started.as_deref());
        put(&mut out, "ended", &self.ended);
        put_display(&mut out, "ran_ms", self.ran_ms);
        put(&mut out, "boot_id", &self.boot_id);
        put_display(&mut out, "boottime_ms", self.boottime_ms);
        put_display(&mut out, "last_seq", self.last_seq);
        put_display(&mut out, "lost_lines", self.lost_lines);
        put(&mut out, "stop", self.stop.as_str());
        put_display(&mut out, "rungs", self.rungs);
        put_display(&mut out, "lease", u8::from(self.lease));
        put_display(&mut out, "tree_empty", u8::from(self.tree_empty));
        out
    }

    pub fn parse(content: &[u8]) -> Result<Self, BadLine> {
        let mut exit = Self::default();
        for (index, field) in fields(content).enumerate() {
            let (key, value) = field?;
            let bad = BadLine(index + 1);
            match key {
                "instance" => exit.instance = string(&value),
                "code" => exit.code = Some(parsed(&value).ok_or(bad)?),
                "signal" => exit.signal = Some(parsed(&value).ok_or(bad)?),
                "core" => exit.core = *value == *b"1",
                "oom_kills" => exit.oom_kills = Some(parsed(&value).ok_or(bad)?),
                "reason" => exit.reason = Some(string(&value[..value.len().min(REASON_MAX)])),
                "refused" => exit.refused = Some(parsed(&value).ok_or(bad)?),
                "started" => exit.started = Some(string(&value)),
                "ended" => exit.ended = string(&value),
                "ran_ms" => exit.ran_ms = parsed(&value).ok_or(bad)?,
                "boot_id" => exit.boot_id = string(&value),
                "boottime_ms" => exit.boottime_ms = parsed(&value).ok_or(bad)?,
                "last_seq" => exit.last_seq = parsed(&value).ok_or(bad)?,
                "lost_lines" => exit.lost_lines = parsed(&value).ok_or(bad)?,
                "stop" => exit.stop = StopAsked::from_text(&value).ok_or(bad)?,
                "rungs" => exit.rungs = parsed(&value).ok_or(bad)?,
                "lease" => exit.lease = *value == *b"1",
                "tree_empty" => exit.tree_empty = *value == *b"1",
                _ => {}
            }
        }
        Ok(exit)
    }
}

fn string(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_their_text_and_newer_fields() {
        let state = State {
            instance: "i".to_owned(),
            nonce: "n".to_owned(),
            epoch: Some(3),
            pid_namespace: "pid:[1]".to_owned(),
            shim: Identity { boot_id: "b".to_owned(), pid: 4, start_ticks: 5 },
            child: Identity { boot_id: "b".to_owned(), pid: 6, start_ticks: 7 },
            phase: Phase::Stuck,
            started: "t".to_owned(),
            pty: true,
            rung: Some(1),
            stuck: vec![8, 9],
            lease: Lease::from_millis(10, 11),
        };
        let mut content = state.to_text();
        put(&mut content, "of_a_later_version", "1");
        assert_eq!(State::parse(&content), Ok(state));

        let exit = Exit {
            instance: "i".to_owned(),
            code: Some(3),
            signal: None,
            core: true,
            oom_kills: Some(0),
            reason: Some("exec /x:\nno".to_owned()),
            refused: Some(76),
            started: None,
            ended: "t".to_owned(),
            ran_ms: 1,
            boot_id: "b".to_owned(),
            boottime_ms: 2,
            last_seq: 4,
            lost_lines: 5,
            stop: StopAsked::Signal,
            rungs: 2,
            lease: true,
            tree_empty: true,
        };
        let mut content = exit.to_text();
        put(&mut content, "of_a_later_version", "1");
        assert_eq!(Exit::parse(&content), Ok(exit));
    }

    #[test]
    fn records_of_the_first_version_are_read() {
        let state =
            State::parse(b"instance=i\nnonce=n\nepoch=7\nboot_id=b\nshim_pid=1\nshim_ticks=2\nchild_pid=3\nchild_ticks=4\nphase=running\n");
        assert_eq!(state.map(|state| (state.epoch, state.lease, state.phase)), Ok((Some(7), None, Phase::Running)));
        let exit = Exit::parse(b"instance=i\ncode=0\nstop=ladder\nrungs=1\ntree_empty=1\n");
        assert_eq!(exit.map(|exit| (exit.code, exit.lease, exit.refused)), Ok((Some(0), false, None)));
    }
}
