//! What the shims of one server did, for whoever asks afterwards: a few lines for each life of an
//! instance, in a directory that outlives its run directory.
//!
//! ```text
//! DIR/current    lines are appended here, each by a single write
//! DIR/before     what was in it when it had grown to SEGMENT
//!
//! v=1 at=BOOTTIME_NS boot=BOOT_ID wall=RFC3339 server=S instance=I epoch=E shim=PID event=NAME KEY=VALUE…
//! ```
//!
//! Lines are in the order in which things happened; `at` is CLOCK_BOOTTIME and can be compared between
//! all directories of one boot. `epoch` is the number in the data lock (absent without one), `shim` the
//! writer's pid in its own pid namespace, 0 for a worker that writes in a dead shim's place. See
//! [`Event`] for the rest. Keys and events are only ever added; a reader passes over what it does not
//! know. A line that found no room is counted, and the next one says `lost=N`.
//!
//! What a power cut takes is gone: this is a record for people and tests, and nothing depends on it.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::clock;
use crate::identity::boot_id;

pub const CURRENT: &str = "current";
pub const BEFORE: &str = "before";
/// Some 1,500 lines, which is a hundred lives of an instance.
pub const SEGMENT: u64 = 256 * 1024;

/// Where a server's journal is, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalPlace {
    pub dir: PathBuf,
    pub server: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The world's lock is this shim's.
    Locked,
    /// No game was started, and a lock that was held is not: one of [`exit_code`](crate::exit_code).
    Refused { code: u8 },
    /// Its process is there and is about to become the game.
    Started { pid: i32, ticks: u64 },
    /// It has a lease where it had none, or none any more; a renewal is not written. Milliseconds
    /// since boot, 0 for none.
    Lease { until_ms: u64, kill_ms: u64 },
    /// The lease, as it was last renewed, has run out: the ladder begins, or all of it is killed.
    Lapsed { until_ms: u64, kill_ms: u64, kill: bool },
    /// A stop was asked for: `ladder`, `kill`, `signal` or `lease`.
    Stop { asked: String },
    /// A rung was begun: `console`, `signal:TERM`, `signal-all:TERM`.
    Rung { index: usize, step: String },
    /// A signal was sent to one process that was seen to be this instance's.
    Signal { number: i32, pid: i32, ticks: u64 },
    /// Everything of the instance is being killed, for the first time.
    Killing,
    /// These have outlived SIGKILL.
    Stuck { pids: Vec<i32> },
    /// The game's own process has ended. Where something of its tree lives on (not `empty`), a second
    /// line follows when that has ended, too.
    Exit { code: Option<i32>, signal: Option<i32>, oom: bool, lease: bool, empty: bool },
    /// The lock is let go; nothing of the instance lives.
    Unlocked,
    /// Of a later version.
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Since boot, sleep included.
    pub at: Duration,
    pub boot_id: String,
    /// RFC 3339, to be shown and never compared.
    pub wall: String,
    pub server: String,
    pub instance: String,
    pub epoch: Option<u64>,
    pub shim: i32,
    /// Lines that found no room before this one.
    pub lost: u64,
    pub event: Event,
}

/// A journal as it is read: torn lines are counted, not hidden.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    pub lines: Vec<Line>,
    pub torn: usize,
}

/// Reads a journal's directory; one that is not there is empty.
pub fn read(dir: &Path) -> io::Result<Journal> {
    let mut journal = Journal::default();
    for name in [BEFORE, CURRENT] {
        if let Some(content) = crate::files::read(&dir.join(name))? {
            let part = parse(&content);
            journal.lines.extend(part.lines);
            journal.torn += part.torn;
        }
    }
    Ok(journal)
}

#[must_use]
pub fn parse(content: &[u8]) -> Journal {
    let mut journal = Journal::default();
    for text in content.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
        match std::str::from_utf8(text).ok().and_then(parse_line) {
            Some(line) => journal.lines.push(line),
            None => journal.torn += 1,
        }
    }
    journal
}

