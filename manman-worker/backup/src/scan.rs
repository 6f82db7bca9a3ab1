//! What of a server's directory is to be kept, found without following a link.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use crate::beneath::{self, FOLDER, Mounts};
use crate::error::{BackupError, Result};
use crate::manifest::MAX_ENTRIES;
use crate::path::RelPath;
use crate::pattern::{Patterns, Reached, Step};

/// Something that a backup does not hold although a pattern matches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub path: RelPath,
    pub why: &'static str,
}

pub(crate) struct Scan {
    /// Files, folders and links of units, and the folders above them; a folder before what is in it.
    pub items: Vec<(RelPath, Stat)>,
    pub units: BTreeSet<RelPath>,
    pub skipped: Vec<Skipped>,
    /// There one moment, gone the next.
    pub vanished: Vec<RelPath>,
    /// Patterns that match nothing.
    pub unmatched: Vec<String>,
}

impl Scan {
    pub(crate) fn files(&self) -> impl Iterator<Item = &Stat> {
        self.items.iter().map(|(_, stat)| stat).filter(|stat| beneath::kind(stat) == FileType::RegularFile)
    }

    /// What the files fill, holes not counted.
    pub(crate) fn bytes(&self) -> u64 {
        self.files().map(data_of).sum()
    }
}

/// The data of a file, holes not counted.
pub(crate) fn data_of(stat: &Stat) -> u64 {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    size.min(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
}

/// Which folder is looked into next, and what for.
struct Work {
    path: RelPath,
    /// `None` is below a unit: all of it.
    reached: Option<Reached>,
}

/// What is to be kept below `root`. With `only_units` it is not looked into them.
pub(crate) fn scan(root: BorrowedFd<'_>, patterns: &Patterns, only_units: bool) -> Result<Scan> {
    let mut found: BTreeMap<RelPath, Stat> = BTreeMap::new();
    let mut above: BTreeMap<RelPath, Stat> = BTreeMap::new();
    let mut scan = Scan { items: Vec::new(), units: BTreeSet::new(), skipped: Vec::new(), vanished: Vec::new(), unmatched: Vec::new() };
    let mut matched = vec![false; patterns.len()];
    let mut work = vec![Work { path: RelPath::new(""), reached: Some(patterns.start()) }];
    while let Some(Work { path: folder, reached }) = work.pop() {
        let Some((dir, names)) = list(root, &folder, &mut scan)? else { continue };
        for name in names {
            let path = folder.join(&name);
            let step = reached.as_ref().map(|reached| patterns.step(reached, RelPath::new(name.clone()).as_path()));
            if matches!(step, Some(Step::Nothing)) {
                continue;
            }
            let stat = match fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => {
                    scan.vanished.push(path);
                    continue;
                }
                Err(errno) => return Err(BackupError::errno("look at", &path)(errno)),
            };
            let kind = beneath::kind(&stat);
            let reached = match step {
                Some(Step::Further(reached)) => {
                    match kind {
                        FileType::Directory => {
                            above.insert(path.clone(), stat);
                            work.push(Work { path, reached: Some(reached) });
                        }
                        FileType::Symlink => scan.skipped.push(Skipped { path, why: "a link, which is not followed" }),
                        _ => {}
                    }
                    continue;
                }
                Some(Step::Unit(by)) => {
                    for at in &by {
                        matched[*at] = true;
                    }
                    scan.units.insert(path.clone());
                    if kind == FileType::Symlink && by.iter().all(|at| patterns.wants_inside(*at)) {
                        scan.skipped
                            .push(Skipped { path: path.clone(), why: "kept as the link it is; what it leads to is not in the backup" });
                    }
                    None
                }
                Some(Step::Nothing) | None => None,
            };
            match kind {
                FileType::Directory if !only_units => work.push(Work { path: path.clone(), reached }),
                FileType::Directory | FileType::RegularFile | FileType::Symlink => {}
                other => {
                    scan.skipped.push(Skipped { path, why: name_of(other) });
                    continue;
                }
            }
            if found.len() >= MAX_ENTRIES {
                return Err(BackupError::TooMany { limit: MAX_ENTRIES });
            }
            found.insert(path, stat);
        }
    }
    let mut needed = BTreeSet::new();
    for unit in &scan.units {
        let mut folder = unit.parent();
        while let Some(path) = folder {
            folder = path.parent();
            needed.insert(path);
        }
    }
    found.extend(above.into_iter().filter(|(path, _)| needed.contains(path)));
    scan.items = found.into_iter().collect();
    scan.unmatched = matched.iter().enumerate().filter(|(_, hit)| !**hit).map(|(at, _)| patterns.text(at).to_owned()).collect();
    Ok(scan)
}

/// The names in a folder; `None` where it is gone.
fn list(root: BorrowedFd<'_>, folder: &RelPath, scan: &mut Scan) -> Result<Option<(OwnedFd, Vec<Vec<u8>>)>> {
    let dir = match beneath::open(root, folder.as_path(), FOLDER, Mounts::Enter) {
        // Gone, or replaced by a file or a link, since its own folder was read.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !folder.as_bytes().is_empty() => {
            scan.vanished.push(folder.clone());
            return Ok(None);
        }
        other => other.map_err(BackupError::errno("open the folder", folder))?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir).map_err(BackupError::errno("read the folder", folder))? {
        let entry = entry.map_err(BackupError::errno("read the folder", folder))?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.to_vec()),
        }
        if names.len() > MAX_ENTRIES {
            return Err(BackupError::TooMany { limit: MAX_ENTRIES });
        }
    }
    Ok(Some((dir, names)))
}

const fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Socket => "a socket",
        FileType::Fifo => "a pipe",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown => "neither a file, a folder nor a link",
    }
}
