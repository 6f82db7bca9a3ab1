//! Swaps what was restored for what is there, so that a crash at any point is finished or undone.
//!
//! Beside the server's directory lies one folder for it, locked by whoever uses it:
//! ```text
//! tree/          what is to be put in place
//! old/           what was there before
//! journal.json   which paths are swapped; absent until `tree` is whole and on the disk
//! ```
//! How far a swap got is never written down. It is seen: a restored thing has an inode number, which
//! the journal holds, and it is either still in `tree` or it is not. Nobody but us touches `tree` and
//! `old`, so that stays true even if the game runs in between.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::fs::{self, AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::beneath::{self, FOLDER, Mounts};
use crate::error::{BackupError, Result};
use crate::failpoint::{denied, reach};
use crate::path::RelPath;

const JOURNAL: &str = "journal.json";
const JOURNAL_VERSION: u32 = 1;
/// Greatest length of a journal: a path and a number for each of what is swapped.
const MAX_JOURNAL: u64 = 256 * 1024 * 1024;
/// More moves than any of what is swapped can need.
const MAX_MOVES: usize = 8;

/// What an interrupted restore came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// There was none.
    Nothing,
    /// It had begun to swap, so it was ended; what was there before is in this folder.
    Finished { before: Option<PathBuf> },
    /// What is there is what was there before it began.
    RolledBack,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Journal {
    version: u32,
    pub began: DateTime<Utc>,
    /// The name, beside the server's directory, that `old` gets.
    pub before: String,
    pub steps: Vec<Step>,
    pub course: Course,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Course {
    Forward,
    Back,
    /// All is swapped; only tidying is left.
    Done,
}

/// A path that is swapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub path: RelPath,
    /// The inode of what is put there; `None` only takes away what is.
    pub staged: Option<u64>,
}

/// The folder beside a server's directory, locked.
pub(crate) struct Side {
    pub parent: PathBuf,
    pub name: String,
    pub root: OwnedFd,
    dir: OwnedFd,
}

