//! The server's log on disk: records as `manman-common/src/logs.rs` has them, in segments named
//! after their first sequence number.
//!
//! Sequence numbers have no gaps: a line that finds no room on the disk takes none. Such lines are
//! counted, and the count stands in the log, as a record of the manager's own, as soon as there is
//! room again. Records are gathered and written together, once nothing more is there to be read or
//! the place for them is full; nothing here waits for anything but the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use manman_shim::clock::{self, STAMP_LENGTH, Stamp};
use manman_shim::spec::LogPlace;

use crate::resume;

/// Longest text of one record; a longer line is split, never cut.
pub(crate) const LINE_MAX: usize = 16 * 1024;
/// Digits of the largest sequence number.
const SEQ_MAX: usize = 20;
const RECORD_MAX: usize = SEQ_MAX + 1 + STAMP_LENGTH + 3 + LINE_MAX + 1;
/// Holds what one read of 64 KiB becomes if its lines are of usual length.
const OUT: usize = 160 * 1024;
/// How often a full disk is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// Segments are at most this part of the whole, so that the oldest can go without all going.
const LEAST_SEGMENTS: u64 = 4;

pub(crate) struct Log {
    dir: PathBuf,
    segment_bytes: u64,
    total_bytes: u64,
    file: Option<File>,
    /// Bytes in `file`, all of them whole records.
    size: u64,
    /// Number of the first record in `out`, or of the next one where it is empty.
    batch: u64,
    /// Records in `out`.
    count: u64,
    out: Vec<u8>,
    head: Head,
    stamp: Stamp,
    trouble: Option<Trouble>,
    lost_total: u64,
}

/// The disk takes nothing at the moment.
struct Trouble {
    error: String,
    lost: u64,
    again: Instant,
}

impl Log {
    /// Opens the directory's log after its last whole record.
    pub(crate) fn open(place: &LogPlace) -> io::Result<Self> {
        std::fs::create_dir_all(&place.dir)?;
        let end = resume::resume(&place.dir)?;
        let total_bytes = place.total_bytes.max(LEAST_SEGMENTS);
        Ok(Self {
            dir: place.dir.clone(),
            segment_bytes: place.segment_bytes.clamp(1, total_bytes / LEAST_SEGMENTS),
            total_bytes,
            file: end.file,
            size: end.size,
            batch: end.next_seq,
            count: 0,
            out: Vec::with_capacity(OUT),
            head: Head::new(end.next_seq),
            stamp: Stamp::default(),
            trouble: None,
            lost_total: 0,
        })
    }

    /// Last record that is in the file; 0 for none.
    pub(crate) fn last_seq(&self) -> u64 {
        self.batch - 1
    }

