//! Segment files: their names, the search for a record by its number, and the repair of a torn end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use manman_common::logs::{LogRecord, RECORD_MAX};

/// Where a segment is, in the file system and in the whole of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first_seq: u64,
    /// Bytes of the log before it, counted from when the log was opened.
    pub(super) start: u64,
    /// Bytes of whole records.
    pub(super) len: u64,
    pub(super) path: PathBuf,
}

pub(super) fn path(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("{first_seq:020}.log"))
}

/// Opens one. The directory may be a game's own, where it is in a container with our shim: what is
/// there instead of a file is neither followed nor waited for.
pub(super) fn open_at(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    manman_shim::files::open_plain(path, options)
}

/// Takes a name for a new file, whatever has it: of a link, the link itself goes.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The first numbers of the segments in a directory, ascending; other files are none of ours.
pub(super) fn scan(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A link, a pipe or a directory of that name would be in the way of every look.
        if !entry.file_type()?.is_file() {
            continue;
        }
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|number| number.len() == 20);
        found.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Bytes up to the end of the last sound record, and that record's number. What follows was torn
/// off by a crash, or never reached the disk.
pub(super) fn sound_end(file: &File, first_seq: u64) -> io::Result<(u64, Option<u64>)> {
    let size = file.metadata()?.len();
    // The usual case: the very last record is whole.
    let window = size.min(2 * RECORD_MAX as u64);
    let mut tail = vec![0; usize::try_from(window).unwrap_or(0)];
    file.read_exact_at(&mut tail, size - window)?;
    if tail.last() == Some(&b'\n') {
        let line = tail[..tail.len() - 1].rsplit(|b| *b == b'\n').next().unwrap_or_default();
        if let Some(record) = LogRecord::parse(line) {
            return Ok((size, Some(record.seq.get())));
        }
    }
    // Else from the front: a record counts as long as its number is the next one.
    let (mut offset, mut expected) = (0, first_seq);
    let mut chunk = vec![0; 1024 * 1024];
    loop {
        let read = read_some(file, &mut chunk, offset)?;
        let mut taken = 0;
        while let Some(end) = chunk[taken..read].iter().position(|b| *b == b'\n') {
            match LogRecord::parse(&chunk[taken..taken + end]) {
                Some(record) if record.seq.get() == expected => {
                    taken += end + 1;
                    expected += 1;
                }
                Some(_) | None => return Ok((offset + taken as u64, expected.checked_sub(1).filter(|last| *last >= first_seq))),
            }
        }
        offset += taken as u64;
        if taken == 0 {
            return Ok((offset, expected.checked_sub(1).filter(|last| *last >= first_seq)));
        }
    }
}

/// Bytes up to the end of the last whole record of a segment that is being written, of which the
/// first `known` bytes are whole records; and that record's number, if there is one after `known`.
pub(super) fn last_whole(file: &File, known: u64) -> io::Result<(u64, Option<u64>)> {
    let size = file.metadata()?.len();
    // A record that is being written is at most this long; one before it is as well.
    let begin = size.saturating_sub(2 * RECORD_MAX as u64).max(known);
    let mut tail = vec![0; usize::try_from(size - begin).unwrap_or(0)];
    let read = read_some(file, &mut tail, begin)?;
    tail.truncate(read);
    let Some(end) = tail.iter().rposition(|b| *b == b'\n') else { return Ok((known, None)) };
    let line = tail[..end].rsplit(|b| *b == b'\n').next().unwrap_or_default();
    match LogRecord::parse(line) {
        Some(record) => Ok((begin + end as u64 + 1, Some(record.seq.get()))),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "a log segment holds what is no record")),
    }
}

/// Opens a segment's file; `None` where its time was up meanwhile.
pub(super) fn open(segment: &Segment) -> io::Result<Option<File>> {
    match open_at(&segment.path, OpenOptions::new().read(true)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Offset of the first record whose number is at least `seq`, in the first `len` bytes.
pub(super) fn seek(file: &File, len: u64, seq: u64) -> io::Result<u64> {
    partition(file, len, &|record| record.seq.get() < seq)
}

/// Offset of the first record in the first `len` bytes that is not before what is looked for, where
/// those before it come first.
pub(super) fn partition(file: &File, len: u64, is_before: &dyn Fn(&LogRecord<'_>) -> bool) -> io::Result<u64> {
    // A record begins at `low`, and all before it are before; none that begins at `high` or later is.
    let (mut low, mut high) = (0, len);
    let mut window = vec![0; 2 * RECORD_MAX];
    while low < high {
        let middle = low + (high - low) / 2;
        // The first record that begins at the middle or later, which is where a line feed ends.
        let from = if middle == low { low } else { middle - 1 };
        let read = read_some(file, &mut window, from)?;
        let skip = if middle == low { Some(0) } else { window[..read].iter().position(|b| *b == b'\n').map(|at| at + 1) };
        let Some(begin) = skip.filter(|skip| from + (*skip as u64) < high) else {
            high = middle;
            continue;
        };
        let Some(end) = window[begin..read].iter().position(|b| *b == b'\n') else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a log segment holds a record without an end"));
        };
        let record = LogRecord::parse(&window[begin..begin + end]);
        let found = record.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a log segment holds what is no record"))?;
        if is_before(&found) {
            low = from + (begin + end + 1) as u64;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// As much as there is, up to the buffer's size.
pub(super) fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