fn parse_line(text: &str) -> Option<Line> {
    let get = |key: &str| text.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let number = |key: &str| get(key)?.parse::<u64>().ok();
    let pid = |key: &str| get(key)?.parse::<i32>().ok();
    let truth = |key: &str| get(key).map(|value| value == "1");
    let event = match get("event")? {
        "locked" => Event::Locked,
        "refused" => Event::Refused { code: get("code")?.parse().ok()? },
        "started" => Event::Started { pid: pid("pid")?, ticks: number("ticks")? },
        "lease" => Event::Lease { until_ms: number("until_ms")?, kill_ms: number("kill_ms")? },
        "lapsed" => Event::Lapsed { until_ms: number("until_ms")?, kill_ms: number("kill_ms")?, kill: truth("kill")? },
        "stop" => Event::Stop { asked: get("asked")?.to_owned() },
        "rung" => Event::Rung { index: get("index")?.parse().ok()?, step: get("step")?.to_owned() },
        "signal" => Event::Signal { number: pid("number")?, pid: pid("pid")?, ticks: number("ticks")? },
        "killing" => Event::Killing,
        "stuck" => Event::Stuck { pids: get("pids")?.split(',').map(|pid| pid.parse().ok()).collect::<Option<_>>()? },
        "exit" => {
            Event::Exit { code: pid("code"), signal: pid("signal"), oom: truth("oom")?, lease: truth("lease")?, empty: truth("empty")? }
        }
        "unlocked" => Event::Unlocked,
        other => Event::Other(other.to_owned()),
    };
    // A line is whole when it has its end.
    (text.starts_with("v=") && text.ends_with(" .")).then_some(())?;
    Some(Line {
        at: Duration::from_nanos(number("at")?),
        boot_id: get("boot")?.to_owned(),
        wall: get("wall")?.to_owned(),
        server: get("server")?.to_owned(),
        instance: get("instance")?.to_owned(),
        epoch: number("epoch"),
        shim: pid("shim")?,
        lost: number("lost").unwrap_or(0),
        event,
    })
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("locked"),
            Self::Refused { code } => write!(f, "refused code={code}"),
            Self::Started { pid, ticks } => write!(f, "started pid={pid} ticks={ticks}"),
            Self::Lease { until_ms, kill_ms } => write!(f, "lease until_ms={until_ms} kill_ms={kill_ms}"),
            Self::Lapsed { until_ms, kill_ms, kill } => {
                write!(f, "lapsed until_ms={until_ms} kill_ms={kill_ms} kill={}", u8::from(*kill))
            }
            Self::Stop { asked } => write!(f, "stop asked={asked}"),
            Self::Rung { index, step } => write!(f, "rung index={index} step={step}"),
            Self::Signal { number, pid, ticks } => write!(f, "signal number={number} pid={pid} ticks={ticks}"),
            Self::Killing => f.write_str("killing"),
            Self::Stuck { pids } => {
                f.write_str("stuck pids=")?;
                pids.iter().enumerate().try_for_each(|(index, pid)| write!(f, "{}{pid}", if index == 0 { "" } else { "," }))
            }
            Self::Exit { code, signal, oom, lease, empty } => {
                f.write_str("exit")?;
                code.map_or(Ok(()), |code| write!(f, " code={code}"))?;
                signal.map_or(Ok(()), |signal| write!(f, " signal={signal}"))?;
                write!(f, " oom={} lease={} empty={}", u8::from(*oom), u8::from(*lease), u8::from(*empty))
            }
            Self::Unlocked => f.write_str("unlocked"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// Appends lines. That it can not is never a reason to hold a game up.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    head: String,
    file: Option<File>,
    size: u64,
    /// What was written last has no end.
    torn: bool,
    lost: u64,
    line: String,
}

impl Writer {
    /// `shim` is 0 for a worker.
    #[must_use]
    pub fn open(place: &JournalPlace, instance: &str, epoch: Option<u64>, shim: i32) -> Self {
        let mut head = format!("boot={} server={} instance={instance}", boot_id().unwrap_or_default(), place.server);
        if let Some(epoch) = epoch {
            let _ = write!(head, " epoch={epoch}");
        }
        let _ = write!(head, " shim={shim}");
        Self { dir: place.dir.clone(), head, file: None, size: 0, torn: false, lost: 0, line: String::new() }
    }

    pub fn note(&mut self, event: &Event) {
        self.line.clear();
        if self.torn {
            self.line.push('\n');
        }
        let _ = write!(self.line, "v=1 at={} wall={} {}", clock::boottime().as_nanos(), clock::now(), self.head);
        if self.lost > 0 {
            let _ = write!(self.line, " lost={}", self.lost);
        }
        let _ = writeln!(self.line, " event={event} .");
        match self.append() {
            Ok(()) => (self.lost, self.torn) = (0, false),
            Err(_) => self.lost += 1,
        }
    }

    fn append(&mut self) -> io::Result<()> {
        if self.size >= SEGMENT {
            self.file = None;
            std::fs::rename(self.dir.join(CURRENT), self.dir.join(BEFORE))?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            empty => {
                std::fs::create_dir_all(&self.dir)?;
                // In a container the directory is the game's own user's, who may have laid a link there.
                let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
                let mut options = OpenOptions::new();
                let file = options.read(true).append(true).create(true).mode(0o640).custom_flags(flags).open(self.dir.join(CURRENT))?;
                let found = file.metadata()?;
                if !found.is_file() || found.nlink() > 1 {
                    return Err(io::Error::other("it is no file of ours"));
                }
                self.size = found.len();
                let mut last = *b"\n";
                if let Some(end) = self.size.checked_sub(1) {
                    file.read_exact_at(&mut last, end)?;
                }
                if last != *b"\n" && !self.torn {
                    // Its writer was cut off in the middle of a line.
                    self.line.insert(0, '\n');
                }
                empty.insert(file)
            }
        };
        // One write, so that lines of two writers never mix.
        let written = file.write(self.line.as_bytes())?;
        self.size += written as u64;
        if written < self.line.len() {
            self.torn = true;
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
