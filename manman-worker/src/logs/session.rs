//! A reader's request, answered chunk by chunk as it gives room.

use std::io;

use bytes::Bytes;
use manman_common::logs::{LogEnd, LogGap, LogQuery, LogRecord};
use manman_common::{LogSeq, Problem};
use regex::bytes::{Regex, RegexBuilder};
use tokio::sync::watch;

use super::book::{Head, LogBook};
use super::reader::{LogReader, Read};

/// Bytes looked at in one go; also the largest chunk.
const CHUNK: usize = 256 * 1024;

/// Size of a compiled expression; a person's is far below.
const GREP_SIZE: usize = 1 << 20;

pub struct LogSession {
    first: LogSeq,
    last: LogSeq,
    /// Lent to a blocking thread while that reads.
    reader: Option<LogReader>,
    grep: Option<Regex>,
    follow: bool,
    head: watch::Receiver<Head>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum LogItem {
    /// Whole records.
    Chunk(Bytes),
    Gap(LogGap),
    /// Nothing more follows.
    End(LogEnd),
}

impl LogSession {
    pub fn open(book: &LogBook, query: &LogQuery) -> Result<Self, Problem> {
        let grep = match &query.grep {
            None => None,
            Some(pattern) => Some(
                RegexBuilder::new(pattern)
                    .size_limit(GREP_SIZE)
                    .build()
                    .map_err(|error| Problem::invalid("grep", format!("it is not a regular expression: {error}")))?,
            ),
        };
        let head = book.shared().subscribe();
        let (first, last) = (book.first_seq(), book.last_seq());
        let tail = |lines: u64| last.next().get().saturating_sub(lines).max(first.get());
        let from = match (query.since_seq, query.tail) {
            // Of both, what gives less: a client that comes back after long asks for both.
            (Some(since), Some(lines)) => since.min(last).next().get().max(tail(lines)),
            (Some(since), None) => since.min(last).next().get(),
            (None, Some(lines)) => tail(lines),
            (None, None) => first.get(),
        };
        Ok(Self { first, last, reader: Some(LogReader::new(book, LogSeq::new(from))), grep, follow: query.follow.unwrap_or(true), head })
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

    /// The next item, as soon as there is one. A chunk has at most `max` bytes, or one record.
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
            match self.read(max.min(CHUNK)).await? {
                Read::Gap(gap) => return Ok(LogItem::Gap(gap)),
                Read::Chunk(chunk) => {
                    let (chunk, over) = self.until_last(chunk);
                    let chunk = self.filter(chunk);
                    if !chunk.is_empty() {
                        return Ok(LogItem::Chunk(chunk));
                    }
                    if over {
                        return Ok(LogItem::End(LogEnd::Complete));
                    }
                    // A search that finds nothing for long lets others run.
                    tokio::task::yield_now().await;
                }
                Read::End if self.follow => {
                    // The sender lives as long as the book, which the reader holds.
                    if self.head.changed().await.is_err() {
                        return Ok(LogItem::End(LogEnd::ServerGone));
                    }
                }
                Read::End => return Ok(LogItem::End(LogEnd::Complete)),
            }
        }
    }

    async fn read(&mut self, max: usize) -> io::Result<Read> {
        let Some(reader) = &mut self.reader else { return Err(io::Error::other("the log session was cut off while it read")) };
        if !self.follow && reader.next_seq() > self.last {
            return Ok(Read::End);
        }
        if reader.is_live() {
            // Written a moment ago: it is in memory.
            return reader.read(max);
        }
        let Some(mut reader) = self.reader.take() else { return Err(io::Error::other("the log session has no reader")) };
        let read = tokio::task::spawn_blocking(move || {
            let read = reader.read(max);
            (reader, read)
        });
        let (reader, read) = read.await.map_err(io::Error::other)?;
        self.reader = Some(reader);
        read
    }

    /// Without `follow` the log ends where it ended when it was asked for.
    fn until_last(&self, chunk: Bytes) -> (Bytes, bool) {
        let over = !self.follow && self.reader.as_ref().is_none_or(|reader| reader.next_seq() > self.last);
        if !over {
            return (chunk, false);
        }
        let mut end = 0;
        for line in chunk.split_inclusive(|b| *b == b'\n') {
            let line_end = line.strip_suffix(b"\n").unwrap_or(line);
            if LogRecord::parse(line_end).is_some_and(|record| record.seq > self.last) {
                break;
            }
            end += line.len();
        }
        (chunk.slice(..end), true)
    }

    fn filter(&self, chunk: Bytes) -> Bytes {
        let Some(grep) = &self.grep else { return chunk };
        let mut found = Vec::new();
        for line in chunk.split_inclusive(|b| *b == b'\n') {
            let record = LogRecord::parse(line.strip_suffix(b"\n").unwrap_or(line));
            if record.is_some_and(|record| grep.is_match(record.text)) {
                found.extend_from_slice(line);
            }
        }
        found.into()
    }
}
