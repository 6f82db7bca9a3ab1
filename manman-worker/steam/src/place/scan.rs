//! What a base holds.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, FileType};

use crate::beneath;
use crate::class::{Class, Classes, SHARE_FROM};
use crate::error::{Failure, SteamError};
use crate::record::Sign;

/// The largest app seen has 300,000 files.
const ITEMS_MAX: usize = 2_000_000;
const DEPTH_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link,
}

#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Relative to the base.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) sign: Sign,
    pub(super) mode: u32,
}

impl Item {
    pub(super) fn name(&self) -> String {
        self.path.escape_ascii().to_string()
    }

    /// Whether it may be one file for all servers.
    pub(super) fn is_shareable(&self, classes: &Classes) -> bool {
        u64::try_from(self.sign.size).is_ok_and(|size| size >= SHARE_FROM) && classes.of_path(&self.path) == Class::Content
    }
}

/// The path of a name in a record.
pub(super) fn path_of(name: &str) -> Vec<u8> {
    let bytes = name.as_bytes();
    let mut path = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'\\').then(|| bytes.get(at + 1)).flatten();
        let (byte, width) = match escaped {
            Some(b'x') => {
                let hex = name.get(at + 2..at + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                (hex.unwrap_or(b'?'), 4)
            }
            Some(b't') => (b'\t', 2),
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(other) => (*other, 2),
            None => (*byte, 1),
        };
        path.push(byte);
        at += width;
    }
    path
}

/// Everything but what is Steam's own, a directory before what is in it.
pub(super) fn scan(base: &OwnedFd, app: u32) -> Result<Vec<Item>, SteamError> {
    let mut items = Vec::new();
    let manifest = format!("appmanifest_{app}.acf");
    enter(base.as_fd(), &[], &mut items, 0, manifest.as_bytes())?;
    Ok(items)
}

fn enter(directory: BorrowedFd<'_>, path: &[u8], items: &mut Vec<Item>, depth: usize, manifest: &[u8]) -> Result<(), SteamError> {
    let failed = |errno: rustix::io::Errno| SteamError::io(format!("`{}` of the base can not be read", path.escape_ascii()), errno.into());
    if depth > DEPTH_MAX {
        return Err(SteamError::new(Failure::Incomplete, format!("`{}` of the base is nested too deep", path.escape_ascii())));
    }
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        let is_steams = path == b"steamapps" && name != manifest;
        if name == b"." || name == b".." || is_steams {
            continue;
        }
        if items.len() >= ITEMS_MAX {
            return Err(SteamError::new(Failure::Incomplete, format!("the base has more than {ITEMS_MAX} files")));
        }
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Link,
            // A build holds no devices and no sockets.
            _ => continue,
        };
        let mut full = path.to_vec();
        if !full.is_empty() {
            full.push(b'/');
        }
        full.extend_from_slice(name);
        items.push(Item { path: full.clone(), kind, sign: Sign::of(&stat), mode: stat.st_mode & 0o777 });
        if kind == Kind::Directory {
            let inner = beneath::step(directory, OsStr::from_bytes(name), false)
                .map_err(|error| SteamError::io(format!("`{}` of the base can not be opened", full.escape_ascii()), error))?;
            enter(inner.as_fd(), &full, items, depth + 1, manifest)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_tells_its_path(path in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(path_of(&path.escape_ascii().to_string()), path);
        }

        #[test]
        fn no_name_breaks_it(name in "\\PC{0,40}|(\\\\|x|[0-9]){0,20}") {
            let _ = path_of(&name);
        }
    }
}
