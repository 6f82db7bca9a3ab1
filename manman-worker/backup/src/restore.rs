//! Puts an archive back.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::archive::Archive;
use crate::beneath::{self, FOLDER, Mounts};
use crate::error::{BackupError, Result};
use crate::failpoint::reach;
use crate::manifest::{Entry, Manifest};
use crate::path::RelPath;
use crate::pattern::Patterns;
use crate::stage::{Owner, Stage};
use crate::swap::{Recovered, Side, Step};
use crate::{Progress, RestoreRequest, Restored, clock, room, scan, shelf};

/// What an entry takes beside its data.
const PER_ENTRY: u64 = 4096;

/// Puts back what an archive holds. All that its patterns match is then as it was when the archive was
/// made; what was there is kept beside the directory, and everything else is not touched.
///
/// Blocks on the disk. The game must not run.
///
/// # Errors
/// What was there is still there, except where the error is [`BackupError::Unfinished`].
pub fn restore(request: &RestoreRequest, mut progress: impl FnMut(Progress<'_>), cancel: &AtomicBool) -> Result<Restored> {
    let file = shelf::open(&request.archive).map_err(BackupError::io("open", request.archive.display()))?;
    let (mut archive, patterns) = Archive::open(BufReader::new(file)).map_err(|unsound| unsound.of(&request.archive))?;
    if let Some(wanted) = request.server.filter(|wanted| *wanted != archive.manifest.head.server) {
        return Err(BackupError::OtherServer { archive: request.archive.clone(), found: archive.manifest.head.server, wanted });
    }
    let root = &request.root;
    let Some(side) = Side::lock(root, true)? else {
        return Err(BackupError::io("find the server's directory", root.display())(Errno::NOENT.into()));
    };
    let side = match side.finish_earlier()? {
        // Ending it removed the folder, and the lock with it.
        Recovered::Nothing | Recovered::Finished { .. } | Recovered::RolledBack => {
            drop(side);
            Side::lock(root, true)?.ok_or_else(|| BackupError::io("find the server's directory", root.display())(Errno::NOENT.into()))?
        }
    };
    let staged = stage(request, &side, &mut archive, &patterns, &mut progress, cancel);
    let (steps, taken_away) = match staged {
        Ok(staged) => staged,
        Err(error) => {
            side.clear()?;
            return Err(error);
        }
    };
    let units = steps.iter().filter(|step| step.staged.is_some()).count() as u64;
    let began = clock::now();
    let journal = match side.begin(began, steps) {
        Ok(journal) => journal,
        Err(error) => {
            // With or without the journal nothing was moved yet.
            side.clear()?;
            return Err(error);
        }
    };
    let Recovered::Finished { before } = side.run(journal)? else {
        return Err(BackupError::InTheWay { path: root.display().to_string(), fault: "the swap went back by itself" });
    };
    Ok(Restored { head: archive.manifest.head, before, units, taken_away })
}

/// All that can fail without having touched anything: reading the archive, writing its files beside,
/// finding out what is to be swapped.
fn stage(
    request: &RestoreRequest,
    side: &Side,
    archive: &mut Archive<BufReader<std::fs::File>>,
    patterns: &Patterns,
    progress: &mut dyn FnMut(Progress<'_>),
    cancel: &AtomicBool,
) -> Result<(Vec<Step>, Vec<RelPath>)> {
    let (of_entries, of_bytes) = (archive.manifest.entries.len() as u64, archive.manifest.head.bytes);
    room::check(&side.parent, of_bytes + of_entries * PER_ENTRY)?;
    let tree = side.make("tree")?;
    let stat = fs::fstat(&side.root).map_err(BackupError::errno("look at the server's directory", &side.name))?;
    let here = fs::fstat(&tree).map_err(BackupError::errno("look at", side.path().display()))?;
    if stat.st_dev != here.st_dev {
        return Err(BackupError::InTheWay {
            path: request.root.display().to_string(),
            fault: "it is on another file system than its own folder",
        });
    }
    let (user, group) = request.owner.unwrap_or((stat.st_uid, stat.st_gid));
    let owner = Owner { user: Uid::from_raw(user), group: Gid::from_raw(group), asked: request.owner.is_some() };
    let mut files = Stage::new(tree, owner, patterns);
    let (mut entries, mut bytes) = (0, 0);
    let mut step = |entry: &Entry, more: u64| {
        entries += u64::from(more == 0);
        bytes += more;
        progress(Progress { path: entry.path.as_path(), entries, of_entries, bytes, of_bytes });
        reach("backup.restore.staging");
        !cancel.load(Ordering::Relaxed)
    };
    archive.read(&mut files, &mut step).map_err(|unsound| unsound.of(&request.archive))?;
    let tree = files.finish()?;
    reach("backup.restore.staged");
    let (steps, taken_away) = plan(side, &tree, &archive.manifest, patterns)?;
    let old = side.make("old")?;
    for step in &steps {
        make_folders(&old, &step.path, owner).map_err(BackupError::errno("make a folder for", &step.path))?;
    }
    fs::syncfs(old.as_fd()).map_err(BackupError::errno("sync", side.path().display()))?;
    Ok((steps, taken_away))
}

/// What is swapped: each unit of the archive, and each that is there and is not in it.
fn plan(side: &Side, tree: &OwnedFd, manifest: &Manifest, patterns: &Patterns) -> Result<(Vec<Step>, Vec<RelPath>)> {
    let kept: BTreeSet<RelPath> = manifest.entries.iter().filter_map(|entry| patterns.unit_of(&entry.path)).collect();
    let there = scan::scan(side.root.as_fd(), patterns, true)?;
    let mut places = BTreeSet::new();
    for unit in &kept {
        places.insert(place_of(&side.root, unit)?);
    }
    let mut steps = Vec::with_capacity(places.len());
    for path in places {
        let staged = beneath::stat(tree, &path).ok().flatten().map(|stat| stat.st_ino);
        let Some(staged) = staged else {
            return Err(BackupError::InTheWay { path: path.to_string(), fault: "what was restored of it is gone again" });
        };
        steps.push(Step { path, staged: Some(staged) });
    }
    let mut taken_away = Vec::new();
    for (path, _) in there.items {
        if there.units.contains(&path) && !kept.contains(&path) {
            movable(&side.root, &path)?;
            steps.push(Step { path: path.clone(), staged: None });
            taken_away.push(path);
        }
    }
    Ok((steps, taken_away))
}

/// The path itself, or the first folder above it that is missing: then that is put there, with all in it.
fn place_of(root: &OwnedFd, unit: &RelPath) -> Result<RelPath> {
    let depth = unit.names().count();
    for count in 1..depth {
        let above = unit.first(count);
        let in_the_way = |fault| Err(BackupError::InTheWay { path: above.to_string(), fault });
        match beneath::stat(root, &above) {
            Ok(None) => return Ok(above),
            Ok(Some(stat)) if beneath::kind(&stat) == FileType::Directory => {}
            Ok(Some(_)) => return in_the_way("a folder must be there, and it is none"),
            Err(errno) => return Err(BackupError::errno("look at", &above)(errno)),
        }
    }
    movable(root, unit)?;
    Ok(unit.clone())
}

/// A place where something is mounted can not be moved away.
fn movable(root: &OwnedFd, path: &RelPath) -> Result<()> {
    match beneath::open(root, path.as_path(), OFlags::PATH, Mounts::Refuse) {
        Err(Errno::XDEV) => Err(BackupError::InTheWay { path: path.to_string(), fault: "something is mounted there" }),
        // A link is moved as it is.
        Ok(_) | Err(Errno::NOENT | Errno::LOOP) => Ok(()),
        Err(errno) => Err(BackupError::errno("look at", path)(errno)),
    }
}

fn make_folders(old: &OwnedFd, path: &RelPath, owner: Owner) -> Result<(), Errno> {
    for count in 1..path.names().count() {
        let above = path.first(count);
        let folder = beneath::folder_of(old, &above, Mounts::Refuse)?;
        let name = RelPath::new(above.split().1);
        match fs::mkdirat(&folder, name.as_path(), Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let made = fs::openat(&folder, name.as_path(), FOLDER, Mode::empty())?;
                owner.give(|user, group| fs::fchown(&made, user, group))?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
