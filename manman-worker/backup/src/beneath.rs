//! Looking up paths beneath a directory's own descriptor, through no link and across no mount.
//!
//! The game owns what is below, and may have been told by a stranger to fill it with links; a name
//! that is swapped for a link in between changes nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::path::RelPath;

pub(crate) const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
/// Tries for a lookup that another process disturbed.
const TRIES: usize = 16;

/// Whether another file system, or a place that is mounted, may be entered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mounts {
    Enter,
    Refuse,
}

/// An empty path is the directory itself.
pub(crate) fn open(root: impl AsFd, path: &Path, flags: OFlags, mounts: Mounts) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if mounts == Mounts::Refuse {
        resolve |= ResolveFlags::NO_XDEV;
    }
    for _ in 0..TRIES {
        match fs::openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Linux before 5.6, and filters that do not know the call.
            Err(Errno::NOSYS) => return open_step_by_step(root, path, flags, mounts),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn open_step_by_step(root: impl AsFd, path: &Path, flags: OFlags, mounts: Mounts) -> Result<OwnedFd, Errno> {
    let mut dir = fs::openat(&root, ".", FOLDER, Mode::empty())?;
    let device = fs::fstat(&dir)?.st_dev;
    let mut names = path.iter().peekable();
    while let Some(name) = names.next() {
        let flags = if names.peek().is_some() { FOLDER } else { flags };
        dir = fs::openat(&dir, name, flags, Mode::empty())?;
        if mounts == Mounts::Refuse && fs::fstat(&dir)?.st_dev != device {
            return Err(Errno::XDEV);
        }
    }
    Ok(dir)
}

/// The folder that a path is in.
pub(crate) fn folder_of(root: impl AsFd, path: &RelPath, mounts: Mounts) -> Result<OwnedFd, Errno> {
    open(root, RelPath::new(path.split().0).as_path(), FOLDER, mounts)
}

/// What is there, itself and not where it leads; `None` where nothing is.
pub(crate) fn stat(root: impl AsFd, path: &RelPath) -> Result<Option<Stat>, Errno> {
    let folder = match folder_of(root, path, Mounts::Enter) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    match fs::statat(&folder, RelPath::new(path.split().1).as_path(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
