//! One SteamCMD at a time. The lock is a flock that SteamCMD inherits as its standard input, so it
//! holds for as long as any part of it lives, also when the worker that started it is gone.
//!
//! Who finds it taken asks who took it: a process that still lives is waited for; one that is gone
//! left its SteamCMD behind, which nobody reads any more. That one is ended (SteamCMD goes on where
//! it stopped) and the lock taken over.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manman_common::status::Progress;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::{Failure, SteamError};
use crate::record::{read_json, write_json};
use crate::{Report, SteamConfig};

/// Held until it is dropped and every process that inherited it has ended.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

/// A process, so that another one with its number is not mistaken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    boot_id: String,
    pid: i32,
    start_ticks: u64,
}

/// Between two looks at a lock that is taken.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Lock {
    /// Waits for it for as long as whoever has it lives; one left behind for as long as an install may stand still.
    pub(crate) async fn take(config: &SteamConfig, progress: Report<'_>) -> Result<Self, SteamError> {
        drop(crate::beneath::create_private(&config.root, &config.dir)?);
        let path = config.dir.join("lock");
        let mut left_since: Option<Instant> = None;
        let mut told = false;
        loop {
            if let Some(file) = try_lock(&path)? {
                let lock = Self { file, path };
                if let Some(owner) = Owner::this() {
                    write_json(&owner_path(&lock.path), &owner)?;
                }
                return Ok(lock);
            }
            let owner: Option<Owner> = read_json(&owner_path(&path))?;
            if owner.as_ref().is_some_and(Owner::is_alive) {
                left_since = None;
                if !told {
                    told = true;
                    progress(Progress { percent: None, step: "waiting for another install on this machine".to_owned() });
                }
            } else {
                let since = *left_since.get_or_insert_with(Instant::now);
                for pid in holders(&path) {
                    tracing::warn!(
                        process.pid = pid.as_raw_nonzero().get(),
                        "ending a SteamCMD that outlived its worker, to go on where it stopped"
                    );
                    end(pid, &path);
                }
                if since.elapsed() > config.inactive_after {
                    let what = format!("the lock {} is held by a process that could not be found or ended", path.display());
                    return Err(SteamError::new(Failure::Busy, what).hint("find it with `fuser` and end it, or restart the machine"));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The lock as a child's standard input. The file is empty, so reading it is an end at once.
    pub(crate) fn for_child(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }

    /// Ends what is left of a SteamCMD that has itself ended.
    pub(crate) fn end_leftovers(&self) {
        for pid in holders(&self.path) {
            end(pid, &self.path);
        }
    }
}

/// The lock of one base, against another command that changes or reads it at the same time.
#[derive(Debug)]
pub(crate) struct BaseLock {
    _file: File,
}

impl BaseLock {
    pub(crate) async fn take(path: &Path, progress: Report<'_>) -> Result<Self, SteamError> {
        let mut told = false;
        loop {
            if let Some(file) = try_lock(path)? {
                return Ok(Self { _file: file });
            }
            if !told {
                told = true;
                progress(Progress { percent: None, step: "waiting for another install of this game".to_owned() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn try_lock(path: &Path) -> Result<Option<File>, SteamError> {
    let what = || format!("the lock {} can not be taken", path.display());
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| SteamError::io(what(), error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(SteamError::io(what(), errno.into())),
    }
}

fn owner_path(lock: &Path) -> PathBuf {
    lock.with_extension("json")
}

impl Owner {
    fn this() -> Option<Self> {
        let pid = rustix::process::getpid();
        Some(Self { boot_id: boot_id()?, pid: pid.as_raw_nonzero().get(), start_ticks: start_ticks(pid)? })
    }

    fn is_alive(&self) -> bool {
        boot_id().is_some_and(|boot| boot == self.boot_id)
            && Pid::from_raw(self.pid).and_then(start_ticks).is_some_and(|ticks| ticks == self.start_ticks)
    }
}

fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// When a process was started, in ticks since the machine was; `None` where there is none, or a dead one.
fn start_ticks(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in brackets may hold anything, brackets included.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// The processes whose standard input is the lock.
fn holders(lock: &Path) -> Vec<Pid> {
    let Ok(lock) = fs::canonicalize(lock) else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .filter(|pid| *pid != rustix::process::getpid() && has_as_input(*pid, &lock))
        .collect()
}

fn has_as_input(pid: Pid, lock: &Path) -> bool {
    fs::read_link(format!("/proc/{}/fd/0", pid.as_raw_nonzero())).is_ok_and(|target| target == lock)
}

/// By pidfd: the process that is looked at after it was opened is the one that is signalled.
fn end(pid: Pid, lock: &Path) {
    let Ok(lock) = fs::canonicalize(lock) else { return };
    let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    if has_as_input(pid, &lock) {
        // It may just have ended by itself.
        let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
    }
}

#[cfg(test)]
mod tests;
