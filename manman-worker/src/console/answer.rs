//! The lines that follow a command.

use std::collections::VecDeque;
use std::time::Duration;

use manman_common::LogSeq;
use manman_common::logs::{LogQuery, LogStream, records};
use tokio::time::Instant;

use regex::bytes::Regex;

use super::LogLine;
use crate::logs::{LogBook, LogItem, LogSession};

/// For a first line to come. Most games answer within a frame, 50 ms or less; DDNet and Armagetron
/// look at their console once a second while nobody plays (measured: 0.7 s).
const FIRST: Duration = Duration::from_millis(1500);

/// A silence after which the answer is over.
const SILENCE: Duration = Duration::from_millis(100);

/// A busy game is never silent.
const LONGEST: Duration = Duration::from_millis(2500);

/// What a caller may ask for.
const ASKED_MAX: Duration = Duration::from_secs(8);

/// An answer beyond this is the game's usual chatter.
const LINES_MAX: usize = 1000;

const CHUNK: usize = 64 * 1024;

/// What followed, and whether the line that was waited for is the last of it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lines: VecDeque<LogLine>,
    pub(super) seen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// Until the game is silent again.
    UntilSilent,
    /// All that comes within this time.
    Exactly(Duration),
}

impl Window {
    /// `None` where no answer is asked for.
    pub(super) fn of(answer_ms: Option<u32>) -> Option<Self> {
        match answer_ms {
            None => Some(Self::UntilSilent),
            Some(0) => None,
            Some(millis) => Some(Self::Exactly(Duration::from_millis(u64::from(millis)).min(ASKED_MAX))),
        }
    }
}

/// The game's own lines after `before`, until the window is over.
pub(super) async fn collect(book: &LogBook, before: LogSeq, window: Window) -> std::io::Result<Vec<LogLine>> {
    let query = LogQuery { since_seq: Some(before), ..LogQuery::default() };
    let mut session = LogSession::open(book, &query).map_err(std::io::Error::other)?;
    let begun = Instant::now();
    let (end, mut deadline) = match window {
        Window::UntilSilent => (begun + LONGEST, begun + FIRST),
        Window::Exactly(length) => (begun + length, begun + length),
    };
    let mut lines = Vec::new();
    while lines.len() < LINES_MAX {
        let item = match tokio::time::timeout_at(deadline, session.next(CHUNK)).await {
            Ok(item) => item?,
            Err(_) => break,
        };
        match item {
            LogItem::Chunk(chunk) => {
                let room = LINES_MAX - lines.len();
                let printed = records(&chunk).filter(|record| record.stream != LogStream::Manager);
                let had = lines.len();
                lines.extend(printed.take(room).map(|record| record.to_line()));
                if lines.len() > had && window == Window::UntilSilent {
                    deadline = end.min(Instant::now() + SILENCE);
                }
            }
            LogItem::Gap(_) => {}
            LogItem::End(_) => break,
        }
    }
    Ok(lines)
}

/// The game's own lines after `before`, up to the first that matches; without one all that came
/// before `deadline`, of which the newest count.
pub(super) async fn wait_for(book: &LogBook, before: LogSeq, pattern: &Regex, deadline: Instant) -> std::io::Result<Found> {
    let query = LogQuery { since_seq: Some(before), ..LogQuery::default() };
    let mut session = LogSession::open(book, &query).map_err(std::io::Error::other)?;
    let mut found = Found::default();
    loop {
        // A busy game is read until the deadline, and then no more.
        if Instant::now() >= deadline {
            return Ok(found);
        }
        let item = match tokio::time::timeout_at(deadline, session.next(CHUNK)).await {
            Ok(item) => item?,
            Err(_) => return Ok(found),
        };
        match item {
            LogItem::Chunk(chunk) => {
                for record in records(&chunk).filter(|record| record.stream != LogStream::Manager) {
                    if found.lines.len() == LINES_MAX {
                        found.lines.pop_front();
                    }
                    found.lines.push_back(record.to_line());
                    if pattern.is_match(record.text) {
                        found.seen = true;
                        return Ok(found);
                    }
                }
            }
            LogItem::Gap(_) => {}
            LogItem::End(_) => return Ok(found),
        }
    }
}
