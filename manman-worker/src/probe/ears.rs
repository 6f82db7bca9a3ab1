//! Hears every line of a game as it goes into its log, and keeps what the watch wants to know of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manman_common::logs::{LogStream, records};
use manman_common::{InstanceId, LogSeq};
use regex::bytes::Regex;
use tokio::sync::mpsc;

use super::roster::{self, Move, Roster};
use crate::driver::OutputBatch;
use crate::logs::{Listener, LogBook, LogReader, Read, Trouble};

/// Comings and goings that wait to be told.
const MOVES_MAX: usize = 64;

const CHUNK: usize = 256 * 1024;

#[derive(Debug)]
pub(super) enum News {
    Printed,
    Matched,
    Trouble(Option<Trouble>),
}

pub(super) struct Ears {
    pub(super) pattern: Option<Arc<Regex>>,
    /// A line has matched, whether or not there was room for the news of it.
    pub(super) matched: Arc<AtomicBool>,
    pub(super) players: Option<(roster::Rule, Arc<Mutex<Heard>>)>,
    pub(super) news: mpsc::Sender<News>,
}

/// Who is there by the log, and what has not been told of it.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) roster: Roster,
    pub(super) changed: bool,
    pub(super) moves: Vec<Move>,
}

pub(super) fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener for Ears {
    fn lines(&self, batch: &OutputBatch) {
        let printed = || batch.lines.iter().filter(|line| line.stream != LogStream::Manager);
        let matched = self.pattern.as_ref().is_some_and(|pattern| printed().any(|line| pattern.is_match(&line.text)));
        if matched {
            self.matched.store(true, Ordering::Relaxed);
        }
        if let Some((rule, heard)) = &self.players {
            for step in printed().filter_map(|line| rule.read(&line.text)) {
                let mut heard = lock(heard);
                if heard.roster.take(&step) {
                    heard.changed = true;
                    if heard.moves.len() < MOVES_MAX {
                        heard.moves.push(step);
                    }
                }
            }
        }
        let news = if matched { News::Matched } else { News::Printed };
        match self.news.try_send(news) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            // The watch is busy, and will hear enough of it.
            Err(mpsc::error::TrySendError::Full(_)) => {}
        }
    }

    fn trouble(&self, trouble: Option<Trouble>) {
        // Told again with the next attempt.
        let _ = self.news.try_send(News::Trouble(trouble));
    }
}

/// What an earlier worker heard of this instance: who came and left, which is news to nobody. Blocks
/// on the disk; made before the log is gone on with, so that no line is heard twice.
pub(super) fn remember(book: &LogBook, instance: InstanceId, rule: &roster::Rule) -> std::io::Result<Roster> {
    let mut roster = Roster::default();
    search(book, instance, |text| {
        if let Some(step) = rule.read(text) {
            roster.take(&step);
        }
        false
    })?;
    Ok(roster)
}

/// Whether a line of this instance that is in the log already is what `found` looks for. Blocks on
/// the disk.
pub(super) fn search(book: &LogBook, instance: InstanceId, mut found: impl FnMut(&[u8]) -> bool) -> std::io::Result<bool> {
    let Some(from) = book.begin_of(instance)? else { return Ok(false) };
    let last = book.last_seq();
    let mut reader = LogReader::new(book, LogSeq::new(from.get()));
    while reader.next_seq() <= last {
        match reader.read(CHUNK)? {
            Read::Chunk(chunk) => {
                let mut printed = records(&chunk).filter(|record| record.stream != LogStream::Manager);
                if printed.any(|record| found(record.text)) {
                    return Ok(true);
                }
            }
            Read::Gap(_) => {}
            Read::End => break,
        }
    }
    Ok(false)
}