impl Side {
    /// With `make` it is made where it is missing.
    pub(crate) fn lock(root: &Path, make: bool) -> Result<Option<Self>> {
        let shown = root.display().to_string();
        let real = match std::fs::canonicalize(root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !make => return Ok(None),
            other => other.map_err(BackupError::io("find the server's directory", &shown))?,
        };
        let (Some(parent), Some(name)) = (real.parent(), real.file_name().and_then(|name| name.to_str())) else {
            return Err(BackupError::InTheWay { path: shown, fault: "it has no folder that it is in, or no name" });
        };
        let root = fs::open(&real, FOLDER, Mode::empty()).map_err(BackupError::errno("open the server's directory", real.display()))?;
        let path = parent.join(format!(".{name}.restore"));
        loop {
            if make {
                match fs::mkdir(&path, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(BackupError::errno("make the folder", path.display())(errno)),
                }
            }
            let dir = match fs::open(&path, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) if make => continue,
                Err(Errno::NOENT) => return Ok(None),
                other => other.map_err(BackupError::errno("open the folder", path.display()))?,
            };
            match fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(BackupError::Busy { root: real }),
                Err(errno) => return Err(BackupError::errno("lock", path.display())(errno)),
            }
            // Whoever held it may have removed it just before.
            let same = fs::fstat(&dir).ok().zip(fs::lstat(&path).ok()).is_some_and(|(a, b)| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino));
            if same {
                return Ok(Some(Self { parent: parent.to_owned(), name: name.to_owned(), root, dir }));
            }
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.parent.join(format!(".{}.restore", self.name))
    }

    pub(crate) fn make(&self, name: &str) -> Result<OwnedFd> {
        let failed = || BackupError::errno("make the folder", self.path().join(name).display());
        fs::mkdirat(&self.dir, name, Mode::RWXU).map_err(failed())?;
        fs::openat(&self.dir, name, FOLDER, Mode::empty()).map_err(failed())
    }

    fn open(&self, name: &str) -> Result<Option<OwnedFd>> {
        match fs::openat(&self.dir, name, FOLDER, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some).map_err(BackupError::errno("open the folder", self.path().join(name).display())),
        }
    }

    fn sync(&self) -> Result<()> {
        fs::syncfs(self.dir.as_fd()).map_err(BackupError::errno("sync", self.path().display()))
    }

    /// Ends what an earlier process left.
    pub(crate) fn finish_earlier(&self) -> Result<Recovered> {
        match self.read()? {
            Some(journal) => self.run(journal),
            None => {
                let left = self.open("tree")?.is_some();
                self.clear()?;
                Ok(if left { Recovered::RolledBack } else { Recovered::Nothing })
            }
        }
    }

    pub(crate) fn begin(&self, began: DateTime<Utc>, steps: Vec<Step>) -> Result<Journal> {
        let before = format!("{}.before-restore-{}", self.name, began.format("%Y-%m-%dT%H-%M-%SZ"));
        let journal = Journal { version: JOURNAL_VERSION, began, before, steps, course: Course::Forward };
        self.write(&journal)?;
        Ok(journal)
    }

    /// Goes on with a swap, and back if it does not go on.
    pub(crate) fn run(&self, mut journal: Journal) -> Result<Recovered> {
        let mut failure = None;
        let unfinished =
            |journal: &Journal, error| BackupError::Unfinished { began: journal.began, place: self.path(), source: Box::new(error) };
        if journal.course == Course::Forward {
            match self.drive(&journal) {
                Ok(()) => self.turn(&mut journal, Course::Done).map_err(|error| unfinished(&journal, error))?,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a restore does not go on, and is undone");
                    failure = Some(error);
                    self.turn(&mut journal, Course::Back).map_err(|error| unfinished(&journal, error))?;
                }
            }
        }
        if journal.course == Course::Back {
            self.drive(&journal).and_then(|()| self.sync()).map_err(|error| unfinished(&journal, error))?;
            reach("backup.restore.back");
            // Something that the game wrote anew took the place of what was there: both are kept.
            if let Some(before) = self.keep_old(&journal)? {
                tracing::warn!(path = %before.display(), "a restore was undone, and what was there before lies beside");
            }
            self.clear()?;
            return failure.map_or(Ok(Recovered::RolledBack), Err);
        }
        let before = self.keep_old(&journal)?;
        reach("backup.restore.kept");
        self.clear()?;
        Ok(Recovered::Finished { before })
    }

    fn turn(&self, journal: &mut Journal, course: Course) -> Result<()> {
        self.sync()?;
        journal.course = course;
        self.write(journal)
    }

    fn drive(&self, journal: &Journal) -> Result<()> {
        let places = Places { root: &self.root, tree: self.open("tree")?, old: self.open("old")? };
        // Undone in the other order, so that each finds what it left.
        let steps: Box<dyn Iterator<Item = &Step>> =
            if journal.course == Course::Back { Box::new(journal.steps.iter().rev()) } else { Box::new(journal.steps.iter()) };
        for step in steps {
            let mut moves = 0;
            while places.step(step, journal.course == Course::Back).map_err(BackupError::errno("swap", &step.path))? {
                reach("backup.restore.step");
                moves += 1;
                if moves > MAX_MOVES {
                    return Err(BackupError::InTheWay { path: step.path.to_string(), fault: "something else moves it at the same time" });
                }
            }
        }
        Ok(())
    }

    fn keep_old(&self, journal: &Journal) -> Result<Option<PathBuf>> {
        let to = self.parent.join(&journal.before);
        let failed = || BackupError::errno("keep what was there before as", to.display());
        let Some(old) = self.open("old")? else { return Ok(to.exists().then_some(to)) };
        let parent = fs::open(&self.parent, FOLDER, Mode::empty()).map_err(failed())?;
        if !holds_anything(&old).map_err(failed())? {
            return Ok(None);
        }
        let root = fs::fstat(&self.root).map_err(failed())?;
        fs::fchmod(&old, Mode::from_raw_mode(root.st_mode & 0o777)).map_err(failed())?;
        for twin in 0..1000 {
            let name = if twin == 0 { journal.before.clone() } else { format!("{}-{twin}", journal.before) };
            match rename_to_free(&self.dir, Path::new("old"), &parent, Path::new(&name)) {
                Ok(()) => {
                    fs::fsync(&parent).map_err(failed())?;
                    return Ok(Some(self.parent.join(name)));
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed()(errno)),
            }
        }
        Err(failed()(Errno::EXIST))
    }

    /// The journal goes after what it speaks of.
    pub(crate) fn clear(&self) -> Result<()> {
        let path = self.path();
        let failed = || BackupError::io("remove", path.display());
        for name in ["tree", "old"] {
            let place = path.join(name);
            if let Err(error) = std::fs::remove_dir_all(&place)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                // Folders that may not be written; with their modes changed it works, or says why not.
                open_up(&place);
                std::fs::remove_dir_all(&place).map_err(failed())?;
            }
        }
        reach("backup.restore.cleared");
        std::fs::remove_dir_all(&path).map_err(failed())
    }

    fn write(&self, journal: &Journal) -> Result<()> {
        let failed = || BackupError::errno("write the journal of", self.path().display());
        let bytes =
            serde_json::to_vec(journal).map_err(|error| BackupError::io("write the journal of", self.path().display())(error.into()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = fs::openat(&self.dir, "journal.new", flags, Mode::RUSR | Mode::WUSR).map_err(failed())?;
        let mut file = std::fs::File::from(file);
        std::io::Write::write_all(&mut file, &bytes)
            .and_then(|()| file.sync_all())
            .map_err(BackupError::io("write the journal of", self.path().display()))?;
        reach("backup.restore.journal");
        fs::renameat(&self.dir, "journal.new", &self.dir, JOURNAL).map_err(failed())?;
        fs::fsync(&self.dir).map_err(failed())?;
        reach("backup.restore.journaled");
        Ok(())
    }

    fn read(&self) -> Result<Option<Journal>> {
        use std::io::Read;
        let file = match fs::openat(&self.dir, JOURNAL, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(BackupError::errno("read the journal of", self.path().display()))?,
        };
        let failed = || BackupError::io("read the journal of", self.path().display());
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(MAX_JOURNAL).read_to_end(&mut bytes).map_err(failed())?;
        let journal: Journal = serde_json::from_slice(&bytes).map_err(|error| failed()(error.into()))?;
        let odd = |step: &Step| step.path.fault().is_some();
        if journal.version != JOURNAL_VERSION || journal.steps.iter().any(odd) || journal.before.contains('/') {
            return Err(failed()(std::io::Error::other("it is of another version, or is none")));
        }
        Ok(Some(journal))
    }
}

/// Ends a restore that was interrupted, forward or back; which of both it was is said. Call it before
/// the server is started.
///
/// # Errors
/// If it could do neither. Then it is as it was, and can be tried again.
pub fn recover(root: &Path) -> Result<Recovered> {
    Side::lock(root, false)?.map_or(Ok(Recovered::Nothing), |side| side.finish_earlier())
}

/// Where something that is swapped can be.
struct Places<'a> {
    root: &'a OwnedFd,
    tree: Option<OwnedFd>,
    old: Option<OwnedFd>,
}

