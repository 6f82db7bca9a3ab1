//! Makes an archive of what a server saved.
//!
//! A file that changes while it is read is read again; small ones are held in memory for that, and
//! what was written of a large one is taken back. Whatever does not come to rest is kept as it was
//! last read, and named. So no file is cut or filled up to the size it had a moment before.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::archive::CHUNK;
use crate::beneath::{self, FOLDER, Mounts};
use crate::error::{BackupError, Result};
use crate::manifest::{Content, Entry, Hash, Head, Kind, MAX_NOTE, MAX_PIECES, Manifest, Time, VERSION};
use crate::path::RelPath;
use crate::pattern::Patterns;
use crate::scan::{self, Scan};
use crate::shelf::Place;
use crate::writer::Writer;
use crate::{Changed, CreateRequest, Progress, Summary, clock, room};

/// Up to here a file is held in memory while it is read.
const SMALL: u64 = if cfg!(test) { 256 * 1024 } else { 8 * 1024 * 1024 };
/// How often an unstable file is read again, and how long it is left alone before.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 150 });
/// Together, over all files: a world that never rests is not waited for, for ever.
const MAX_PAUSES: u32 = 100;
/// Holes smaller than this are kept as zeros.
const MIN_HOLE: u64 = 64 * 1024;
/// Beside the data: headers and the manifest of an entry, before they are pressed.
const PER_ENTRY: u64 = 1024;

/// Keeps what the patterns match below the root in a new archive.
///
/// Blocks on the disk. The game may run: what it writes meanwhile is told in [`Summary::changed`].
///
/// # Errors
/// Nothing with the archive's name is there then.
pub fn create(request: &CreateRequest, mut progress: impl FnMut(Progress<'_>), cancel: &AtomicBool) -> Result<Summary> {
    let patterns = Patterns::parse(&request.patterns)?;
    let root = fs::open(&request.root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(BackupError::errno("open the server's directory", request.root.display()))?;
    let found = scan::scan(root.as_fd(), &patterns, false)?;
    if found.files().next().is_none() {
        return Err(BackupError::NothingMatches { patterns: request.patterns.clone(), root: request.root.clone() });
    }
    let made_at = clock::now();
    let place = Place::make(&request.into, made_at)?;
    room::check(&request.into, found.bytes() + found.items.len() as u64 * PER_ENTRY)?;
    let file = place.file().map_err(BackupError::io("open", place.shown()))?;
    let maker = Maker {
        root,
        writer: Writer::new(file),
        names: HashMap::new(),
        summary: Summary { skipped: found.skipped.clone(), unmatched: found.unmatched.clone(), ..Summary::new(made_at) },
        progress: &mut progress,
        cancel,
        total: (found.items.len() as u64, found.bytes()),
        done: (0, 0),
        pauses: 0,
        archive: place.shown(),
    };
    let (manifest, writer, mut summary) = maker.run(found, request, made_at)?;
    crate::failpoint::reach("backup.create.before_manifest");
    summary.size = writer.finish(&manifest).map_err(BackupError::io("write", place.shown()))?;
    crate::failpoint::reach("backup.create.before_name");
    summary.path = place.publish()?;
    Ok(summary)
}

struct Maker<'a> {
    root: OwnedFd,
    writer: Writer,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), RelPath>,
    summary: Summary,
    progress: &'a mut dyn FnMut(Progress<'_>),
    cancel: &'a AtomicBool,
    total: (u64, u64),
    done: (u64, u64),
    pauses: u32,
    archive: String,
}

/// How a try to read a file ended.
enum Read1 {
    Whole(Content),
    /// It was written, replaced or cut meanwhile.
    Changed,
    Gone,
}