    /// Lines that found no room, whether the log says so by now or not.
    pub(crate) fn lost_lines(&self) -> u64 {
        self.lost_total
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.error.as_str())
    }

    /// When a full disk is to be tried again though the game prints nothing.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.trouble.as_ref().map(|trouble| trouble.again)
    }

    /// Takes the time that the following records get, and tries again what has failed.
    pub(crate) fn tick(&mut self) {
        self.stamp.tick();
        if self.trouble.as_ref().is_some_and(|trouble| trouble.again <= clock::instant()) {
            self.recover();
        }
    }

    /// Adds a record to the batch; text must hold no line feed and at most `LINE_MAX` bytes.
    pub(crate) fn record(&mut self, letter: u8, text: &[u8]) {
        if self.out.len() + RECORD_MAX > OUT {
            self.flush();
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.lost += 1;
            self.lost_total += 1;
            return;
        }
        self.out.extend_from_slice(self.head.seq());
        self.out.push(b' ');
        self.out.extend_from_slice(self.stamp.text());
        self.out.extend_from_slice(&[b' ', letter, b' ']);
        self.out.extend_from_slice(text);
        self.out.push(b'\n');
        self.count += 1;
        self.head.next();
    }

    /// Adds a word of the manager's own; returns its number if it is in the file.
    pub(crate) fn note(&mut self, text: &str) -> Option<u64> {
        self.tick();
        let text: Vec<u8> = text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }).take(LINE_MAX).collect();
        self.record(b'm', &text);
        self.flush();
        self.trouble.is_none().then(|| self.last_seq())
    }

    /// Writes the batch.
    pub(crate) fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let (written, error) = self.write();
        match error {
            None => {
                self.size += self.out.len() as u64;
                self.batch += self.count;
                if self.size >= self.segment_bytes {
                    self.file = None;
                }
            }
            Some(error) => self.give_up(written, &error),
        }
        self.out.clear();
        self.count = 0;
    }

    /// How much of the batch is in the file, and what kept the rest out.
    fn write(&mut self) -> (usize, Option<io::Error>) {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => match self.begin_segment() {
                Ok(file) => file,
                Err(error) => return (0, Some(error)),
            },
        };
        let mut written = 0;
        let mut error = None;
        while written < self.out.len() && error.is_none() {
            match file.write(&self.out[written..]) {
                Ok(0) => error = Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
                Err(failure) => error = Some(failure),
            }
        }
        self.file = Some(file);
        (written, error)
    }

    /// Keeps the whole records of what was written, cuts the torn one off, counts the others.
    fn give_up(&mut self, written: usize, error: &io::Error) {
        let whole = self.out[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let kept = self.out[..whole].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.size += whole as u64;
        if let Some(file) = &self.file
            && written > whole
            && file.set_len(self.size).is_err()
        {
            // The tail is torn for good in this segment; the next record begins another.
            self.file = None;
        }
        let lost = self.count - kept;
        self.batch += kept;
        self.head = Head::new(self.batch);
        self.lost_total += lost;
        self.trouble = Some(Trouble { error: error.to_string(), lost, again: clock::instant() + TRY_AGAIN });
    }

    fn recover(&mut self) {
        let Some(Trouble { error, lost, .. }) = self.trouble.take() else { return };
        let lines = if lost == 1 { "1 line is" } else { &format!("{lost} lines are") };
        self.record(b'm', format!("{lines} missing here, the log could not be written: {error}").as_bytes());
        self.flush();
        if let Some(trouble) = &mut self.trouble {
            // The word itself is no line of the game.
            self.lost_total -= trouble.lost;
            trouble.lost = lost;
        }
    }

    fn begin_segment(&mut self) -> io::Result<File> {
        self.delete_oldest();
        let path = self.dir.join(resume::name(self.batch));
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        self.size = file.metadata()?.len();
        Ok(file)
    }

    /// Makes room for a whole new segment below the total.
    fn delete_oldest(&self) {
        let Ok(mut segments) = resume::segments(&self.dir) else { return };
        segments.sort_unstable();
        let size = |seq: u64| std::fs::metadata(self.dir.join(resume::name(seq))).map_or(0, |file| file.len());
        let mut total: u64 = segments.iter().map(|seq| size(*seq)).sum();
        for seq in segments {
            if total + self.segment_bytes <= self.total_bytes {
                break;
            }
            let length = size(seq);
            if std::fs::remove_file(self.dir.join(resume::name(seq))).is_ok() {
                total -= length;
            }
        }
    }

    /// For the end: what is in the file stays there over a power cut.
    pub(crate) fn sync(&self) {
        if let Some(file) = &self.file {
            let _ = file.sync_data();
        }
    }

    #[cfg(test)]
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.dir
    }
}

/// A sequence number as text that counts by itself: formatting it anew for each line was a third
/// of a record's cost.
struct Head {
    digits: [u8; SEQ_MAX],
    start: usize,
}

impl Head {
    fn new(seq: u64) -> Self {
        let mut head = Self { digits: [b'0'; SEQ_MAX], start: SEQ_MAX - 1 };
        for (digit, byte) in head.digits.iter_mut().rev().zip(seq.to_string().into_bytes().into_iter().rev()) {
            *digit = byte;
        }
        head.start = SEQ_MAX - seq.to_string().len();
        head
    }

    fn seq(&self) -> &[u8] {
        &self.digits[self.start..]
    }

    fn next(&mut self) {
        for (index, digit) in self.digits.iter_mut().enumerate().rev() {
            if *digit < b'9' {
                *digit += 1;
                self.start = self.start.min(index);
                return;
            }
            *digit = b'0';
        }
    }
}

#[cfg(test)]
mod tests;
