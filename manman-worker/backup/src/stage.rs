//! Writes what is in an archive into an empty folder.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::archive::Sink;
use crate::beneath::{self, FOLDER, Mounts};
use crate::error::{BackupError, Result};
use crate::manifest::{Entry, Kind, Time};
use crate::path::RelPath;
use crate::pattern::Patterns;

/// Whose the files become.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub user: Uid,
    pub group: Gid,
    /// Somebody said so, therefore it is a failure if it can not be done.
    pub asked: bool,
}

impl Owner {
    pub(crate) fn give(&self, chown: impl FnOnce(Option<Uid>, Option<Gid>) -> Result<(), Errno>) -> Result<(), Errno> {
        match chown(Some(self.user), Some(self.group)) {
            Err(Errno::PERM) if !self.asked => Ok(()),
            other => other,
        }
    }
}

pub(crate) struct Stage<'a> {
    tree: OwnedFd,
    owner: Owner,
    patterns: &'a Patterns,
    file: Option<Filling>,
    /// Modes and times are set last: a folder that may not be written would stop its own filling.
    dirs: Vec<(RelPath, u32, Time)>,
    /// The folder that was used last.
    near: Option<(RelPath, OwnedFd)>,
}

/// A file that gets its data.
struct Filling {
    file: File,
    /// Where data goes, last piece first.
    pieces: Vec<(u64, u64)>,
}

impl<'a> Stage<'a> {
    pub(crate) const fn new(tree: OwnedFd, owner: Owner, patterns: &'a Patterns) -> Self {
        Self { tree, owner, patterns, file: None, dirs: Vec::new(), near: None }
    }

    fn folder(&mut self, path: &RelPath) -> Result<&OwnedFd, Errno> {
        let folder = RelPath::new(path.split().0);
        let near = match self.near.take() {
            Some(near) if near.0 == folder => near,
            _ => {
                let dir = beneath::folder_of(&self.tree, path, Mounts::Refuse)?;
                (folder, dir)
            }
        };
        Ok(&self.near.insert(near).1)
    }

    fn make(&mut self, entry: &Entry) -> Result<(), Errno> {
        let owner = self.owner;
        let name = RelPath::new(entry.path.split().1);
        let name = name.as_path();
        match &entry.kind {
            Kind::Dir => {
                fs::mkdirat(self.folder(&entry.path)?, name, Mode::RWXU)?;
                self.dirs.push((entry.path.clone(), entry.mode, entry.mtime));
            }
            Kind::File(content) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = fs::openat(self.folder(&entry.path)?, name, flags, Mode::RUSR | Mode::WUSR)?;
                let mut pieces = content.pieces.clone().unwrap_or_else(|| vec![(0, content.size)]);
                if content.pieces.is_some() {
                    fs::ftruncate(&file, content.size)?;
                }
                pieces.reverse();
                self.file = Some(Filling { file: file.into(), pieces });
            }
            Kind::Symlink(target) => {
                let folder = self.folder(&entry.path)?;
                fs::symlinkat(target.as_path(), folder, name)?;
                owner.give(|user, group| fs::chownat(folder, name, user, group, AtFlags::SYMLINK_NOFOLLOW))?;
                fs::utimensat(folder, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Kind::HardLink(first) => {
                let first_folder = beneath::folder_of(&self.tree, first, Mounts::Refuse)?;
                let first_name = RelPath::new(first.split().1);
                fs::linkat(first_folder, first_name.as_path(), self.folder(&entry.path)?, name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Folders get their modes and times, and all is on the disk.
    pub(crate) fn finish(mut self) -> Result<OwnedFd> {
        let failed = |path: &RelPath| BackupError::errno("finish the folder", path);
        while let Some((path, mode, mtime)) = self.dirs.pop() {
            let dir = beneath::open(&self.tree, path.as_path(), FOLDER, Mounts::Refuse).map_err(failed(&path))?;
            self.owner.give(|user, group| fs::fchown(&dir, user, group)).map_err(failed(&path))?;
            // What is above a unit must let it go.
            let needed = if self.patterns.unit_of(&path).is_some() { 0 } else { 0o700 };
            fs::fchmod(&dir, Mode::from_raw_mode((mode & 0o3777) | needed)).map_err(failed(&path))?;
            fs::futimens(&dir, &times(mtime)).map_err(failed(&path))?;
        }
        fs::syncfs(self.tree.as_fd()).map_err(BackupError::errno("sync", "the restored files"))?;
        Ok(self.tree)
    }
}

impl Sink for Stage<'_> {
    fn begin(&mut self, entry: &Entry) -> Result<()> {
        self.make(entry).map_err(BackupError::errno("restore", &entry.path))
    }

    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Some(Filling { file, pieces }) = &mut self.file else { return Ok(()) };
        while let (Some((at, left)), false) = (pieces.last_mut(), bytes.is_empty()) {
            let length = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (now, later) = bytes.split_at(length);
            file.write_all_at(now, *at).map_err(BackupError::io("write", "a restored file"))?;
            *at += length as u64;
            *left -= length as u64;
            if *left == 0 {
                pieces.pop();
            }
            bytes = later;
        }
        Ok(())
    }

    fn end(&mut self, entry: &Entry) -> Result<()> {
        let Some(Filling { file, .. }) = self.file.take() else { return Ok(()) };
        self.owner
            .give(|user, group| fs::fchown(&file, user, group))
            // Nothing that is restored gains rights: no set-user-id, no set-group-id.
            .and_then(|()| fs::fchmod(&file, Mode::from_raw_mode(entry.mode & 0o777)))
            .and_then(|()| fs::futimens(&file, &times(entry.mtime)))
            .map_err(BackupError::errno("finish", &entry.path))
    }
}

fn times(Time(seconds, nanos): Time) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
