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

use crate::LogSeq;

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
    /// Lines that this reader will not be sent: it was too slow, or they are no longer kept.
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

/// Which lines of a log, as the query of the log routes has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// The last N lines, then what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u64>,
    /// The lines after this one, then what follows: the last one that the reader has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seq: Option<LogSeq>,
    /// Whether to go on with new lines; true unless told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
    /// Only lines in which this regular expression (linear time) is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// With `chunk`, WebSocket messages are binary chunks of records instead of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
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