impl Places<'_> {
    /// One move towards the end, or back; `false` where nothing is left to be done.
    fn step(&self, step: &Step, back: bool) -> Result<bool, Errno> {
        let path = &step.path;
        let (Some(tree), Some(old)) = (&self.tree, &self.old) else { return Ok(false) };
        if !back && denied("backup.forward") && path.as_bytes() == b"lost/one" {
            return Err(Errno::IO);
        }
        let in_tree = inode(tree, path)?;
        let in_old = inode(old, path)?;
        let in_root = inode(self.root, path)?;
        let is_staged = |inode: Option<u64>| inode.is_some() && inode == step.staged;
        if back {
            Self::back(self.root, tree, old, path, (in_root, in_tree, in_old), is_staged)
        } else {
            Self::forward(self.root, tree, old, step, (in_root, in_tree, in_old))
        }
    }

    fn forward(
        root: &OwnedFd,
        tree: &OwnedFd,
        old: &OwnedFd,
        step: &Step,
        (in_root, in_tree, in_old): (Option<u64>, Option<u64>, Option<u64>),
    ) -> Result<bool, Errno> {
        let path = &step.path;
        let Some(staged) = step.staged else {
            if in_old.is_none() && in_root.is_some() {
                rename(root, old, path)?;
                return Ok(true);
            }
            return Ok(false);
        };
        match (in_tree, in_root, in_old) {
            (None, _, _) => return Ok(false),
            (Some(tree_now), None, _) if tree_now == staged => rename(tree, root, path)?,
            (Some(tree_now), Some(_), _) if tree_now == staged => match exchange(tree, root, path) {
                // A file system that can not: then for a moment nothing is there, and a crash in it is ended by `recover`.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if in_old.is_none() => rename(root, old, path)?,
                other => other?,
            },
            (Some(_), _, None) => rename(tree, old, path)?,
            // The game wrote it anew while the swap stood still: the older one is what a person wants back.
            (Some(_), _, Some(_)) => return Err(Errno::EXIST),
        }
        Ok(true)
    }

    fn back(
        root: &OwnedFd,
        tree: &OwnedFd,
        old: &OwnedFd,
        path: &RelPath,
        (in_root, in_tree, in_old): (Option<u64>, Option<u64>, Option<u64>),
        is_staged: impl Fn(Option<u64>) -> bool,
    ) -> Result<bool, Errno> {
        if is_staged(in_root) && in_tree.is_some() {
            // Swapped, and not yet moved to `old`.
            exchange(tree, root, path)?;
        } else if is_staged(in_root) {
            rename(root, tree, path)?;
        } else if in_old.is_some() && in_root.is_none() {
            rename(old, root, path)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

fn inode(place: &OwnedFd, path: &RelPath) -> Result<Option<u64>, Errno> {
    Ok(beneath::stat(place, path)?.map(|stat| stat.st_ino))
}

fn rename(from: &OwnedFd, to: &OwnedFd, path: &RelPath) -> Result<(), Errno> {
    let name = RelPath::new(path.split().1);
    let (from, to) = (beneath::folder_of(from, path, Mounts::Refuse)?, beneath::folder_of(to, path, Mounts::Refuse)?);
    rename_to_free(&from, name.as_path(), &to, name.as_path())
}

fn rename_to_free(from: &OwnedFd, name: &Path, to: &OwnedFd, new: &Path) -> Result<(), Errno> {
    match fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => match fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => fs::renameat(from, name, to, new),
            Ok(_) => Err(Errno::EXIST),
            Err(errno) => Err(errno),
        },
        other => other,
    }
}

fn exchange(from: &OwnedFd, to: &OwnedFd, path: &RelPath) -> Result<(), Errno> {
    if denied("backup.exchange") {
        return Err(Errno::INVAL);
    }
    let name = RelPath::new(path.split().1);
    let (from, to) = (beneath::folder_of(from, path, Mounts::Refuse)?, beneath::folder_of(to, path, Mounts::Refuse)?);
    fs::renameat_with(from, name.as_path(), to, name.as_path(), RenameFlags::EXCHANGE)
}

/// Whether anything but folders is below. Those were made to take what was there, and may have got nothing.
fn holds_anything(folder: &OwnedFd) -> Result<bool, Errno> {
    for entry in fs::Dir::read_from(folder)? {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        if beneath::kind(&stat) != fs::FileType::Directory {
            return Ok(true);
        }
        let below = fs::openat(folder, entry.file_name(), FOLDER, Mode::empty())?;
        if holds_anything(&below)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn open_up(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What can not be changed is said by the removal that follows.
        let _ = fs::chmodat(CWD, &folder, Mode::RWXU, AtFlags::empty());
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        folders.extend(entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
}
