//! Lines of a server's log, on disk and on the wire alike.
//!
//! A record is one line of text, so that a person may read a segment with `less` and a reader may
//! find a sequence number by bisecting bytes:
//!
//! ```text
//! 1234 2026-11-20T12:00:00.123456789Z o the line as the game printed it
//! ```
//!
//! The bytes after the third space are the game's own (ANSI colours, and whatever is not UTF-8,
//! included), up to [`LINE_MAX`]. A chunk is any number of whole records, one after the other.

use std::borrow::Cow;
use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::{LogSeq, Problem, Timestamp};

/// Longest text of one record in bytes; a longer line is split, never cut.
pub const LINE_MAX: usize = 16 * 1024;

/// Longest a record can be: its text, and a head with the largest numbers there are.
pub const RECORD_MAX: usize = LINE_MAX + 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LogStream {
    Stdout,
    Stderr,
    /// A word of the manager itself: an instance began, a gap.
    Manager,
}

impl LogStream {
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Stdout => b'o',
            Self::Stderr => b'e',
            Self::Manager => b'm',
        }
    }

    #[must_use]
    pub const fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'o' => Some(Self::Stdout),
            b'e' => Some(Self::Stderr),
            b'm' => Some(Self::Manager),
            _ => None,
        }
    }
}

/// One record, borrowed from a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    pub seq: LogSeq,
    /// RFC 3339 with nanoseconds, as it stands in the record.
    pub time: &'a str,
    pub stream: LogStream,
    pub text: &'a [u8],
}

impl<'a> LogRecord<'a> {
    /// Reads one record, without its line feed.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (seq, rest) = split_at_space(line)?;
        let (time, rest) = split_at_space(rest)?;
        let (stream, text) = split_at_space(rest)?;
        let &[letter] = stream else { return None };
        Some(Self {
            seq: LogSeq::new(std::str::from_utf8(seq).ok()?.parse().ok()?),
            time: std::str::from_utf8(time).ok()?,
            stream: LogStream::from_letter(letter)?,
            text,
        })
    }

    /// Appends the record and its line feed. Text must hold no line feed.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        debug_assert!(!self.text.contains(&b'\n'));
        // Writing into a Vec can not fail.
        let _ = write!(out, "{} {} ", self.seq, self.time);
        out.push(self.stream.letter());
        out.push(b' ');
        out.extend_from_slice(self.text);
        out.push(b'\n');
    }

    /// The text with what is not UTF-8 shown as U+FFFD.
    #[must_use]
    pub fn text_lossy(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.text)
    }

    #[must_use]
    pub fn to_line(&self) -> LogLine {
        LogLine { seq: self.seq, time: self.time.to_owned(), stream: self.stream, text: self.text_lossy().into_owned() }
    }
}

fn split_at_space(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // The heads are short: a plain scan beats a clever one.
    let space = bytes.iter().position(|b| *b == b' ')?;
    Some((&bytes[..space], &bytes[space + 1..]))
}

/// The records of a chunk; bytes that are no record are passed over.
pub fn records(chunk: &[u8]) -> impl Iterator<Item = LogRecord<'_>> {
    chunk.split(|b| *b == b'\n').filter(|line| !line.is_empty()).filter_map(LogRecord::parse)
}

/// A line for people and programs that want JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    pub seq: LogSeq,
    /// RFC 3339 with nanoseconds.
    pub time: String,
    pub stream: LogStream,
    pub text: String,
}

/// One JSON message of a log stream (a WebSocket text message, or the data of an SSE event).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LogMessage {
    Lines {
        items: Vec<LogLine>,
    },
    /// Lines that this reader will not be sent: it was too slow, they are no longer kept, or a search
    /// that ran out of time has not looked at them.
    Gap(LogGap),
    /// Nothing more follows.
    End {
        reason: LogEnd,
    },
}

/// `from..=to` are missing, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogGap {
    pub from_seq: LogSeq,
    pub to_seq: LogSeq,
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LogEnd {
    /// All that was asked for has been sent.
    Complete,
    /// The worker is away; ask again from the last seq.
    WorkerGone,
    /// The server is gone, and its log with it.
    ServerGone,
    /// The token behind the stream has been revoked.
    Revoked,
    /// The host is going down.
    Shutdown,
}

/// Longest pattern of a search, in bytes.
pub const GREP_MAX: usize = 1024;

/// Size of a pattern's automaton in bytes; a person's is far below.
pub const GREP_COMPILED_MAX: usize = 1 << 20;

