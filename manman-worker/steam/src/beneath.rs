//! Directories below the data directory, entered name by name and never through a link: what a
//! game's user planted in its own directory leads nowhere.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Failure, SteamError};

pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that is there.
pub(crate) fn open(root: &Path, path: &Path) -> Result<OwnedFd, SteamError> {
    enter(root, path, false)
}

/// A directory, made where it is not there, with whatever is missing above it.
pub(crate) fn create(root: &Path, path: &Path) -> Result<OwnedFd, SteamError> {
    enter(root, path, true)
}

/// The same, and closed to other users: below it are logins.
pub(crate) fn create_private(root: &Path, path: &Path) -> Result<OwnedFd, SteamError> {
    let directory = create(root, path)?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o700))
        .map_err(|errno| SteamError::io(format!("the directory {} can not be closed to others", path.display()), errno.into()))?;
    Ok(directory)
}

fn enter(root: &Path, path: &Path, make: bool) -> Result<OwnedFd, SteamError> {
    let what = || format!("the directory {} can not be opened", path.display());
    let below = path.strip_prefix(root).map_err(|_| outside(path))?;
    // The root itself may be a link: that is the machine owner's choice.
    let mut at = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SteamError::io(what(), errno.into()))?;
    for component in below.components() {
        let Component::Normal(name) = component else { return Err(outside(path)) };
        at = step(at.as_fd(), name, make).map_err(|error| match link_error(at.as_fd(), name, &error) {
            true => outside(path),
            false => SteamError::io(what(), error),
        })?;
    }
    Ok(at)
}

fn outside(path: &Path) -> SteamError {
    SteamError::new(Failure::Outside, format!("{} leads out of the worker's data directory", path.display()))
        .hint("there must be no `..` and no link on the way; bind-mount a larger disk instead of linking to it")
}

fn link_error(at: BorrowedFd<'_>, name: &OsStr, error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::NOTDIR)) && is_link(at, name)
}

/// Whether a name is a symbolic link.
pub(crate) fn is_link(at: BorrowedFd<'_>, name: &OsStr) -> bool {
    rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Symlink)
}

/// One directory further down.
pub(crate) fn step(at: BorrowedFd<'_>, name: &OsStr, make: bool) -> io::Result<OwnedFd> {
    match rustix::fs::openat(at, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) if make => {
            match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            Ok(rustix::fs::openat(at, name, DIRECTORY, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

/// Whether a relative path is there, with no link on its way.
pub(crate) fn exists(at: BorrowedFd<'_>, path: &Path) -> bool {
    let Some(name) = path.file_name() else { return false };
    let stat_in = |directory: BorrowedFd<'_>| rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let mut entered: Option<OwnedFd> = None;
    for component in path.parent().into_iter().flat_map(Path::components) {
        let Component::Normal(name) = component else { return false };
        let here = entered.as_ref().map_or(at, AsFd::as_fd);
        match step(here, name, false) {
            Ok(next) => entered = Some(next),
            Err(_) => return false,
        }
    }
    stat_in(entered.as_ref().map_or(at, AsFd::as_fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_and_no_parent_leads_out() {
        let root = tempfile::tempdir().expect("a directory");
        let elsewhere = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("link")).expect("it is made");
        std::fs::write(root.path().join("file"), "").expect("it is written");
        for bad in ["link", "link/below", "../x", "a/../../x"] {
            let error = create(root.path(), &root.path().join(bad)).expect_err(bad);
            assert_eq!(error.failure, Failure::Outside, "{bad}: {error}");
        }
        assert_eq!(create(root.path(), Path::new("/etc")).expect_err("it is elsewhere").failure, Failure::Outside);
        assert_eq!(create(root.path(), &root.path().join("file/x")).expect_err("it is a file").failure, Failure::Io);
        assert!(std::fs::read_dir(elsewhere.path()).expect("it is read").next().is_none());
        let made = create(root.path(), &root.path().join("a/b")).expect("it is made");
        std::fs::write(root.path().join("a/b/c"), "").expect("it is written");
        assert!(exists(made.as_fd(), Path::new("c")));
        let top = open(root.path(), root.path()).expect("it is there");
        assert!(exists(top.as_fd(), Path::new("a/b/c")));
        assert!(!exists(top.as_fd(), Path::new("link/x")));
        assert!(open(root.path(), &root.path().join("none")).is_err());
    }
}
