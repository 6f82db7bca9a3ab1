//! What a container prints, read from the engine's own log file.
//!
//! The engine's follower skips a whole file when the log is rotated twice while it still reads the
//! first (of a million lines it lost 418,604, and said nothing), and is slow. The files themselves
//! lie on this machine; a rotation renames them and never writes to an old one, so a reader that
//! holds on to what it has open, and finds its place again by inode, misses nothing that is kept.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes, BytesMut};
use manman_common::logs::LogStream;
use serde::Deserialize;

use super::frames::{Record, TIME_LENGTH, Time};

const READ: usize = 256 * 1024;

/// The engine keeps three files; a rotation that goes on meanwhile shows one twice or not at all.
const FILES_MAX: usize = 8;

/// Looks at a set of files that changes under the look.
const LOOKS: usize = 20;

/// A record is at most 16 KiB of text, six bytes for each where all are escaped.
const RECORD_MAX: u64 = 128 * 1024;

pub(super) struct Files {
    path: PathBuf,
    current: File,
    inode: u64,
    offset: u64,
    /// Those that follow the current one, oldest first.
    newer: VecDeque<File>,
    buffer: BytesMut,
    /// How much of the buffer has no line feed in it.
    searched: usize,
    /// Between the last record and the next one, some are lost.
    pub(super) gap: bool,
}

#[derive(Deserialize)]
struct Entry<'a> {
    log: String,
    stream: &'a str,
    time: &'a str,
}

impl Files {
    /// At the first record that is not older than `since`, or a little before it. Blocks.
    pub(super) fn open(path: &Path, since: Option<Time>) -> io::Result<Self> {
        let mut files = open_all(path)?;
        let oldest = files.len() - 1;
        let at = match since {
            None => oldest,
            // Its first record is older: what comes from `since` on is in it and in newer ones. One of the
            // very same time may have a twin at the end of the file before.
            Some(since) => files.iter().position(|file| first_time(file, 0).is_some_and(|(first, _)| first < since)).unwrap_or(oldest),
        };
        let newer = files.drain(..at).rev().collect();
        let Some(current) = files.into_iter().next() else { return Err(io::ErrorKind::NotFound.into()) };
        let offset = match since {
            None => 0,
            Some(since) => seek(&current, since)?,
        };
        let inode = current.metadata()?.ino();
        Ok(Self { path: path.to_owned(), current, inode, offset, newer, buffer: BytesMut::new(), searched: 0, gap: false })
    }

    /// Reads on; `false` if there is nothing more as yet.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        loop {
            let had = self.buffer.len();
            self.buffer.resize(had + READ, 0);
            let read = self.current.read_at(&mut self.buffer[had..], self.offset);
            self.buffer.truncate(had + *read.as_ref().unwrap_or(&0));
            let read = read? as u64;
            self.offset += read;
            if read > 0 {
                return Ok(true);
            }
            // A later one exists, so that this one is read to its end for good: it was there before
            // the read that found nothing.
            if let Some(next) = self.newer.pop_front() {
                self.inode = next.metadata()?.ino();
                self.current = next;
                self.offset = 0;
                self.buffer.clear();
                self.searched = 0;
                continue;
            }
            match std::fs::metadata(&self.path) {
                Ok(newest) if newest.ino() == self.inode => return Ok(false),
                Ok(_) => {}
                // In the middle of a rotation, or removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
            let files = open_all(&self.path)?;
            let mut inodes = Vec::with_capacity(files.len());
            for file in &files {
                inodes.push(file.metadata()?.ino());
            }
            let own = inodes.iter().position(|inode| *inode == self.inode);
            self.gap |= own.is_none();
            self.newer = files.into_iter().take(own.unwrap_or(inodes.len())).rev().collect();
        }
    }

    /// Takes the first whole record that has been read.
    pub(super) fn next(&mut self) -> Option<Record> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|b| *b == b'\n');
            let Some(end) = end else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + end);
            self.buffer.advance(1);
            self.searched = 0;
            match parse(&line) {
                Some(record) => return Some(record),
                // Torn by a crash of the engine.
                None => tracing::warn!(path = %self.path.display(), "a record of the engine's log can not be read and is passed over"),
            }
        }
    }
}

