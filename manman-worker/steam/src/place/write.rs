//! Puts files into a server's directory: by handle, never through a link, each by a rename.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::scan::{Item, Kind};
use crate::beneath::{DIRECTORY, is_link};
use crate::error::{Failure, SteamError};
use crate::record::Sign;

/// What a file is called until it is whole.
const LAYING: &str = ".manman-laying";

pub(super) struct Writer {
    target: OwnedFd,
    owner: Option<(Uid, Gid)>,
    shares: bool,
    reflinks: Option<bool>,
    /// The directory used last: files come sorted by theirs.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// What was not there before.
    made: Vec<(Vec<u8>, Kind)>,
}

impl Writer {
    pub(super) fn new(target: &OwnedFd, owner: Option<(u32, u32)>, shares: bool) -> Result<Self, SteamError> {
        let failed = |error: io::Error| SteamError::io("the server's directory can not be prepared", error);
        let owner = owner.map(|(user, group)| (Uid::from_raw(user), Gid::from_raw(group)));
        let writer = Self { target: target.try_clone().map_err(failed)?, owner, shares, reflinks: None, last: None, made: Vec::new() };
        writer.own(target).map_err(|errno| failed(errno.into()))?;
        Ok(writer)
    }

    fn own(&self, file: impl AsFd) -> Result<(), Errno> {
        match self.owner {
            Some((user, group)) => rustix::fs::fchown(file, Some(user), Some(group)),
            None => Ok(()),
        }
    }

    /// The server's file as it is; `None` where there is none.
    pub(super) fn sign(&mut self, path: &[u8]) -> Result<Option<Sign>, SteamError> {
        let Some((directory, name)) = self.parent(path, false)? else { return Ok(None) };
        match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Err(in_the_way(path)),
            Ok(stat) => Ok(Some(Sign::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(path, errno.into())),
        }
    }

    pub(super) fn directory(&mut self, path: &[u8]) -> Result<(), SteamError> {
        // As if a file were to be put into it.
        let mut inside = path.to_vec();
        inside.extend_from_slice(b"/x");
        self.parent(&inside, true).map(drop)
    }

    /// A link of the build itself, where it stays inside.
    pub(super) fn link(&mut self, base: &OwnedFd, item: &Item) -> Result<(), SteamError> {
        let bad = |errno: Errno| failed(&item.path, errno.into());
        let to = rustix::fs::readlinkat(base, item.path.as_slice(), Vec::new()).map_err(bad)?;
        if !stays_inside(&item.path, to.to_bytes()) {
            tracing::warn!(path = %item.name(), "a link of the build leads out of it and is left out");
            return Ok(());
        }
        let Some((directory, name)) = self.parent(&item.path, true)? else { return Ok(()) };
        match rustix::fs::readlinkat(&directory, name, Vec::new()) {
            Ok(now) if now == to => return Ok(()),
            Ok(_) | Err(Errno::NOENT) => {}
            // Something of the server's stands there.
            Err(Errno::INVAL) => return Ok(()),
            Err(errno) => return Err(bad(errno)),
        }
        clear(&directory).map_err(bad)?;
        rustix::fs::symlinkat(&to, &directory, LAYING).map_err(bad)?;
        rustix::fs::renameat(&directory, LAYING, &directory, name).map_err(bad)
    }

    /// Puts a file of the base, and says how it then lies there.
    pub(super) fn file(&mut self, base: &OwnedFd, item: &Item, shareable: bool) -> Result<Sign, SteamError> {
        let bad = |error: io::Error| failed(&item.path, error);
        let source = rustix::fs::openat(base, item.path.as_slice(), OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| bad(errno.into()))?;
        let is_shared = self.shares && shareable && self.reflinks != Some(true);
        let source = File::from(source);
        if is_shared {
            let share = |directory: &OwnedFd| -> Result<bool, Errno> {
                // Without write bits, and readable for whoever the game runs as.
                rustix::fs::fchmod(&source, Mode::from_raw_mode(item.mode & 0o555 | 0o444))?;
                match rustix::fs::linkat(base, item.path.as_slice(), directory, LAYING, AtFlags::empty()) {
                    Ok(()) => Ok(true),
                    // Another file system, too many links, or one without them.
                    Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
                    Err(errno) => Err(errno),
                }
            };
            if let Some(sign) = self.put(&item.path, share)? {
                return Ok(sign);
            }
        }
        self.copy(&source, &item.path, item.mode)
    }

