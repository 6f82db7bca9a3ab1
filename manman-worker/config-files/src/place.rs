//! Where a file lies, and how it is read and replaced without ever leaving the server's directory.
//!
//! The game owns the directory, and may have been told by a stranger to fill it with links. So each
//! path is opened by the kernel beneath the directory's own descriptor, and from then on only the
//! folder's descriptor counts: a name that is swapped for a link in between changes nothing.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

use crate::{Cause, MAX_FILE};

/// Beside the file, so that the rename stays within one file system. One name for all, taken away
/// before it is made, so that a crash leaves at most one behind in a folder.
const NEW: &str = ".manman-new";
/// Tries for a lookup that another process disturbed.
const TRIES: usize = 16;
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(crate) struct Root {
    dir: OwnedFd,
    owner: Option<(Uid, Gid)>,
}

/// One file's folder and name.
pub(crate) struct Place {
    dir: OwnedFd,
    name: PathBuf,
    owner: Option<(Uid, Gid)>,
}

impl Root {
    /// The path down to it is the worker's own, so links in it are followed.
    pub(crate) fn open(path: &Path, owner: Option<(u32, u32)>) -> Result<Self, Cause> {
        let dir = fs::open(path, FOLDER, Mode::empty()).map_err(Cause::io("open the server's directory"))?;
        Ok(Self { dir, owner: owner.map(|(user, group)| (Uid::from_raw(user), Gid::from_raw(group))) })
    }

    /// `None` where a folder on the way is absent and not to be made.
    pub(crate) fn place(&self, path: &str, create: bool) -> Result<Option<Place>, Cause> {
        let mut names = names(path)?;
        let name = PathBuf::from(names.pop().ok_or(Cause::Path)?);
        let mut dir = fs::openat(&self.dir, ".", FOLDER, Mode::empty()).map_err(Cause::io("open the server's directory"))?;
        let mut way = PathBuf::new();
        for folder in names {
            way.push(folder);
            dir = match open_beneath(self.dir.as_fd(), &way) {
                Err(Errno::NOENT) if create => self.make_folder(&dir, folder, &way)?,
                Err(Errno::NOENT) => return Ok(None),
                other => other.map_err(opening)?,
            };
        }
        Ok(Some(Place { dir, name, owner: self.owner }))
    }

    fn make_folder(&self, parent: &OwnedFd, name: &str, way: &Path) -> Result<OwnedFd, Cause> {
        let made = match fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            // Made by another in between, or a link to nowhere: the lookup below tells.
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(Cause::Io { doing: "make a folder", errno }),
        };
        let folder =
            open_beneath(self.dir.as_fd(), way).map_err(|errno| if errno == Errno::NOENT { Cause::Link } else { opening(errno) })?;
        if let (true, Some((user, group))) = (made, self.owner) {
            fs::chownat(&folder, "", Some(user), Some(group), AtFlags::EMPTY_PATH)
                .map_err(Cause::io("give a folder to the game's user"))?;
        }
        Ok(folder)
    }
}

fn names(path: &str) -> Result<Vec<&str>, Cause> {
    if path.contains('\0') || path.ends_with('/') {
        return Err(Cause::Path);
    }
    let mut names = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or(Cause::Path)?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(Cause::Path),
        }
    }
    Ok(names)
}

fn opening(errno: Errno) -> Cause {
    match errno {
        // Beneath the directory only these say that a link wanted to lead elsewhere.
        Errno::XDEV | Errno::LOOP => Cause::Link,
        Errno::NOTDIR => Cause::NotAFile,
        Errno::NAMETOOLONG => Cause::Path,
        errno => Cause::Io { doing: "open its folder", errno },
    }
}

/// Links that stay beneath `root` are followed: games and people make such.
fn open_beneath(root: BorrowedFd<'_>, way: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match fs::openat2(root, way, FOLDER, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Linux before 5.6, and filters that do not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return open_step_by_step(root, way),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Stricter than the kernel's own way: no link at all.
fn open_step_by_step(root: BorrowedFd<'_>, way: &Path) -> Result<OwnedFd, Errno> {
    let mut dir = fs::openat(root, ".", FOLDER, Mode::empty())?;
    for name in way {
        dir = match fs::openat(&dir, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOTDIR) if is_link(&dir, Path::new(name)) => return Err(Errno::LOOP),
            other => other?,
        };
    }
    Ok(dir)
}

