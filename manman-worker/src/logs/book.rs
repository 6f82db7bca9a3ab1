//! The writer of a server's log, and what readers may see of it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manman_common::logs::{LINE_MAX, LogLine, LogRecord, LogStream};
use manman_common::{InstanceId, LogSeq};
use tokio::sync::watch;

use super::cursor::{self, Begun};
use super::segment::{self, Segment};
use crate::clock;
use crate::driver::{OutputCursor, OutputLine};

/// How much of a log is kept; the newest segment always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub bytes: u64,
    pub age: Duration,
    /// A segment that has grown to this is followed by the next one.
    pub segment_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        // Three million lines of the usual length, and a month to ask what happened.
        Self { bytes: 256 << 20, age: Duration::from_secs(30 * 24 * 3600), segment_bytes: 16 << 20 }
    }
}

/// A server's log; clones are the same log.
#[derive(Clone)]
pub struct LogBook {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    dir: PathBuf,
    retention: Retention,
    writer: Mutex<Writer>,
    /// Locked for a few instructions only, never over a call into the system.
    published: Mutex<Published>,
    head: watch::Sender<Head>,
}

/// What readers wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) next_seq: u64,
    /// The log has been deleted.
    pub(super) closed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) segments: VecDeque<Segment>,
    pub(super) next_seq: u64,
}

pub(super) struct Writer {
    pub(super) file: Option<File>,
    scratch: Vec<u8>,
    /// Somebody else writes the records, and takes words of the manager's.
    pub(super) elsewhere: Option<Pen>,
}

/// Writes a word of the manager's into a log that another process writes.
pub type Pen = Arc<dyn Fn(&str) -> io::Result<()> + Send + Sync>;