impl Maker<'_> {
    fn run(mut self, found: Scan, request: &CreateRequest, made_at: chrono::DateTime<chrono::Utc>) -> Result<(Manifest, Writer, Summary)> {
        let mut entries = Vec::with_capacity(found.items.len());
        for path in found.vanished {
            self.summary.changed.push(Changed { path, kept: false });
        }
        for (path, stat) in found.items {
            self.step(&path, 0)?;
            if let Some(entry) = self.item(path, &stat)? {
                entries.push(entry);
            }
            self.done.0 += 1;
        }
        if self.summary.files == 0 {
            return Err(BackupError::NothingMatches { patterns: request.patterns.clone(), root: request.root.clone() });
        }
        let mut note = request.note.clone();
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        let head = Head {
            version: VERSION,
            server: request.server,
            game: request.game.clone(),
            made_at,
            note,
            patterns: request.patterns.clone(),
            files: self.summary.files,
            bytes: self.summary.bytes,
        };
        let manifest = Manifest { head, entries };
        // What it would refuse to restore, it refuses to make.
        manifest.check().map_err(|(path, fault)| BackupError::Hostile { archive: self.archive.clone().into(), path, fault })?;
        Ok((manifest, self.writer, self.summary))
    }

    fn step(&mut self, path: &RelPath, bytes: u64) -> Result<()> {
        self.done.1 += bytes;
        (self.progress)(Progress {
            path: path.as_path(),
            entries: self.done.0,
            of_entries: self.total.0,
            bytes: self.done.1,
            of_bytes: self.total.1.max(self.done.1),
        });
        if self.cancel.load(Ordering::Relaxed) { Err(BackupError::Cancelled) } else { Ok(()) }
    }

    fn write(&self) -> Box<dyn FnOnce(io::Error) -> BackupError> {
        BackupError::io("write", &self.archive)
    }

    fn item(&mut self, path: RelPath, stat: &Stat) -> Result<Option<Entry>> {
        let kind = match beneath::kind(stat) {
            FileType::Directory => Kind::Dir,
            FileType::Symlink => match self.link(&path)? {
                Some(target) => Kind::Symlink(target),
                None => return Ok(self.lost(path)),
            },
            _ => match self.first_name(&path, stat)? {
                Some(first) => Kind::HardLink(first),
                None => return self.file(path, stat),
            },
        };
        let entry = entry(path, stat, kind);
        self.writer.header(&entry).map_err(self.write())?;
        Ok(Some(entry))
    }

    fn lost(&mut self, path: RelPath) -> Option<Entry> {
        self.summary.changed.push(Changed { path, kept: false });
        None
    }

    /// The name by which the same file is in the archive already.
    fn first_name(&self, path: &RelPath, stat: &Stat) -> Result<Option<RelPath>> {
        let id = (stat.st_dev, stat.st_ino);
        let Some(first) = self.names.get(&id).filter(|_| stat.st_nlink > 1) else { return Ok(None) };
        let now = beneath::stat(&self.root, path).map_err(BackupError::errno("look at", path))?;
        Ok(now.is_some_and(|now| (now.st_dev, now.st_ino) == id).then(|| first.clone()))
    }

    fn link(&self, path: &RelPath) -> Result<Option<RelPath>> {
        let read = || {
            let folder = beneath::folder_of(&self.root, path, Mounts::Enter)?;
            fs::readlinkat(&folder, RelPath::new(path.split().1).as_path(), Vec::new())
        };
        match read() {
            Ok(target) => Ok(Some(RelPath::new(target.into_bytes()))),
            // Gone, or no link any more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::LOOP) => Ok(None),
            Err(errno) => Err(BackupError::errno("read the link", path)(errno)),
        }
    }

    fn file(&mut self, path: RelPath, old: &Stat) -> Result<Option<Entry>> {
        for left in (0..TRIES).rev() {
            let Some((mut file, stat)) = self.open(&path)? else { return Ok(self.lost(path)) };
            let before = self.done.1;
            let small = u64::try_from(stat.st_size).unwrap_or(u64::MAX) <= SMALL;
            let read = if small { self.small(&path, &mut file, &stat, left == 0)? } else { self.large(&path, &file, &stat, left == 0)? };
            match read {
                Read1::Whole(content) => {
                    if content.changed {
                        self.summary.changed.push(Changed { path: path.clone(), kept: true });
                    }
                    self.summary.files += 1;
                    self.summary.bytes += content.kept();
                    if old.st_nlink > 1 {
                        self.names.insert((stat.st_dev, stat.st_ino), path.clone());
                    }
                    return Ok(Some(entry(path, &stat, Kind::File(content))));
                }
                Read1::Gone => return Ok(self.lost(path)),
                Read1::Changed => {
                    self.done.1 = before;
                    if self.pauses < MAX_PAUSES {
                        self.pauses += 1;
                        thread::sleep(PAUSE);
                    }
                }
            }
        }
        Ok(self.lost(path))
    }

    /// `None` where it is gone, or is no file any more.
    fn open(&self, path: &RelPath) -> Result<Option<(File, Stat)>> {
        // Looked at before it is opened: opening a device does something.
        match beneath::stat(&self.root, path).map_err(BackupError::errno("look at", path))? {
            Some(stat) if beneath::kind(&stat) == FileType::RegularFile => {}
            Some(_) | None => return Ok(None),
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match beneath::open(&self.root, path.as_path(), flags, Mounts::Enter) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(None),
            other => other.map_err(BackupError::errno("open", path))?,
        };
        let stat = fs::fstat(&file).map_err(BackupError::errno("look at", path))?;
        Ok((beneath::kind(&stat) == FileType::RegularFile).then(|| (file.into(), stat)))
    }

    fn same(&self, path: &RelPath, file: &File, before: &Stat) -> Result<bool> {
        let now = fs::fstat(file).map_err(BackupError::errno("look at", path))?;
        let time = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
        Ok(time(before) == time(&now))
    }

    fn small(&mut self, path: &RelPath, file: &mut File, stat: &Stat, last: bool) -> Result<Read1> {
        let mut bytes = Vec::new();
        file.take(SMALL + 1).read_to_end(&mut bytes).map_err(BackupError::io("read", path))?;
        let length = bytes.len() as u64;
        self.step(path, length)?;
        let stable = self.same(path, file, stat)? && u64::try_from(stat.st_size) == Ok(length);
        if !stable && (!last || length > SMALL) {
            // One that outgrew the memory while it was read comes to rest as a large one, or not at all.
            return if last { self.spooled(path, file, stat) } else { Ok(Read1::Changed) };
        }
        let content = Content { size: length, sha256: Hash(Sha256::digest(&bytes).into()), pieces: None, changed: !stable };
        self.put(path, stat, &content, &mut |writer| writer.data(&bytes))?;
        Ok(Read1::Whole(content))
    }

    fn put(&mut self, path: &RelPath, stat: &Stat, content: &Content, data: &mut dyn FnMut(&mut Writer) -> io::Result<()>) -> Result<()> {
        let entry = entry(path.clone(), stat, Kind::File(content.clone()));
        self.writer
            .header(&entry)
            .and_then(|()| data(&mut self.writer))
            .and_then(|()| self.writer.pad(content.kept()))
            .map_err(self.write())
    }

    fn large(&mut self, path: &RelPath, file: &File, stat: &Stat, last: bool) -> Result<Read1> {
        let mark = self.writer.mark().map_err(self.write())?;
        if let Some(content) = self.stream(path, file, stat)?
            && self.same(path, file, stat)?
        {
            return Ok(Read1::Whole(content));
        }
        self.writer.back_to(mark).map_err(self.write())?;
        if last { self.spooled(path, file, stat) } else { Ok(Read1::Changed) }
    }

    /// Writes a large file as it is read; `None` where it ended sooner than it said.
    fn stream(&mut self, path: &RelPath, file: &File, stat: &Stat) -> Result<Option<Content>> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let pieces = pieces(file, stat).map_err(BackupError::io("find the holes of", path))?;
        let mut content = Content { size, sha256: Hash::default(), pieces, changed: false };
        let head = entry(path.clone(), stat, Kind::File(content.clone()));
        self.writer.header(&head).map_err(self.write())?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        for (start, length) in content.pieces.clone().unwrap_or_else(|| vec![(0, size)]) {
            let (mut at, end) = (start, start + length);
            while at < end {
                let want = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
                let got = match file.read_at(&mut buffer[..want], at) {
                    Ok(0) => return Ok(None),
                    Ok(got) => got,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(BackupError::io("read", path)(error)),
                };
                hash.update(&buffer[..got]);
                self.writer.data(&buffer[..got]).map_err(self.write())?;
                at += got as u64;
                self.step(path, got as u64)?;
            }
        }
        content.sha256 = Hash(hash.finalize().into());
        self.writer.pad(content.kept()).map_err(self.write())?;
        Ok(Some(content))
    }

    /// A large file that does not rest is first copied as far as it goes, so that its size is known.
    fn spooled(&mut self, path: &RelPath, file: &File, stat: &Stat) -> Result<Read1> {
        let folder = std::path::Path::new(&self.archive).parent().unwrap_or(std::path::Path::new("."));
        let spool = fs::open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
            .map_err(BackupError::errno("make a temporary file in", folder.display()))?;
        let spool = File::from(spool);
        let mut from = file;
        from.seek(SeekFrom::Start(0)).map_err(BackupError::io("read", path))?;
        // It may grow faster than it is copied.
        let limit = u64::try_from(stat.st_size).unwrap_or(0).saturating_mul(2).saturating_add(SMALL);
        io::copy(&mut from.take(limit), &mut &spool).map_err(BackupError::io("copy", path))?;
        let size = spool.metadata().map_err(BackupError::io("look at the copy of", path))?.len();
        let mut copy = *stat;
        copy.st_size = i64::try_from(size).unwrap_or(i64::MAX);
        match self.stream(path, &spool, &copy)? {
            Some(content) => Ok(Read1::Whole(Content { changed: true, ..content })),
            None => Ok(Read1::Gone),
        }
    }
}

