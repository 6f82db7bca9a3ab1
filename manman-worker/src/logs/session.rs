//! A reader's request, answered chunk by chunk as it gives room.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use manman_common::logs::{LogEnd, LogGap, LogQuery, LogRecord};
use manman_common::{LogSeq, Problem, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::book::{Head, LogBook};
use super::grep::Grep;
use super::reader::{LogReader, Read};
use super::search::{Search, Step, gap};

/// Bytes looked at in one go; also the largest chunk.
const CHUNK: usize = 256 * 1024;

/// So long a search with a limit may take; then it says how far it came.
const SEARCH_WITHIN: Duration = Duration::from_secs(2);

pub struct LogSession {
    book: LogBook,
    first: LogSeq,
    last: LogSeq,
    way: Way,
    head: watch::Receiver<Head>,
    within: Duration,
    /// Set when a search begins.
    deadline: Option<Instant>,
}

enum Way {
    Forward(Forward),
    /// Hits, newest first. Lent to a blocking thread while that searches.
    Newest(Option<Box<Search>>),
    /// How that search is to be begun.
    NewestFrom {
        grep: Grep,
        before: LogSeq,
        limit: u64,
    },
    /// There is nothing more to say.
    Over,
}

struct Forward {
    /// Lent to a blocking thread while that reads.
    reader: Option<LogReader>,
    /// Where the reader is to begin, once it has been looked for.
    at: Option<Timestamp>,
    /// The last line; `None` if new ones are waited for.
    until: Option<LogSeq>,
    /// Lines that are still wanted.
    left: Option<u64>,
    grep: Option<Grep>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum LogItem {
    /// Whole records; newest first where a search was asked for its newest hits.
    Chunk(Bytes),
    /// Lines that are no longer kept, or that a search had no time for.
    Gap(LogGap),
    /// Nothing more follows.
    End(LogEnd),
}

impl LogSession {
    pub fn open(book: &LogBook, query: &LogQuery) -> Result<Self, Problem> {
        Self::open_within(book, query, SEARCH_WITHIN)
    }

    /// The same with another patience for searches.
    pub(super) fn open_within(book: &LogBook, query: &LogQuery, within: Duration) -> Result<Self, Problem> {
        query.check()?;
        let grep = Grep::of(query)?;
        let head = book.shared().subscribe();
        let (first, last) = (book.first_seq(), book.last_seq());
        let until = match (query.until_seq, query.before_seq) {
            (None, None) => last,
            (until, before) => {
                let before = before.map(|before| LogSeq::new(before.get().saturating_sub(1)));
                last.min(until.unwrap_or(last)).min(before.unwrap_or(last))
            }
        };
        let way = match (grep, query.limit) {
            (Some(grep), Some(limit)) if query.from_the_end() => Way::NewestFrom { grep, before: until.next(), limit },
            (grep, limit) => {
                let tail = |lines: u64| until.next().get().saturating_sub(lines).max(first.get());
                let lines = if query.from_the_end() { limit } else { query.tail };
                let from = match (query.since_seq, lines) {
                    // Of both, what gives less: a client that comes back after long asks for both.
                    (Some(since), Some(lines)) => since.min(last).next().get().max(tail(lines)),
                    (Some(since), None) => since.min(last).next().get(),
                    (None, Some(lines)) => tail(lines),
                    (None, None) => first.get(),
                };
                Way::Forward(Forward {
                    reader: Some(LogReader::new(book, LogSeq::new(from))),
                    at: query.at,
                    until: (!query.follows()).then_some(until),
                    left: limit,
                    grep,
                })
            }
        };
        Ok(Self { book: book.clone(), first, last, way, head, within, deadline: None })
    }

    /// The log's first line when it was opened.
    #[must_use]
    pub fn first_seq(&self) -> LogSeq {
        self.first
    }

    #[must_use]
    pub fn last_seq(&self) -> LogSeq {
        self.last
    }

    /// Whether the lines come newest first.
    #[must_use]
    pub fn is_newest_first(&self) -> bool {
        match self.way {
            Way::Newest(_) | Way::NewestFrom { .. } => true,
            Way::Forward(_) | Way::Over => false,
        }
    }

    /// The next item, as soon as there is one. A chunk has about `max` bytes at most, or one record.
    ///
    /// A call that is dropped while it waits for new lines loses nothing; one that is dropped while
    /// it reads history ends the session.
    pub async fn next(&mut self, max: usize) -> io::Result<LogItem> {
        loop {
            // Marked as seen before the look: what is written after it wakes the wait below.
            let closed = self.head.borrow_and_update().closed;
            if closed {
                return Ok(LogItem::End(LogEnd::ServerGone));
            }
            let max = max.min(CHUNK);
            let item = match &mut self.way {
                Way::Forward(_) => self.forward(max).await?,
                Way::Newest(_) | Way::NewestFrom { .. } => self.newest(max).await?,
                Way::Over => Some(LogItem::End(LogEnd::Complete)),
            };
            match item {
                Some(item) => return Ok(item),
                // A search that finds nothing for long lets others run.
                None => tokio::task::yield_now().await,
            }
        }
    }

    fn is_late(&mut self) -> bool {
        let now = Instant::now();
        now > *self.deadline.get_or_insert(now + self.within)
    }

    async fn forward(&mut self, max: usize) -> io::Result<Option<LogItem>> {
        let is_search = matches!(&self.way, Way::Forward(Forward { grep: Some(_), left: Some(_), .. }));
        let late = is_search && self.is_late();
        let Way::Forward(forward) = &mut self.way else { return Ok(None) };
        if late && let (Some(reader), Some(until)) = (&forward.reader, forward.until) {
            let rest = gap(reader.next_seq().get(), until.get());
            self.way = Way::Over;
            return Ok(rest.map(LogItem::Gap));
        }
        match forward.read(&self.book, max).await? {
            Read::Gap(found) => Ok(forward.within(found).map(LogItem::Gap)),
            Read::Chunk(chunk) => {
                let (chunk, over) = forward.take(chunk);
                if over {
                    self.way = Way::Over;
                }
                Ok((!chunk.is_empty()).then_some(LogItem::Chunk(chunk)))
            }
            Read::End if forward.until.is_none() => {
                // The sender lives as long as the book, which the session holds.
                Ok(self.head.changed().await.is_err().then_some(LogItem::End(LogEnd::ServerGone)))
            }
            Read::End => {
                self.way = Way::Over;
                Ok(None)
            }
        }
    }

    async fn newest(&mut self, max: usize) -> io::Result<Option<LogItem>> {
        let late = self.deadline.is_some() && self.is_late();
        self.deadline.get_or_insert(Instant::now() + self.within);
        let book = self.book.clone();
        let begin = match std::mem::replace(&mut self.way, Way::Newest(None)) {
            Way::Newest(None) => return Err(cut_off()),
            Way::Newest(Some(search)) if late => {
                self.way = Way::Over;
                return Ok(search.rest().map(LogItem::Gap));
            }
            way => way,
        };
        let stepping = tokio::task::spawn_blocking(move || {
            let mut search = match begin {
                Way::NewestFrom { grep, before, limit } => Box::new(Search::new(&book, grep, before, limit)?),
                Way::Newest(Some(search)) => search,
                Way::Newest(None) | Way::Forward(_) | Way::Over => return Err(cut_off()),
            };
            let step = search.step(max)?;
            Ok((search, step))
        });
        let (search, step) = stepping.await.map_err(io::Error::other)??;
        match step {
            Step::Over => {
                self.way = Way::Over;
                Ok(None)
            }
            Step::Hits(hits) => {
                self.way = Way::Newest(Some(search));
                Ok((!hits.is_empty()).then_some(LogItem::Chunk(hits)))
            }
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::other("the log session was cut off while it read")
}

impl Forward {
    async fn read(&mut self, book: &LogBook, max: usize) -> io::Result<Read> {
        let Some(reader) = &mut self.reader else { return Err(cut_off()) };
        if self.at.is_none() {
            if self.until.is_some_and(|until| reader.next_seq() > until) {
                return Ok(Read::End);
            }
            if reader.is_live() {
                // Written a moment ago: it is in memory.
                return reader.read(max);
            }
        }
        let Some(mut reader) = self.reader.take() else { return Err(cut_off()) };
        let (at, until, book) = (self.at.take(), self.until, book.clone());
        let read = tokio::task::spawn_blocking(move || {
            if let Some(at) = at {
                match book.seq_at(at) {
                    Ok(from) => reader = LogReader::new(&book, from),
                    Err(error) => return (reader, Err(error)),
                }
                if until.is_some_and(|until| reader.next_seq() > until) {
                    return (reader, Ok(Read::End));
                }
            }
            let read = reader.read(max);
            (reader, read)
        });
        let (reader, read) = read.await.map_err(io::Error::other)?;
        self.reader = Some(reader);
        read
    }

    /// What is wanted of a chunk, and whether that was the last of it.
    fn take(&mut self, chunk: Bytes) -> (Bytes, bool) {
        // Without an end in it, as almost always, a chunk is passed on as it is.
        let ends = self.until.is_some_and(|until| self.reader.as_ref().is_none_or(|reader| reader.next_seq() > until));
        if !ends && self.grep.is_none() && self.left.is_none() {
            return (chunk, false);
        }
        let mut found = Vec::new();
        let (mut end, mut over) = (0, false);
        for line in chunk.split_inclusive(|b| *b == b'\n') {
            let record = LogRecord::parse(line.strip_suffix(b"\n").unwrap_or(line));
            if let (Some(record), Some(until)) = (record, self.until)
                && record.seq > until
            {
                break;
            }
            if let Some(grep) = &self.grep {
                if record.is_none_or(|record| !grep.finds(record.text)) {
                    continue;
                }
                found.extend_from_slice(line);
            } else {
                end += line.len();
            }
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(1);
                over = *left == 0;
                if over {
                    break;
                }
            }
        }
        let wanted = if self.grep.is_some() { found.into() } else { chunk.slice(..end) };
        (wanted, over || ends)
    }

    /// The part of a gap that was asked for.
    fn within(&self, found: LogGap) -> Option<LogGap> {
        match self.until {
            Some(until) => gap(found.from_seq.get(), found.to_seq.min(until).get()),
            None => Some(found),
        }
    }
}
