//! What an archive says of itself: every path with its kind, size, mode, time and hash.
//!
//! It is read before the data is, and it alone decides which bytes the data may be: an archive can
//! hold no more, no less and nothing else than its manifest says. [`Manifest::check`] therefore is
//! where hostile archives end.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use manman_common::GameId;
use manman_common::ids::ServerId;
use serde::{Deserialize, Serialize};

use crate::path::{RelPath, hex};
use crate::pattern::Patterns;

pub(crate) const VERSION: u32 = 1;
/// Greatest number of entries: the largest saves of games (one file per piece of the map) have half of it.
pub(crate) const MAX_ENTRIES: usize = 1_000_000;
/// Greatest number of pieces that one sparse file is kept in.
pub(crate) const MAX_PIECES: usize = 65_536;
/// Greatest length of a note, in bytes.
pub(crate) const MAX_NOTE: usize = 4096;
/// Where a link leads, as the kernel has it.
const MAX_TARGET: usize = 4095;

/// What a person wants to know of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub version: u32,
    pub server: ServerId,
    pub game: GameId,
    pub made_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// As they were when it was made: they say what a restore replaces.
    pub patterns: Vec<String>,
    pub files: u64,
    /// Of data; holes of sparse files do not count.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    #[serde(flatten)]
    pub head: Head,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub path: RelPath,
    pub mode: u32,
    pub mtime: Time,
    pub kind: Kind,
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Time(pub i64, pub u32);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Dir,
    File(Content),
    /// Where it leads, byte for byte; never followed.
    Symlink(RelPath),
    /// Another name of a file that comes before it.
    HardLink(RelPath),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub size: u64,
    /// Of the data that is kept, so of the whole file, or of the pieces of a sparse one.
    pub sha256: Hash,
    /// Offset and length of each; `None` is the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Vec<(u64, u64)>>,
    /// It was being written each time it was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Hash(pub [u8; 32]);

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        hex::from(&text).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or("a hash that is not 64 hexadecimal digits")
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hex::to(&hash.0)
    }
}

impl Content {
    /// What of it is in the archive.
    pub(crate) fn kept(&self) -> u64 {
        self.pieces.as_ref().map_or(self.size, |pieces| pieces.iter().map(|(_, length)| length).sum())
    }
}

/// What is wrong, and with which path.
pub(crate) type Fault = (String, &'static str);

impl Manifest {
    /// Refuses all that a manifest of ours never holds. After it each path is below the directory, is
    /// there once, comes after its folder, which is a real one, and belongs to a unit of the patterns.
    pub(crate) fn check(&self) -> Result<Patterns, Fault> {
        let of_all = |fault: &'static str| ("the manifest".to_owned(), fault);
        if self.entries.len() > MAX_ENTRIES {
            return Err(of_all("lists more than a million entries"));
        }
        if self.head.note.len() > MAX_NOTE {
            return Err(of_all("has a note of more than 4096 bytes"));
        }
        let patterns = Patterns::parse(&self.head.patterns).map_err(|_| of_all("has patterns that lead out or can not be read"))?;
        let mut seen: HashMap<&RelPath, &Kind> = HashMap::with_capacity(self.entries.len());
        // Folders above units, which must lead to one.
        let mut above: HashMap<RelPath, bool> = HashMap::new();
        let (mut files, mut bytes) = (0_u64, 0_u64);
        for entry in &self.entries {
            let fault = |fault| (entry.path.to_string(), fault);
            if let Some(what) = entry.path.fault() {
                return Err(fault(what));
            }
            if entry.mode & !0o7777 != 0 || entry.mtime.1 >= 1_000_000_000 {
                return Err(fault("has an impossible mode or time"));
            }
            if let Some(parent) = entry.path.parent() {
                match seen.get(&parent) {
                    Some(Kind::Dir) => {}
                    Some(_) => return Err(fault("is below something that is no folder")),
                    None => return Err(fault("comes before its folder")),
                }
                if let Some(used) = above.get_mut(&parent) {
                    *used = true;
                }
            }
            match patterns.unit_of(&entry.path) {
                Some(_) => {}
                None if entry.kind == Kind::Dir => drop(above.insert(entry.path.clone(), false)),
                None => return Err(fault("matches none of its patterns")),
            }
            match &entry.kind {
                Kind::Dir => {}
                Kind::File(content) => {
                    content.check().map_err(fault)?;
                    files += 1;
                    bytes = bytes.checked_add(content.kept()).ok_or_else(|| fault("has an impossible size"))?;
                }
                Kind::Symlink(target) => {
                    let target = target.as_bytes();
                    if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                        return Err(fault("is a link that leads to no path"));
                    }
                }
                Kind::HardLink(target) => {
                    if !matches!(seen.get(target), Some(Kind::File(_))) {
                        return Err(fault("is a second name of no file that comes before it"));
                    }
                }
            }
            if seen.insert(&entry.path, &entry.kind).is_some() {
                return Err(fault("is there twice"));
            }
        }
        if let Some((path, _)) = above.iter().find(|(_, used)| !**used) {
            return Err((path.to_string(), "matches none of its patterns"));
        }
        if files != self.head.files || bytes != self.head.bytes {
            return Err(of_all("does not add up"));
        }
        Ok(patterns)
    }
}

impl Content {
    fn check(&self) -> Result<(), &'static str> {
        if i64::try_from(self.size).is_err() {
            return Err("has an impossible size");
        }
        let Some(pieces) = &self.pieces else { return Ok(()) };
        if pieces.len() > MAX_PIECES {
            return Err("is in too many pieces");
        }
        let mut end = 0_u64;
        for (offset, length) in pieces {
            let next = offset.checked_add(*length).filter(|_| *length > 0 && *offset >= end).ok_or("has pieces out of order")?;
            end = next;
        }
        if end > self.size { Err("has a piece beyond its end") } else { Ok(()) }
    }
}
