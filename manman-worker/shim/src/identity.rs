//! Which process is meant: boot, pid and start time together, since a pid alone is used again.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process of this or an earlier boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub boot_id: String,
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot.
    pub start_ticks: u64,
}

impl Identity {
    /// The process that has this pid now.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let pid = pid.as_raw_nonzero().get();
        let start_ticks = stat(pid)?.start_ticks;
        Ok(Self { boot_id: boot_id()?, pid, start_ticks })
    }

    /// A pidfd of this very process; `None` when it is gone, a zombie that nobody reaps included.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.pid > 0) else { return Ok(None) };
        if self.boot_id != boot_id()? {
            return Ok(None);
        }
        // The descriptor first: once it is held, the pid can not come to mean another process
        // between the look at its start time and the use of the descriptor.
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match stat(self.pid) {
            Ok(stat) if stat.start_ticks == self.start_ticks && stat.state != b'Z' => Ok(Some(pidfd)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The namespace in which this process counts pids, as text.
pub fn pid_namespace() -> io::Result<String> {
    Ok(std::fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned())
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub state: u8,
    pub parent: i32,
    pub start_ticks: u64,
}

pub fn stat(pid: i32) -> io::Result<Stat> {
    let text = std::fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as expected")))
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The second field is the program's name in brackets, and the name may hold any byte.
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let text = b"7 (a) b (c) S 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 2222 23";
        assert_eq!(parse_stat(text), Some(Stat { state: b'S', parent: 3, start_ticks: 2222 }));
        assert_eq!(parse_stat(b"7 (a"), None);
    }

    #[test]
    fn only_this_very_process_is_found() {
        let me = Identity::of(rustix::process::getpid()).expect("my own stat");
        assert!(me.open().expect("a look").is_some());
        assert!(Identity { start_ticks: me.start_ticks + 1, ..me.clone() }.open().expect("a look").is_none());
        assert!(Identity { boot_id: "another".to_owned(), ..me }.open().expect("a look").is_none());
    }
}