fn entry(path: RelPath, stat: &Stat, kind: Kind) -> Entry {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Entry { path, mode: stat.st_mode & 0o7777, mtime: Time(stat.st_mtime, nanos), kind }
}

/// Where a file holds data, if it has holes worth leaving out.
fn pieces(file: &File, stat: &Stat) -> io::Result<Option<Vec<(u64, u64)>>> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if scan::data_of(stat) + MIN_HOLE > size {
        return Ok(None);
    }
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match fs::seek(file, fs::SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            // No data behind it.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let end = fs::seek(file, fs::SeekFrom::Hole(start)).map_err(io::Error::from)?.min(size);
        at = end;
        if end <= start {
            break;
        }
        let full = pieces.len() == MAX_PIECES;
        match pieces.last_mut() {
            Some((first, length)) if start - (*first + *length) < MIN_HOLE => *length = end - *first,
            _ if full => return Ok(None),
            _ => pieces.push((start, end - start)),
        }
    }
    Ok((pieces != [(0, size)]).then_some(pieces))
}

/// The folder's own entries are on the disk.
pub(crate) fn sync_folder(path: &std::path::Path) -> Result<()> {
    let folder = fs::open(path, FOLDER, Mode::empty()).map_err(BackupError::errno("open", path.display()))?;
    fs::fsync(&folder).map_err(BackupError::errno("sync", path.display()))
}
