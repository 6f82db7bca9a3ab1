//! The folder that archives lie in: a name for a new one, what is there, and what may go.

use std::fs::{self, File, TryLockError};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use manman_common::ids::ServerId;
use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::archive::{self, Archive, Sink, Unsound};
use crate::create::sync_folder;
use crate::error::{BackupError, Result};
use crate::manifest::{Entry, Head, VERSION};

pub(crate) const ENDING: &str = ".tar.zst";
/// A half archive has a hidden name with this ending, and is locked by whoever makes it.
const HALF: &str = ".partial";
/// Archives of the same second.
const MAX_TWINS: u32 = 1000;

/// A new archive that has no name yet.
pub(crate) struct Place {
    folder: PathBuf,
    half: PathBuf,
    name: String,
    file: File,
    published: bool,
}

impl Place {
    /// The folder is made where it is missing; halves that a crash left in it are removed.
    pub(crate) fn make(folder: &Path, at: DateTime<Utc>) -> Result<Self> {
        fs::create_dir_all(folder).map_err(BackupError::io("make the folder", folder.display()))?;
        sweep(folder)?;
        let name = at.format("%Y-%m-%dT%H-%M-%SZ").to_string();
        for twin in 0..MAX_TWINS {
            let half = folder.join(format!(".{name}-{twin}{HALF}"));
            match File::options().read(true).write(true).create_new(true).mode(0o600).open(&half) {
                Ok(file) => {
                    file.lock().map_err(BackupError::io("lock", half.display()))?;
                    return Ok(Self { folder: folder.to_owned(), half, name, file, published: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(BackupError::io("make", half.display())(error)),
            }
        }
        Err(BackupError::io("make", folder.join(name).display())(io::ErrorKind::AlreadyExists.into()))
    }

    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(crate) fn shown(&self) -> String {
        self.half.display().to_string()
    }

    /// Gives it its name; no other archive loses its own by that.
    pub(crate) fn publish(mut self) -> Result<PathBuf> {
        for twin in 0..MAX_TWINS {
            let suffix = if twin == 0 { String::new() } else { format!("-{twin}") };
            let path = self.folder.join(format!("{}{suffix}{ENDING}", self.name));
            let renamed = match rustix::fs::renameat_with(CWD, &self.half, CWD, &path, RenameFlags::NOREPLACE) {
                // A file system that can not promise it; then it is looked for first.
                Err(Errno::INVAL | Errno::NOSYS) if !path.exists() => rustix::fs::rename(&self.half, &path),
                Err(Errno::INVAL | Errno::NOSYS) => Err(Errno::EXIST),
                other => other,
            };
            match renamed {
                Ok(()) => {
                    self.published = true;
                    sync_folder(&self.folder)?;
                    return Ok(path);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(BackupError::errno("give a name to", path.display())(errno)),
            }
        }
        Err(BackupError::io("give a name to", &self.name)(io::ErrorKind::AlreadyExists.into()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_file(&self.half)
        {
            tracing::warn!(%error, path = %self.half.display(), "a half backup could not be removed; the next one tries again");
        }
    }
}

/// Removes halves that nobody makes any more.
fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(BackupError::io("read the folder", folder.display()))? {
        let entry = entry.map_err(BackupError::io("read the folder", folder.display()))?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(HALF)) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => {
                fs::remove_file(&path).map_err(BackupError::io("remove the half backup", path.display()))?;
                tracing::info!(path = %path.display(), "a half backup, left by a crash, was removed");
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(BackupError::io("lock", path.display())(error)),
        }
    }
    Ok(())
}

/// A regular file, through no link: an archive lies where people and games may put other things.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = File::options().read(true).custom_flags(i32::try_from(flags).unwrap_or(0)).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")) }
}

/// An archive that lies in the folder.
#[derive(Debug)]
pub struct Listed {
    pub path: PathBuf,
    /// On the disk.
    pub size: u64,
    /// Its own word, or why it is none. Its data was not read: see [`verify`].
    pub head: Result<Head>,
}

/// The archives in a folder, newest first; a missing folder has none.
///
/// # Errors
/// If the folder can not be read. An archive that can not be is in the list, with the reason.
pub fn list(folder: &Path) -> Result<Vec<Listed>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(BackupError::io("read the folder", folder.display()))?,
    };
    let mut listed = Vec::new();
    for entry in entries {
        let path = entry.map_err(BackupError::io("read the folder", folder.display()))?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(ENDING) && !name.starts_with('.')) {
            let (size, head) = head(&path);
            listed.push(Listed { path, size, head });
        }
    }
    let key = |listed: &Listed| (listed.head.as_ref().ok().map(|head| head.made_at), listed.path.clone());
    listed.sort_by_key(|listed| std::cmp::Reverse(key(listed)));
    Ok(listed)
}

fn head(path: &Path) -> (u64, Result<Head>) {
    let read = || {
        let mut file = open(path).map_err(BackupError::io("open", path.display()))?;
        let size = file.metadata().map_err(BackupError::io("look at", path.display()))?.len();
        let head = archive::read_manifest(&mut file).and_then(|(_, json)| {
            serde_json::from_slice(&json).map_err(|error| Unsound::Damaged(format!("its manifest can not be read: {error}")))
        });
        Ok((size, head.map_err(|unsound| unsound.of(path))))
    };
    read().unwrap_or_else(|error| (0, Err(error)))
}

/// Takes all, keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _entry: &Entry) -> Result<()> {
        Ok(())
    }

    fn data(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, _entry: &Entry) -> Result<()> {
        Ok(())
    }
}

/// Reads all of an archive and says what is wrong with it, without writing anything.
///
/// # Errors
/// The first thing that is.
pub fn verify(path: &Path, cancel: &AtomicBool) -> Result<Head> {
    let file = open(path).map_err(BackupError::io("open", path.display()))?;
    verify_reader(io::BufReader::new(file), cancel).map_err(|unsound| unsound.of(path))
}

/// The same of bytes in memory: no bytes at all make it panic, read for ever or take more memory than
/// their manifest does.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_bytes(bytes: &[u8]) -> Result<Head> {
    verify_reader(io::Cursor::new(bytes), &AtomicBool::new(false)).map_err(|unsound| unsound.of(Path::new("(memory)")))
}

fn verify_reader(reader: impl io::Read + io::Seek, cancel: &AtomicBool) -> Result<Head, Unsound> {
    let (mut archive, _) = Archive::open(reader)?;
    archive.read(&mut Nowhere, &mut |_, _| !cancel.load(Ordering::Relaxed))?;
    debug_assert!(archive.manifest.head.version <= VERSION);
    Ok(archive.manifest.head)
}

/// Removes the oldest archives of a server but for `keep`, and says which. One that can not be read is
/// neither counted nor removed: it may be what somebody wants to rescue.
///
/// # Errors
/// If the folder can not be read, or one can not be removed.
pub fn prune(folder: &Path, server: ServerId, keep: NonZeroUsize) -> Result<Vec<PathBuf>> {
    let own = list(folder)?.into_iter().filter(|listed| listed.head.as_ref().is_ok_and(|head| head.server == server));
    let old: Vec<PathBuf> = own.skip(keep.get()).map(|listed| listed.path).collect();
    for path in &old {
        fs::remove_file(path).map_err(BackupError::io("remove", path.display()))?;
    }
    if !old.is_empty() {
        sync_folder(folder)?;
    }
    Ok(old)
}