impl LogBook {
    pub fn open(dir: &Path, retention: Retention) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut segments = VecDeque::new();
        let mut next_seq = 1;
        let mut start = 0;
        let mut file = None;
        let found = segment::scan(dir)?;
        for (index, first_seq) in found.iter().copied().enumerate() {
            let path = segment::path(dir, first_seq);
            let mut len = std::fs::symlink_metadata(&path)?.len();
            if index + 1 == found.len() {
                let opened = segment::open_at(&path, OpenOptions::new().read(true).append(true))?;
                let (sound, last) = segment::sound_end(&opened, first_seq)?;
                if sound < len {
                    opened.set_len(sound)?;
                }
                len = sound;
                next_seq = last.map_or(first_seq, |last| last + 1);
                file = Some(opened);
            }
            segments.push_back(Segment { first_seq, start, len, path });
            start += len;
        }
        let head = watch::Sender::new(Head { next_seq, closed: false });
        let shared = Shared {
            dir: dir.to_owned(),
            retention,
            writer: Mutex::new(Writer { file, scratch: Vec::new(), elsewhere: None }),
            published: Mutex::new(Published { segments, next_seq }),
            head,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Number of the oldest line that is kept; above [`last_seq`](Self::last_seq) in an empty log.
    #[must_use]
    pub fn first_seq(&self) -> LogSeq {
        let published = self.shared.published();
        LogSeq::new(published.segments.front().map_or(published.next_seq, |segment| segment.first_seq))
    }

    /// Number of the newest line; 0 in a log that never had one.
    #[must_use]
    pub fn last_seq(&self) -> LogSeq {
        LogSeq::new(self.shared.published().next_seq - 1)
    }

    /// Writes lines, all or none, and tells the readers. Blocks on the disk.
    pub fn append(&self, lines: &[OutputLine]) -> io::Result<()> {
        self.write(|next, out| {
            for line in lines {
                for text in parts(&line.text) {
                    LogRecord { seq: LogSeq::new(*next), time: &line.time, stream: line.stream, text }.write_to(out);
                    *next += 1;
                }
            }
        })
    }

    /// Writes a word of the manager's own. Blocks on the disk.
    pub fn note(&self, text: &str) -> io::Result<()> {
        let pen = self.shared.writer().elsewhere.clone();
        if let Some(pen) = pen {
            match pen(text) {
                // Whoever wrote has ended.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => self.take_back()?,
                noted => return noted,
            }
        }
        let time = clock::now().to_chrono().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
        self.write(|next, out| {
            for text in parts(text.as_bytes()) {
                LogRecord { seq: LogSeq::new(*next), time: &time, stream: LogStream::Manager, text }.write_to(out);
                *next += 1;
            }
        })
    }

    /// Writes lines of the manager's, such as the reply of a console over the network, one after the
    /// other with nothing in between, and answers them with their numbers. Blocks on the disk.
    pub fn note_lines(&self, lines: &[String]) -> io::Result<Vec<LogLine>> {
        let time = clock::now().to_chrono().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
        let mut noted = Vec::with_capacity(lines.len());
        self.write(|next, out| {
            for text in lines.iter().flat_map(|line| parts(line.as_bytes())) {
                let record = LogRecord { seq: LogSeq::new(*next), time: &time, stream: LogStream::Manager, text };
                record.write_to(out);
                noted.push(record.to_line());
                *next += 1;
            }
        })?;
        Ok(noted)
    }

    /// Says that an instance begins, unless that has been said, and how far its output has been
    /// taken over. Blocks on the disk.
    pub fn begin_instance(&self, instance: InstanceId) -> io::Result<OutputCursor> {
        if let Some(begun) = Begun::read(&self.shared.dir)?.filter(|begun| begun.instance == instance) {
            return cursor::find(&self.shared.snapshot(), begun.seq);
        }
        // First where it begins, then that it does: a crash between the two leaves no line unread.
        Begun { instance, seq: self.shared.published().next_seq }.write(&self.shared.dir)?;
        self.note(&format!("instance {instance} started"))?;
        Ok(OutputCursor::default())
    }

    /// Number of the first line that can be this instance's; `None` if another one printed last.
    pub fn begin_of(&self, instance: InstanceId) -> io::Result<Option<LogSeq>> {
        Ok(Begun::read(&self.shared.dir)?.filter(|begun| begun.instance == instance).map(|begun| LogSeq::new(begun.seq)))
    }

    fn write(&self, render: impl FnOnce(&mut u64, &mut Vec<u8>)) -> io::Result<()> {
        let shared = &*self.shared;
        let mut writer = shared.writer();
        if writer.elsewhere.is_some() {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the log is written by another process"));
        }
        let (mut next, full) = {
            let published = shared.published();
            (published.next_seq, published.segments.back().is_none_or(|segment| segment.len >= shared.retention.segment_bytes))
        };
        writer.scratch.clear();
        let mut scratch = std::mem::take(&mut writer.scratch);
        render(&mut next, &mut scratch);
        let written = shared.write_out(&mut writer, &scratch, full, next);
        // A burst's buffer is not kept for ever.
        scratch.shrink_to(1 << 20);
        writer.scratch = scratch;
        written
    }

    /// Ends every reader; what is appended from now on is lost.
    pub(super) fn close(&self) {
        self.shared.head.send_modify(|head| head.closed = true);
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Whole lines of at most `LINE_MAX` bytes. The drivers give such; a log with a broken record in it
/// could not be searched, so it is made sure of here.
fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.split(|b| *b == b'\n');
    lines.flat_map(|line| {
        let whole = line.is_empty().then_some(line);
        whole.into_iter().chain(line.chunks(LINE_MAX))
    })
}

impl Shared {
    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn publish(&self, segments: VecDeque<Segment>, next_seq: u64) {
        {
            let mut published = self.published();
            published.segments = segments;
            published.next_seq = next_seq;
        }
        self.head.send_modify(|head| head.next_seq = next_seq);
    }

    pub(super) fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> Published {
        self.published().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn write_out(&self, writer: &mut Writer, bytes: &[u8], full: bool, next: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if full || writer.file.is_none() {
            self.next_segment(writer)?;
        }
        let Some(file) = &mut writer.file else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(bytes) {
            // Takes back what did get written: the same lines are written again once there is room.
            let len = self.published().segments.back().map_or(0, |segment| segment.len);
            if file.set_len(len).is_err() {
                writer.file = None;
            }
            return Err(error);
        }
        {
            let mut published = self.published();
            if let Some(segment) = published.segments.back_mut() {
                segment.len += bytes.len() as u64;
            }
            published.next_seq = next;
        }
        self.head.send_modify(|head| head.next_seq = next);
        Ok(())
    }

    fn next_segment(&self, writer: &mut Writer) -> io::Result<()> {
        let (first_seq, start) = {
            let published = self.published();
            (published.next_seq, published.segments.back().map_or(0, |segment| segment.start + segment.len))
        };
        let path = segment::path(&self.dir, first_seq);
        // What an earlier attempt left under this name was never published.
        segment::remove(&path)?;
        let file = segment::open_at(&path, OpenOptions::new().append(true).create_new(true).mode(0o600))?;
        writer.file = Some(file);
        let mut old = Vec::new();
        {
            let mut published = self.published();
            if published.segments.back().is_none_or(|segment| segment.first_seq != first_seq) {
                published.segments.push_back(Segment { first_seq, start, len: 0, path });
            }
            let mut kept: u64 = published.segments.iter().map(|segment| segment.len).sum();
            while published.segments.len() > 1 && kept > self.retention.bytes {
                let Some(oldest) = published.segments.pop_front() else { break };
                kept -= oldest.len;
                old.push(oldest.path);
            }
        }
        for path in self.too_old().into_iter().chain(old) {
            // A file that stays is found again at the next start.
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "an old log segment could not be deleted");
            }
        }
        Ok(())
    }

    /// Takes the segments off the list that nobody has written to for too long.
    fn too_old(&self) -> Vec<PathBuf> {
        let now = Duration::from_micros(u64::try_from(clock::now().as_micros()).unwrap_or(0));
        let is_old = |path: &Path| {
            let written = std::fs::symlink_metadata(path).and_then(|found| found.modified()).ok();
            let written = written.and_then(|written| written.duration_since(std::time::UNIX_EPOCH).ok());
            written.is_some_and(|written| now.saturating_sub(written) > self.retention.age)
        };
        let candidates: Vec<_> = self.published().segments.iter().map(|segment| segment.path.clone()).collect();
        let count = candidates.len().saturating_sub(1);
        let old: Vec<_> = candidates.into_iter().take(count).take_while(|path| is_old(path)).collect();
        self.published().segments.drain(..old.len());
        old
    }
}
