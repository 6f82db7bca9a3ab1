use std::io;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use manman_common::ids::ServerId;
use rustix::io::Errno;

/// Why a backup or a restore did not happen. Whatever it is, what the game saved is as it was, except
/// where [`BackupError::Unfinished`] says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("pattern `{pattern}` can not be used: {fault}")]
    Pattern { pattern: String, fault: String },
    #[error("none of the save patterns ({}) matches a file in `{}`", patterns.join(", "), root.display())]
    NothingMatches { patterns: Vec<String>, root: PathBuf },
    #[error("there are more than {limit} files and folders to keep")]
    TooMany { limit: usize },
    #[error("could not {doing} `{path}`")]
    Io { doing: &'static str, path: String, source: io::Error },
    #[error("`{}` has {free} bytes free, and {needed} are needed", place.display())]
    NoRoom { place: PathBuf, needed: u64, free: u64 },
    #[error("it was cancelled")]
    Cancelled,
    #[error("`{}` is no backup: {fault}", archive.display())]
    NotABackup { archive: PathBuf, fault: &'static str },
    #[error("`{}` was made by a newer manman (format {version})", archive.display())]
    Newer { archive: PathBuf, version: u32 },
    #[error("`{}` is damaged: {fault}", archive.display())]
    Damaged { archive: PathBuf, fault: String },
    #[error("`{}` is refused: `{path}` in it {fault}", archive.display())]
    Hostile { archive: PathBuf, path: String, fault: &'static str },
    #[error("`{}` is of server {found}, and not of {wanted}", archive.display())]
    OtherServer { archive: PathBuf, found: ServerId, wanted: ServerId },
    #[error("another restore of `{}` is under way", root.display())]
    Busy { root: PathBuf },
    #[error("`{path}` can not be restored over: {fault}")]
    InTheWay { path: String, fault: &'static str },
    #[error("the restore that began at {began} is half done; what was there before is in `{}`", place.display())]
    Unfinished { began: DateTime<Utc>, place: PathBuf, source: Box<BackupError> },
}

impl BackupError {
    pub(crate) fn io(doing: &'static str, path: impl ToString) -> Box<dyn FnOnce(io::Error) -> Self> {
        let path = path.to_string();
        Box::new(move |source| Self::Io { doing, path, source })
    }

    pub(crate) fn errno(doing: &'static str, path: impl ToString) -> Box<dyn FnOnce(Errno) -> Self> {
        let path = path.to_string();
        Box::new(move |errno| Self::Io { doing, path, source: errno.into() })
    }
}

pub type Result<T, E = BackupError> = std::result::Result<T, E>;