/// Most lines of one page, or hits of one search, that `limit` may ask for.
pub const LIMIT_MAX: u64 = 10_000;

/// Which lines of a log, as the query of the log routes has it. All of it is optional and goes
/// together, but for what is said here.
///
/// | query | answer |
/// |---|---|
/// | `tail=100` | the last 100 lines, and what follows |
/// | `since_seq=N` | the lines after N, and what follows |
/// | `before_seq=N&limit=500` | the 500 lines before N, oldest first: scrolling up |
/// | `since_seq=N&limit=500` | the 500 lines after N: scrolling down |
/// | `at=TIME&limit=500` | the first 500 lines at or after that time: jumping there |
/// | `grep=RE&limit=50` | the newest 50 lines in which it is found, **newest first** |
/// | `grep=RE&limit=50&before_seq=N` | the 50 hits before those, N being the last of the page before |
///
/// A search with a limit ends after two seconds even where it has not found so many; then a `gap`
/// names the lines that it has not looked at (go on with `before_seq = gap.to_seq + 1`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// The last N lines, then what follows. Not together with `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u64>,
    /// The lines after this one, then what follows: the last one that the reader has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seq: Option<LogSeq>,
    /// Only lines up to this one, itself included. Ends there: not together with `follow=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_seq: Option<LogSeq>,
    /// Only lines before this one: the oldest that the reader has. Not together with `follow=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_seq: Option<LogSeq>,
    /// Begins at the first line that was printed at this time or later; where the lines' times go
    /// back and forth, at one of those places. Not together with `since_seq` and `tail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// At most so many lines, 1 to [`LIMIT_MAX`]. They are counted from the beginning where
    /// `since_seq` or `at` says where that is, else from the end. Not together with `follow=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Whether to go on with new lines; true unless told otherwise, or implied by what is above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
    /// Only lines in which this regular expression (linear time) is found. With `limit`, and neither
    /// `since_seq` nor `at`, the hits come newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// Whether `grep` is the very text that is looked for and no expression.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub literal: bool,
    /// Whether `grep` takes small and capital letters for the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_case: bool,
    /// With `chunk`, WebSocket messages are binary chunks of records instead of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
}

impl LogQuery {
    /// Whether new lines are waited for.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.follow.unwrap_or(!self.has_end())
    }

    /// Whether it names where it ends.
    #[must_use]
    pub const fn has_end(&self) -> bool {
        self.until_seq.is_some() || self.before_seq.is_some() || self.limit.is_some()
    }

    /// Whether `limit` counts from the newest line back.
    #[must_use]
    pub const fn from_the_end(&self) -> bool {
        self.limit.is_some() && self.since_seq.is_none() && self.at.is_none()
    }

    /// What can not go together, or is out of range.
    pub fn check(&self) -> Result<(), Problem> {
        let both = |field: &str, other: &str| Err(Problem::invalid(field, format!("it can not be asked for together with `{other}`")));
        if self.tail.is_some() && self.limit.is_some() {
            return both("limit", "tail");
        }
        if self.at.is_some() && self.since_seq.is_some() {
            return both("at", "since_seq");
        }
        if self.at.is_some() && self.tail.is_some() {
            return both("at", "tail");
        }
        if self.follow == Some(true) && self.has_end() {
            return Err(Problem::invalid("follow", "what has an end (`until_seq`, `before_seq`, `limit`) is not followed"));
        }
        if let Some(limit) = self.limit
            && !(1..=LIMIT_MAX).contains(&limit)
        {
            return Err(Problem::invalid("limit", format!("{limit} is out of range: 1 to {LIMIT_MAX}")));
        }
        if self.grep.is_none() && (self.literal || self.ignore_case) {
            let field = if self.literal { "literal" } else { "ignore_case" };
            return Err(Problem::invalid(field, "it says how `grep` is looked for, and there is none"));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Chunk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_line() {
        let record = LogRecord {
            seq: LogSeq::new(42),
            time: "2026-11-20T12:00:00.123456789Z",
            stream: LogStream::Stderr,
            text: b"\x1b[31m two  spaces \xff",
        };
        let mut chunk = Vec::new();
        record.write_to(&mut chunk);
        LogRecord { seq: LogSeq::new(43), text: b"", ..record }.write_to(&mut chunk);
        chunk.extend_from_slice(b"no record\n");
        let read: Vec<_> = records(&chunk).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0], record);
        assert_eq!(read[1].text, b"");
        assert_eq!(read[0].to_line().text, "\u{1b}[31m two  spaces \u{fffd}");
    }
}
