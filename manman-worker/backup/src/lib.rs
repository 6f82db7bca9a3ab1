//! Keeps what a game saved as one archive, and puts it back whole or not at all.
//!
//! An archive is a tar file pressed by zstd, which any `tar` unpacks; its manifest says what is in it,
//! see `archive` for how it lies. [`create`] gives it a name only when it is whole and on the disk.
//! [`restore`] reads all of it into a folder beside the server's, and only when every byte was right it
//! swaps what is there for it, so that a crash, a full disk or a damaged archive leave what was there.
//! What was there is kept. [`recover`] ends a restore that was interrupted; call it before a server
//! is started, or its directory looked at.
//!
//! All of it blocks on the disk: call it where blocking is allowed. While a restore runs the game must
//! not; a backup may be made of a running game.

mod archive;
mod beneath;
mod clock;
mod create;
mod error;
mod failpoint;
mod header;
mod manifest;
mod path;
mod pattern;
mod restore;
mod room;
mod scan;
mod shelf;
mod stage;
mod swap;
mod writer;

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use manman_common::GameId;
use manman_common::ids::ServerId;

pub use self::create::create;
pub use self::error::{BackupError, Result};
pub use self::manifest::Head;
pub use self::path::RelPath;
pub use self::restore::restore;
pub use self::scan::Skipped;
pub use self::shelf::{Listed, list, prune, verify, verify_bytes};
pub use self::swap::{Recovered, recover};

#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The server's data directory.
    pub root: PathBuf,
    /// Globs relative to it, as in a definition's `data.save`.
    pub patterns: Vec<String>,
    /// The folder that the archive goes to; it is made where it is missing.
    pub into: PathBuf,
    pub server: ServerId,
    pub game: GameId,
    pub note: String,
}

#[derive(Clone, Debug)]
pub struct RestoreRequest {
    pub archive: PathBuf,
    /// The server's data directory; its folder must be writable and on the same file system.
    pub root: PathBuf,
    /// Whose archive it must be; `None` takes that of any server.
    pub server: Option<ServerId>,
    /// Who gets the files, as (user, group); `None` is whoever owns the data directory.
    pub owner: Option<(u32, u32)>,
}

/// How far it is; told often, so throttle it.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    pub path: &'a Path,
    pub entries: u64,
    pub of_entries: u64,
    pub bytes: u64,
    /// Of data; holes of sparse files do not count.
    pub of_bytes: u64,
}

/// What became an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub path: PathBuf,
    /// On the disk.
    pub size: u64,
    pub made_at: DateTime<Utc>,
    pub files: u64,
    /// Of data; holes of sparse files do not count.
    pub bytes: u64,
    /// What did not hold still while it was read.
    pub changed: Vec<Changed>,
    /// What is not in it: sockets, pipes, what links lead to.
    pub skipped: Vec<Skipped>,
    /// Patterns that matched nothing.
    pub unmatched: Vec<String>,
}

impl Summary {
    const fn new(made_at: DateTime<Utc>) -> Self {
        Self { path: PathBuf::new(), size: 0, made_at, files: 0, bytes: 0, changed: Vec::new(), skipped: Vec::new(), unmatched: Vec::new() }
    }
}

/// A file that was written or taken away while it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub path: RelPath,
    /// Whether the archive holds what was read last; if not, it was gone.
    pub kept: bool,
}

/// What was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub head: Head,
    /// What was there before: the same paths below this folder. `None` where nothing was.
    pub before: Option<PathBuf>,
    /// How many files, folders or links were put in place as a whole.
    pub units: u64,
    /// Was not in the archive, matches its patterns, and was therefore moved to `before`.
    pub taken_away: Vec<RelPath>,
}

#[cfg(test)]
mod tests;
