//! One `up` per data directory, and who it is.
//!
//! The lock is the kernel's: it goes with the process, however that ends. What is written in the file
//! names the holder for people and for `manman down`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manman_worker::identity::read_start_ticks;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Whoever only looks holds the lock for an instant; a start must not fail for that.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(20);

/// Longer than any holder we write.
const FILE_MAX: u64 = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// With the pid it names one process of this boot.
    pub(crate) start_ticks: u64,
    /// The id of the worker that runs with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worker: Option<String>,
}

impl Holder {
    /// Whether that process still is the one that wrote the file.
    pub(crate) fn is_alive(&self) -> bool {
        read_start_ticks(self.pid).is_ok_and(|ticks| ticks == self.start_ticks)
    }
}

#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("up.lock")
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Self, Failure> {
        let path = path(dir);
        let failed = |error: std::io::Error| Failure::new(format!("could not take the lock `{}`", path.display())).because(&error);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path).map_err(failed)?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file, path }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let who = read(&file).map_or_else(String::new, |holder| format!(" (pid {})", holder.pid));
        Err(Failure::new(format!("`manman up` is already running on `{}`{who}", dir.display()))
            .hint("`manman status` shows it, `manman down` stops it; another one wants its own --data DIR"))
    }

    pub(crate) fn write(&mut self, worker: Option<&str>) -> Result<(), Failure> {
        let failed =
            |error: &(dyn std::error::Error + 'static)| Failure::new(format!("could not write `{}`", self.path.display())).because(error);
        let pid = std::process::id();
        let start_ticks = read_start_ticks(pid).map_err(|error| failed(&error))?;
        let text = toml::to_string(&Holder { pid, start_ticks, worker: worker.map(str::to_owned) }).map_err(|error| failed(&error))?;
        let mut file = &self.file;
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(|error| failed(&error))
    }
}

/// Who runs on this directory; nobody where the lock is free, whatever the file says.
pub(crate) fn holder(dir: &Path) -> Option<Holder> {
    let file = File::open(path(dir)).ok()?;
    match file.try_lock_shared() {
        Ok(()) => None,
        Err(_) => read(&file),
    }
}

fn read(mut file: &File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(FILE_MAX).read_to_string(&mut text).ok()?;
    toml::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_it_says_who() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(holder(dir.path()), None);
        let mut lock = Lock::take(dir.path()).expect("it is free");
        lock.write(Some("attic")).expect("it is written");
        let found = holder(dir.path()).expect("it is held");
        assert_eq!((found.pid, found.worker.as_deref()), (std::process::id(), Some("attic")));
        assert!(found.is_alive());
        assert!(!Holder { start_ticks: found.start_ticks + 1, ..found }.is_alive());
        let refused = Lock::take(dir.path()).expect_err("it is taken");
        assert!(refused.message.contains(&std::process::id().to_string()), "{}", refused.message);
        drop(lock);
        assert_eq!(holder(dir.path()), None);
        Lock::take(dir.path()).expect("it is free again");
    }
}
