//! A place in a server's log, from which it is read in chunks of whole records.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use manman_common::LogSeq;
use manman_common::logs::{LogGap, LogRecord, RECORD_MAX};

use super::book::{LogBook, Shared};
use super::segment;

/// A reader that once was at the end and now lies so far behind is set forward.
const LAG_MAX: u64 = 64 << 20;

pub struct LogReader {
    shared: Arc<Shared>,
    /// The number that is read next.
    next: u64,
    open: Option<Open>,
    /// It has been at the end: from then on it is a follower, and may fall behind only so far.
    live: bool,
}

struct Open {
    first_seq: u64,
    start: u64,
    file: File,
    offset: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Chunk(Bytes),
    /// What comes next is not kept any more.
    Gap(LogGap),
    /// Nothing more as yet.
    End,
}

impl LogReader {
    /// From this number on; one that is not there yet is waited for.
    #[must_use]
    pub fn new(book: &LogBook, from: LogSeq) -> Self {
        Self { shared: Arc::clone(book.shared()), next: from.get().max(1), open: None, live: false }
    }

    #[must_use]
    pub fn next_seq(&self) -> LogSeq {
        LogSeq::new(self.next)
    }

    /// Whether it reads what was written a moment ago, which needs no disk.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The next records, at most `max` bytes of them (or one, if a single one is longer). Blocks on
    /// the disk.
    pub fn read(&mut self, max: usize) -> io::Result<Read> {
        loop {
            let Some(limit) = self.locate()? else { return Ok(Read::End) };
            let limit = match limit {
                Located::At(limit) => limit,
                Located::Behind(first) => return Ok(Read::Gap(self.skip_to(first))),
            };
            let Some(open) = &mut self.open else { continue };
            if open.offset >= limit {
                // This segment is read to its end; the next one holds what follows.
                self.open = None;
                continue;
            }
            let room = limit - open.offset;
            let size = usize::try_from(room).unwrap_or(usize::MAX).min(max.max(RECORD_MAX));
            let mut chunk = vec![0; size];
            let read = segment::read_some(&open.file, &mut chunk, open.offset)?;
            chunk.truncate(chunk[..read].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
            let (Some(first), Some(last)) = (first_seq(&chunk), last_seq(&chunk)) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a log segment holds what is no record"));
            };
            if first > self.next {
                return Ok(Read::Gap(self.skip_to(first)));
            }
            open.offset += chunk.len() as u64;
            self.next = last + 1;
            return Ok(Read::Chunk(chunk.into()));
        }
    }

    fn skip_to(&mut self, seq: u64) -> LogGap {
        let gap = LogGap { from_seq: LogSeq::new(self.next), to_seq: LogSeq::new(seq - 1), count: seq - self.next };
        self.next = seq;
        gap
    }

    /// Opens the segment in which the next record is; `None` at the end of the log.
    fn locate(&mut self) -> io::Result<Option<Located>> {
        loop {
            let (segment, end, follows) = {
                let published = self.shared.published();
                if self.next >= published.next_seq {
                    self.live = true;
                    return Ok(None);
                }
                let end = published.segments.back().map_or(0, |segment| segment.start + segment.len);
                if let Some(open) = &self.open {
                    let known = published.segments.iter().find(|segment| segment.first_seq == open.first_seq);
                    (known.cloned(), end, None)
                } else {
                    let after = published.segments.partition_point(|segment| segment.first_seq <= self.next);
                    match after.checked_sub(1) {
                        Some(at) => (published.segments.get(at).cloned(), end, published.segments.get(after).map(|next| next.first_seq)),
                        None => {
                            let first = published.segments.front().map_or(published.next_seq, |segment| segment.first_seq);
                            return Ok(Some(Located::Behind(first)));
                        }
                    }
                }
            };
            if let Some(open) = &self.open {
                if self.live && end.saturating_sub(open.start + open.offset) > LAG_MAX {
                    let first = self.nearer(end);
                    if first > self.next {
                        self.open = None;
                        return Ok(Some(Located::Behind(first)));
                    }
                }
                // A segment that was deleted meanwhile is whole, and still open here.
                let limit = match segment {
                    Some(segment) => segment.len,
                    None => open.file.metadata()?.len(),
                };
                return Ok(Some(Located::At(limit)));
            }
            let Some(segment) = segment else { continue };
            let file = match segment::open_at(&segment.path, File::options().read(true)) {
                Ok(file) => file,
                // Deleted between the look and now: look again.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.shared.subscribe().borrow().closed => {
                    if self.shared.published().segments.contains(&segment) {
                        // Shed for want of room, behind the book's back: what follows it is there.
                        return match follows {
                            Some(first) if first > self.next => Ok(Some(Located::Behind(first))),
                            Some(_) | None => Err(error),
                        };
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let offset = segment::seek(&file, segment.len, self.next)?;
            if offset >= segment.len
                && let Some(first) = follows
            {
                // Numbers between two segments that no segment holds.
                return Ok(Some(if first > self.next { Located::Behind(first) } else { continue }));
            }
            self.open = Some(Open { first_seq: segment.first_seq, start: segment.start, file, offset });
        }
    }

    /// The first number of a segment that is at most half of the allowed lag behind.
    fn nearer(&self, end: u64) -> u64 {
        let published = self.shared.published();
        let found = published.segments.iter().find(|segment| end - segment.start <= LAG_MAX / 2).or(published.segments.back());
        found.map_or(self.next, |segment| segment.first_seq)
    }
}

enum Located {
    /// The open segment may be read up to this offset.
    At(u64),
    /// Nothing before this number is kept.
    Behind(u64),
}

fn first_seq(chunk: &[u8]) -> Option<u64> {
    let line = chunk.split(|b| *b == b'\n').next()?;
    Some(LogRecord::parse(line)?.seq.get())
}

fn last_seq(chunk: &[u8]) -> Option<u64> {
    let line = chunk.strip_suffix(b"\n")?.rsplit(|b| *b == b'\n').next()?;
    Some(LogRecord::parse(line)?.seq.get())
}