fn is_link(dir: &OwnedFd, name: &Path) -> bool {
    fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

impl Place {
    /// The file's bytes; `None` where there is none.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>, Cause> {
        // Looked at before it is opened: opening a device does something.
        if self.stat()?.is_none() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match fs::openat(&self.dir, &self.name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(Cause::Link),
            other => other.map_err(Cause::io("open it"))?,
        };
        regular(&fs::fstat(&file).map_err(Cause::io("look at it"))?)?;
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(std_io("read it"))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(Cause::TooLarge);
        }
        Ok(Some(bytes))
    }

    fn stat(&self) -> Result<Option<Stat>, Cause> {
        match fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => regular(&stat).map(|()| Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NAMETOOLONG) => Err(Cause::Path),
            Err(errno) => Err(Cause::Io { doing: "look at it", errno }),
        }
    }

    /// The new file takes the old one's place in one step, with its owner and mode; until then, and
    /// after any failure, the old one is whole. A hard link to a shared install is cut by it, as it
    /// must be.
    pub(crate) fn replace(&self, bytes: &[u8]) -> Result<(), Cause> {
        let old = self.stat()?;
        // For reaching its entry, the folder's descriptor must be a real one to be synced.
        let folder = fs::openat(&self.dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Cause::io("open its folder"))?;
        let result = self
            .write_new(bytes, old.as_ref())
            .and_then(|()| fs::renameat(&self.dir, NEW, &self.dir, &self.name).map_err(Cause::io("put the new file in its place")));
        if let Err(cause) = result {
            match fs::unlinkat(&self.dir, NEW, AtFlags::empty()) {
                // Whatever could not be cleaned up is, by the next write here.
                Ok(()) | Err(_) => return Err(cause),
            }
        }
        fs::fsync(&folder).map_err(Cause::io("sync its folder"))
    }

    fn write_new(&self, bytes: &[u8], old: Option<&Stat>) -> Result<(), Cause> {
        match fs::unlinkat(&self.dir, NEW, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Cause::Io { doing: "clear the way for a new file", errno }),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.dir, NEW, flags, Mode::from_raw_mode(0o600)).map_err(Cause::io("make a new file"))?;
        match (old, self.owner) {
            (Some(old), _) => keep_owner(&file, old)?,
            (None, Some((user, group))) => {
                fs::fchown(&file, Some(user), Some(group)).map_err(Cause::io("give it to the game's user"))?;
            }
            (None, None) => {}
        }
        let mode = match (old, self.owner) {
            (Some(old), _) => old.st_mode & 0o777,
            (None, Some(_)) => 0o600,
            (None, None) => 0o644,
        };
        fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(Cause::io("set its mode"))?;
        let mut file = std::fs::File::from(file);
        file.write_all(bytes).map_err(std_io("write the new file"))?;
        file.sync_all().map_err(std_io("sync the new file"))
    }
}

/// A worker that is not root can not give files away. It keeps the group then, where it may, and the
/// file is its own: it could replace it, so the folder is its own, too.
fn keep_owner(file: &OwnedFd, old: &Stat) -> Result<(), Cause> {
    let (user, group) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
    match fs::fchown(file, Some(user), Some(group)) {
        Err(Errno::PERM) => match fs::fchown(file, None, Some(group)) {
            Ok(()) | Err(Errno::PERM) => Ok(()),
            Err(errno) => Err(errno),
        },
        other => other,
    }
    .map_err(Cause::io("keep its owner"))
}

fn regular(stat: &Stat) -> Result<(), Cause> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(Cause::Link),
        _ => Err(Cause::NotAFile),
    }
}

fn std_io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Cause {
    move |error| Cause::Io { doing, errno: Errno::from_io_error(&error).unwrap_or(Errno::IO) }
}

#[cfg(test)]
mod tests;
