//! Writes the configuration files of games, key by key.
//!
//! A definition says which keys must hold what (`server-port`, `[Rcon].Password`, `game.maxPlayers`);
//! all else in the file belongs to the game and to the person who runs it. So no format is parsed
//! into a tree and printed again: the one value is found, its bytes are replaced, and comments, order,
//! blanks, line ends and byte order mark stay as they were.
//!
//! The directory is the game's, so everything in it may be hostile: see [`place`] for how a write
//! never leaves it, and each of [`format`] for how a value never becomes more than a value.

mod error;
mod format;
mod place;
mod text;

use std::path::Path;

use manman_common::spec::FileSpec;

pub use self::error::{Cause, FilesError};
use self::place::Root;
use self::text::Text;

/// Greatest size of a configuration file, read or written: 64 MiB, as the panels have it whose
/// definitions people bring along.
pub const MAX_FILE: u64 = 64 * 1024 * 1024;

/// What was done to one file of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// As the definition has it, relative to the server's directory.
    pub path: String,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every key held its value already; nothing was written.
    Unchanged,
    Changed,
    Created,
    /// It is not there, and the definition leaves its making to the game.
    Absent,
}

/// Brings each file to what its entries ask, in the order of the list, below `root`.
///
/// A file is replaced whole or not at all; one that fails ends the list, and those before it stay
/// written. A file that is there keeps its owner and mode. A new one, and each new folder, is given
/// to `owner` as (user, group) and is then readable for that user alone; where `owner` is `None` the
/// game's user is not known, and everyone may read it who gets as far as the server's directory.
///
/// Blocks on the disk: call it where blocking is allowed.
///
/// # Errors
/// The first file, and where it is about one the first key, that could not be brought there.
pub fn write(root: &Path, files: &[FileSpec], owner: Option<(u32, u32)>) -> Result<Vec<Written>, FilesError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let root = Root::open(root, owner).map_err(|cause| FilesError::of_file(&root.display().to_string(), cause))?;
    files.iter().map(|file| Ok(Written { path: file.path.clone(), outcome: write_one(&root, file)? })).collect()
}

fn write_one(root: &Root, file: &FileSpec) -> Result<Outcome, FilesError> {
    let of_file = |cause| FilesError::of_file(&file.path, cause);
    let Some(place) = root.place(&file.path, file.create).map_err(of_file)? else { return Ok(Outcome::Absent) };
    let old = place.read().map_err(of_file)?;
    if old.is_none() && !file.create {
        return Ok(Outcome::Absent);
    }
    let bytes = old.as_deref().unwrap_or_default();
    let mut text = Text::decode(bytes, file.format).map_err(of_file)?;
    for entry in &file.set {
        format::set(&mut text.body, file.format, &file.path, entry).map_err(|cause| FilesError {
            path: file.path.clone(),
            key: Some(entry.key.clone()),
            cause,
        })?;
    }
    let new = text.encode().map_err(of_file)?;
    if old.is_some() && new == bytes {
        return Ok(Outcome::Unchanged);
    }
    if new.len() as u64 > MAX_FILE {
        return Err(of_file(Cause::TooLarge));
    }
    place.replace(&new).map_err(of_file)?;
    Ok(if old.is_some() { Outcome::Changed } else { Outcome::Created })
}

#[cfg(test)]
mod tests;