/// The log's files that there are, newest first, as they were at one moment.
fn open_all(path: &Path) -> io::Result<Vec<File>> {
    for _ in 0..LOOKS {
        let newest = File::open(path)?;
        let inode = newest.metadata()?.ino();
        let mut files = vec![newest];
        for number in 1..FILES_MAX {
            let mut name = OsString::from(path);
            name.push(format!(".{number}"));
            match File::open(&name) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        match std::fs::metadata(path) {
            Ok(found) if found.ino() == inode => return Ok(files),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("the engine's log is rotated faster than it can be looked at"))
}

/// Time of the first whole record that begins at or after `offset` (but for offset 0: after a line
/// feed), and where it begins.
fn first_time(file: &File, offset: u64) -> Option<(Time, u64)> {
    let mut window = vec![0; usize::try_from(2 * RECORD_MAX).ok()?];
    let mut read = 0;
    while read < window.len() {
        match file.read_at(&mut window[read..], offset + read as u64).ok()? {
            0 => break,
            more => read += more,
        }
    }
    let window = &window[..read];
    let mut begin = if offset == 0 { 0 } else { window.iter().position(|b| *b == b'\n')? + 1 };
    loop {
        let end = window[begin..].iter().position(|b| *b == b'\n')?;
        if let Some(record) = parse(&window[begin..begin + end]) {
            return Some((record.time, offset + begin as u64));
        }
        begin += end + 1;
    }
}

/// Where a record begins before which all are older than `since`; near enough to it.
fn seek(file: &File, since: Time) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > 4 * RECORD_MAX {
        let middle = low + (high - low) / 2;
        match first_time(file, middle) {
            Some((time, begin)) if time < since && begin < high => low = begin,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

fn parse(line: &[u8]) -> Option<Record> {
    let Entry { mut log, stream, time } = serde_json::from_slice(line).ok()?;
    let stream = match stream {
        "stdout" => LogStream::Stdout,
        "stderr" => LogStream::Stderr,
        _ => return None,
    };
    if log.ends_with('\n') {
        log.pop();
    }
    if log.ends_with('\r') {
        log.pop();
    }
    Some(Record { stream, time: nine_digits(time)?, text: Bytes::from(log) })
}

/// In the file a time has no zeros at its end.
fn nine_digits(time: &str) -> Option<Time> {
    let digits = time.strip_suffix('Z')?.as_bytes();
    let mut full = *b"0000-00-00T00:00:00.000000000Z";
    if !time.is_ascii() || digits.len() < 19 || digits.len() >= TIME_LENGTH {
        return None;
    }
    full[..digits.len()].copy_from_slice(digits);
    Some(full)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Log {
        dir: tempfile::TempDir,
        written: u64,
    }

    impl Log {
        fn path(&self) -> PathBuf {
            self.dir.path().join("x-json.log")
        }

        fn print(&mut self, lines: u64) {
            let mut file = File::options().create(true).append(true).open(self.path()).expect("a file");
            for _ in 0..lines {
                let (number, second) = (self.written, self.written / 10 % 60);
                writeln!(
                    file,
                    "{{\"log\":\"line {number} \\u003c\\\"\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T12:00:{second:02}.5Z\"}}"
                )
                .expect("it is written");
                self.written += 1;
            }
        }

        fn rotate(&self) {
            for number in [1, 0] {
                let name = |number: u32| if number == 0 { self.path() } else { self.dir.path().join(format!("x-json.log.{number}")) };
                if name(number).exists() {
                    std::fs::rename(name(number), name(number + 1)).expect("it is renamed");
                }
            }
            File::create(self.path()).expect("a file");
        }
    }

    fn read_all(files: &mut Files) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            while let Some(record) = files.next() {
                let text = String::from_utf8_lossy(&record.text).into_owned();
                let number = text.strip_prefix("line ").and_then(|rest| rest.strip_suffix(" <\"")).expect("a line of ours");
                numbers.push(number.parse().expect("a number"));
            }
            if !files.read().expect("it reads") {
                return numbers;
            }
        }
    }

    #[test]
    fn a_reader_goes_on_over_rotations() {
        let mut log = Log { dir: tempfile::tempdir().expect("a directory"), written: 0 };
        log.print(10);
        let mut files = Files::open(&log.path(), None).expect("it opens");
        assert_eq!(read_all(&mut files), (0..10).collect::<Vec<_>>());
        log.print(5);
        log.rotate();
        log.print(5);
        log.rotate();
        log.print(5);
        assert_eq!(read_all(&mut files), (10..25).collect::<Vec<_>>());
        assert!(!files.gap);
        log.rotate();
        log.rotate();
        log.rotate();
        log.print(3);
        assert_eq!(read_all(&mut files), (25..28).collect::<Vec<_>>());
        assert!(files.gap, "what was printed between may be lost");
    }

    #[test]
    fn half_a_record_is_waited_for() {
        let mut log = Log { dir: tempfile::tempdir().expect("a directory"), written: 0 };
        log.print(1);
        let whole = std::fs::read(log.path()).expect("it is there");
        std::fs::write(log.path(), &whole[..20]).expect("it is cut");
        let mut files = Files::open(&log.path(), None).expect("it opens");
        assert_eq!(read_all(&mut files), Vec::<u64>::new());
        std::fs::write(log.path(), &whole).expect("it is whole");
        assert_eq!(read_all(&mut files), [0]);
    }

    #[test]
    fn a_place_is_found_by_its_time_in_any_file() {
        let mut log = Log { dir: tempfile::tempdir().expect("a directory"), written: 0 };
        log.print(200);
        log.rotate();
        log.print(200);
        log.rotate();
        log.print(100);
        for second in [0u64, 3, 19, 20, 25, 39, 40, 49] {
            let since = nine_digits(&format!("2026-11-20T12:00:{second:02}.5Z")).expect("a time");
            let numbers = read_all(&mut Files::open(&log.path(), Some(since)).expect("it opens"));
            assert!(numbers.first().is_some_and(|first| *first <= second * 10), "{second}");
            assert_eq!(numbers, (numbers[0]..500).collect::<Vec<_>>());
        }
    }

    #[test]
    fn seek_lands_just_before_its_time() {
        let log = Log { dir: tempfile::tempdir().expect("a directory"), written: 0 };
        let mut file = File::create(log.path()).expect("a file");
        for second in 0..60 {
            for _ in 0..1000 {
                writeln!(file, "{{\"log\":\"{}\\n\",\"stream\":\"stderr\",\"time\":\"2026-11-20T12:00:{second:02}Z\"}}", "x".repeat(50))
                    .expect("written");
            }
        }
        drop(file);
        let since = nine_digits("2026-11-20T12:00:41Z").expect("a time");
        let file = File::open(log.path()).expect("a file");
        let offset = seek(&file, since).expect("a place");
        let size = file.metadata().expect("its size").len();
        let right = size / 60 * 41;
        assert!(offset <= right && right - offset <= 4 * RECORD_MAX, "{offset} {right}");
    }

    #[test]
    fn times_have_nine_digits() {
        assert_eq!(nine_digits("2026-11-20T12:00:00.5Z").as_ref().map(|time| &time[..]), Some(&b"2026-11-20T12:00:00.500000000Z"[..]));
        assert_eq!(nine_digits("2026-11-20T12:00:00Z").as_ref().map(|time| &time[..]), Some(&b"2026-11-20T12:00:00.000000000Z"[..]));
        for bad in ["", "2026", "2026-11-20T12:00:00.5", "2026-11-20T12:00:00.1234567890Z"] {
            assert_eq!(nine_digits(bad), None, "{bad}");
        }
    }
}