    /// Puts a file that is none of the base's, unless one of its size is there.
    pub(super) fn outside_file(&mut self, source: &Path, path: &[u8]) -> Result<(), SteamError> {
        let file = File::open(source).map_err(|error| failed(path, error))?;
        let size = file.metadata().map_err(|error| failed(path, error))?.len();
        if self.sign(path)?.is_some_and(|sign| u64::try_from(sign.size) == Ok(size)) {
            return Ok(());
        }
        self.copy(&file, path, 0o755).map(drop)
    }

    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), SteamError> {
        let Some((directory, name)) = self.parent(path, false)? else { return Ok(()) };
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(path, errno.into())),
        }
    }

    /// Takes away what this placement put where nothing was.
    pub(super) fn undo(&mut self) {
        for (path, kind) in std::mem::take(&mut self.made).into_iter().rev() {
            let Ok(Some((directory, name))) = self.parent(&path, false) else { continue };
            let flags = if kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // A directory that is not empty holds something of the server's.
            let _ = rustix::fs::unlinkat(&directory, name, flags);
            self.last = None;
        }
    }

    /// Whether this file system gives two files the same blocks. Tried once, with a file of the base.
    pub(super) fn has_reflinks(&mut self, base: &OwnedFd, items: &[Item]) -> bool {
        let Some(item) = items.iter().find(|item| item.kind == Kind::File && item.sign.size > 0) else { return false };
        let tried = || -> Result<(), Errno> {
            let source =
                rustix::fs::openat(base, item.path.as_slice(), OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            clear(&self.target)?;
            let file = fresh(&self.target)?;
            let cloned = rustix::fs::ioctl_ficlone(&file, &source);
            clear(&self.target)?;
            cloned
        };
        let has = tried().is_ok();
        self.reflinks = Some(has);
        has
    }

    fn copy(&mut self, source: &File, path: &[u8], mode: u32) -> Result<Sign, SteamError> {
        let owner = self.owner;
        let reflinks = self.reflinks != Some(false);
        let copied = self.put(path, |directory| {
            let file = File::from(fresh(directory)?);
            if !(reflinks && rustix::fs::ioctl_ficlone(&file, source).is_ok()) {
                let mut from = source;
                io::copy(&mut from, &mut &file).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o755 | 0o644))?;
            if let Some((user, group)) = owner {
                rustix::fs::fchown(&file, Some(user), Some(group))?;
            }
            Ok(true)
        })?;
        copied.ok_or_else(|| failed(path, io::Error::other("it was not copied")))
    }

    /// Has `make` make the file under its passing name, then gives it its own.
    fn put(&mut self, path: &[u8], make: impl FnOnce(&OwnedFd) -> Result<bool, Errno>) -> Result<Option<Sign>, SteamError> {
        let bad = |errno: Errno| failed(path, errno.into());
        let Some((directory, name)) = self.parent(path, true)? else { return Ok(None) };
        clear(&directory).map_err(bad)?;
        let made = make(&directory);
        if !matches!(made, Ok(true)) {
            clear(&directory).map_err(bad)?;
        }
        if !made.map_err(bad)? {
            return Ok(None);
        }
        let is_new = matches!(rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
        match rustix::fs::renameat(&directory, LAYING, &directory, name) {
            Ok(()) => {}
            Err(errno) => {
                clear(&directory).map_err(bad)?;
                return Err(if matches!(errno, Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) { in_the_way(path) } else { bad(errno) });
            }
        }
        // Renaming one of two names of a file onto the other does nothing.
        clear(&directory).map_err(bad)?;
        if is_new {
            self.made.push((path.to_vec(), Kind::File));
        }
        rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Some(Sign::of(&stat))).map_err(bad)
    }

    /// The directory of a path and its last name; `None` where it is not there and not to be made.
    fn parent<'a>(&mut self, path: &'a [u8], make: bool) -> Result<Option<(OwnedFd, &'a OsStr)>, SteamError> {
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&[][..], path),
        };
        let copy = |directory: &OwnedFd| directory.try_clone().map_err(|error| failed(path, error));
        if let Some((last, directory)) = &self.last
            && last == above
        {
            return Ok(Some((copy(directory)?, OsStr::from_bytes(name))));
        }
        let mut at = copy(&self.target)?;
        let mut walked = Vec::with_capacity(above.len());
        for part in above.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            if !walked.is_empty() {
                walked.push(b'/');
            }
            walked.extend_from_slice(part);
            let part = OsStr::from_bytes(part);
            let next = match rustix::fs::openat(&at, part, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) if !make => return Ok(None),
                Err(Errno::NOENT) => self.make_directory(&at, part, &walked)?,
                Err(Errno::LOOP | Errno::NOTDIR) if is_link(at.as_fd(), part) => {
                    return Err(SteamError::new(Failure::Outside, format!("`{}` of the server is a link", walked.escape_ascii()))
                        .hint("the game's files are laid out through no link; put a directory there, or bind-mount one"));
                }
                Err(Errno::NOTDIR) => return Err(in_the_way(&walked)),
                opened => opened.map_err(|errno| failed(&walked, errno.into()))?,
            };
            at = next;
        }
        self.last = Some((above.to_vec(), copy(&at)?));
        Ok(Some((at, OsStr::from_bytes(name))))
    }

    fn make_directory(&mut self, at: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<OwnedFd, SteamError> {
        let make = || -> Result<OwnedFd, Errno> {
            rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755))?;
            let directory = rustix::fs::openat(at, name, DIRECTORY, Mode::empty())?;
            self.own(&directory)?;
            Ok(directory)
        };
        let directory = make().map_err(|errno| failed(path, errno.into()))?;
        self.made.push((path.to_vec(), Kind::Directory));
        Ok(directory)
    }
}

fn fresh(directory: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, LAYING, flags, Mode::from_raw_mode(0o600))
}

fn clear(directory: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, LAYING, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn failed(path: &[u8], error: io::Error) -> SteamError {
    SteamError::io(format!("`{}` of the server can not be laid out", path.escape_ascii()), error)
}

fn in_the_way(path: &[u8]) -> SteamError {
    SteamError::new(Failure::Io, format!("something else stands where the game has `{}`", path.escape_ascii()))
        .hint("move it away, then start the server again")
}

/// Whether a link's text, read from where the link lies, stays below the top.
fn stays_inside(link: &[u8], to: &[u8]) -> bool {
    if to.starts_with(b"/") || to.is_empty() {
        return false;
    }
    let mut depth = link.iter().filter(|byte| **byte == b'/').count();
    for part in to.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return false,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        for (link, to, expected) in [
            ("a", "b", true),
            ("a/b", "../c", true),
            ("a/b", "../../c", false),
            ("a", "../a", false),
            ("a", "/etc/passwd", false),
            ("a/b/c", "./../../x/../y", true),
            ("a", "b/../../c", false),
            ("a", "", false),
        ] {
            assert_eq!(stays_inside(link.as_bytes(), to.as_bytes()), expected, "{link} -> {to}");
        }
    }
}
