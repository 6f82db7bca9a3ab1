//! Which user a game runs as. As root, each server has one of its own, from a range that no
//! distribution gives out; it needs no entry in `/etc/passwd`.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use manman_common::ServerId;

/// Above what systemd gives to users, containers and dynamic services (to 65519 and from 524288 on).
const FIRST: u32 = 200_000;
const LAST: u32 = 265_000;
/// Where a game finds its directory.
const MOUNTS: &str = "/run/manman";

/// User and group; `None` is the worker's own.
pub(super) type Owner = Option<(u32, u32)>;

pub(super) struct Users {
    servers_dir: PathBuf,
    given: Mutex<HashMap<ServerId, u32>>,
    starting: Mutex<BTreeSet<PathBuf>>,
}

impl Users {
    pub(super) fn new(servers_dir: &Path) -> Self {
        Self { servers_dir: servers_dir.to_owned(), given: Mutex::default(), starting: Mutex::default() }
    }

    /// The server's user: the one that owns its data, or one that owns no other's. Blocks on the disk.
    pub(super) fn of(&self, server: ServerId) -> io::Result<Owner> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(uid) = given.get(&server) {
            return Ok(Some((*uid, *uid)));
        }
        let mut taken: BTreeSet<u32> = given.values().copied().collect();
        let mut own = None;
        for entry in std::fs::read_dir(&self.servers_dir)? {
            let entry = entry?;
            let Ok(data) = entry.path().join("data").symlink_metadata() else { continue };
            if !(FIRST..=LAST).contains(&data.uid()) {
                continue;
            }
            if entry.file_name().to_str() == Some(&server.to_string()) {
                own = Some(data.uid());
            }
            taken.insert(data.uid());
        }
        let uid = own.or_else(|| (FIRST..=LAST).find(|uid| !taken.contains(uid)));
        let uid = uid.ok_or_else(|| io::Error::other(format!("every user from {FIRST} to {LAST} has a server")))?;
        given.insert(server, uid);
        Ok(Some((uid, uid)))
    }

    pub(super) fn forget(&self, server: ServerId) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(&server);
    }

    /// Says that a run directory is being made, for as long as what is returned lives.
    pub(super) fn starting(&self, path: &Path) -> Starting<'_> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Starting { users: self, path: path.to_owned() }
    }

    pub(super) fn is_starting(&self, path: &Path) -> bool {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }
}

pub(super) struct Starting<'a> {
    users: &'a Users,
    path: PathBuf,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.users.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

/// An empty directory that everybody may pass through, over which the game sees its own. It lies on
/// a file system that a reboot clears.
pub(super) fn mount_point(server: ServerId) -> io::Result<PathBuf> {
    let target = Path::new(MOUNTS).join(server.to_string());
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&target)?;
    Ok(target)
}

pub(super) fn remove_mount_point(server: ServerId) -> io::Result<()> {
    match std::fs::remove_dir(Path::new(MOUNTS).join(server.to_string())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
