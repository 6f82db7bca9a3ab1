//! Who this worker is: its machine, its boot, its process, and its one data directory.
//!
//! A data directory serves one worker. A lock keeps a second process off the same directory; what
//! the lock can not see, a copy of the directory beside the original, is told by the process that
//! the directory's own record names: if that one is alive and its directory is another, this one
//! is a copy.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use manman_common::wire::ProcessIdentity;
use manman_common::{Name, RunId};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

const LOCK_FILE: &str = "worker.lock";

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the data directory {} can not be used", path.display())]
    DataDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("another worker runs on the data directory {}{}", path.display(), pid.map(|pid| format!(": pid {pid}")).unwrap_or_default())]
    Locked { path: PathBuf, pid: Option<u32> },
    #[error("this data directory is a copy of one in use by pid {pid}{}", path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default())]
    Copy { pid: u32, path: Option<PathBuf> },
    #[error("{} can not be read", path.display())]
    Proc {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl IdentityError {
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Locked { .. } => Some("stop that worker first, or give this one a directory of its own with --data DIR"),
            Self::Copy { .. } => Some("give each worker an empty directory of its own with --data DIR; it joins as a new one"),
            Self::DataDir { .. } => Some("name a directory that this user may write to with --data DIR"),
            Self::Proc { .. } => None,
        }
    }
}

/// The data directory, made if need be, and locked for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    home: String,
    // The kernel lets go of the lock when this is closed, however the process ends.
    _lock: File,
}

impl DataDir {
    /// Makes the directory (for its owner alone) and locks it.
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        let failed = |source| IdentityError::DataDir { path: path.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut text = String::new();
            let _ = lock.read_to_string(&mut text);
            return Err(IdentityError::Locked { path, pid: text.trim().parse().ok() });
        }
        // The directory may have been made by somebody else, with an open mode.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        // The pid is for the message of the next one that finds the lock taken.
        lock.set_len(0)
            .and_then(|()| lock.seek(SeekFrom::Start(0)).map(drop))
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed)?;
        let home = home_of(&path)?;
        Ok(Self { path, home, _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells this directory from any copy of it.
    #[must_use]
    pub fn home(&self) -> &str {
        &self.home
    }

    /// This process on this directory.
    pub fn this_process(&self, run_id: RunId) -> Result<ProcessIdentity, IdentityError> {
        let pid = std::process::id();
        Ok(ProcessIdentity { run_id, boot_id: boot_id()?, pid, start_ticks: read_start_ticks(pid)?, home: self.home.clone() })
    }
}

/// Refuses to go on where the process that `last` used this directory's database is alive in
/// another directory.
pub fn refuse_copy(this: &ProcessIdentity, last: &ProcessIdentity) -> Result<(), IdentityError> {
    let same_process = last.pid == this.pid && last.start_ticks == this.start_ticks;
    if last.home == this.home || same_process || last.boot_id != this.boot_id {
        return Ok(());
    }
    match read_start_ticks(last.pid) {
        Ok(ticks) if ticks == last.start_ticks => Err(IdentityError::Copy { pid: last.pid, path: directory_of(last.pid) }),
        // Gone, or another process of that number: the directory was moved, not copied.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The data directory that a running worker holds, as its open lock file tells.
fn directory_of(pid: u32) -> Option<PathBuf> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).find_map(|path| {
        let is_lock = path.file_name().is_some_and(|name| name == LOCK_FILE);
        is_lock.then(|| path.parent().map(Path::to_owned)).flatten()
    })
}

/// Whether a worker is at work on this directory, and as which process; nothing is changed.
pub fn locked_by(path: &Path) -> Option<u32> {
    let mut lock = File::open(path.join(LOCK_FILE)).ok()?;
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The machine's host name, made fit to be a worker's.
#[must_use]
pub fn machine_name() -> Name {
    let uname = rustix::system::uname();
    fit_name(&uname.nodename().to_string_lossy())
}

/// The first label of a host name, with what a name can not have left out.
fn fit_name(hostname: &str) -> Name {
    let label = hostname.split('.').next().unwrap_or_default();
    let kept: String = label.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' }).collect();
    let kept = kept.trim_matches('-').trim_start_matches('_');
    let kept = &kept[..kept.len().min(manman_common::name::NAME_MAX)];
    kept.parse().unwrap_or_else(|_| "worker".parse().expect("it is a name"))
}

pub fn boot_id() -> Result<String, IdentityError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(|source| IdentityError::Proc { path: path.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

/// Field 22 of `/proc/PID/stat`: when the process began, in ticks since the boot.
pub fn read_start_ticks(pid: u32) -> Result<u64, IdentityError> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let failed = |source| IdentityError::Proc { path: path.clone(), source };
    let stat = std::fs::read_to_string(&path).map_err(failed)?;
    start_ticks(&stat).ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))
}

fn start_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name, and may hold spaces and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// A hash of machine, path, device and inode. A copy differs in path or inode, a clone of the
/// machine in its machine id; a mere restart in none of them.
fn home_of(path: &Path) -> Result<String, IdentityError> {
    let meta = std::fs::metadata(path).map_err(|source| IdentityError::DataDir { path: path.to_owned(), source })?;
    // A machine without an id is told by the rest alone.
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(machine.trim());
    hash.update([0]);
    hash.update(path.as_os_str().as_encoded_bytes());
    hash.update([0]);
    hash.update(meta.dev().to_be_bytes());
    hash.update(meta.ino().to_be_bytes());
    Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
