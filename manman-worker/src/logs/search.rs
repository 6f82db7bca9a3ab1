//! A search through the log from its newest line back.

use std::io;

use bytes::Bytes;
use manman_common::LogSeq;
use manman_common::logs::{LogGap, RECORD_MAX};

use super::backwards::{Backwards, newest_first};
use super::book::LogBook;
use super::grep::Grep;

/// Bytes looked at in one step where nothing is found: a few milliseconds' worth, after which
/// whoever asked may have gone.
const STEP: usize = 4 << 20;

pub(super) struct Search {
    grep: Grep,
    log: Backwards,
    first_seq: u64,
    /// The lines from this one on have been looked at.
    lowest: u64,
    /// Hits that are still wanted.
    left: u64,
}

pub(super) enum Step {
    /// Records, newest first; none where nothing was found as yet.
    Hits(Bytes),
    Over,
}

impl Search {
    /// Through the lines before this number. Blocks on the disk.
    pub(super) fn new(book: &LogBook, grep: Grep, before: LogSeq, limit: u64) -> io::Result<Self> {
        let log = Backwards::before(&book.shared().snapshot(), before.get())?;
        Ok(Self { grep, log, first_seq: book.first_seq().get(), lowest: before.get(), left: limit })
    }

    /// Looks a little further back; gives out at most `max` bytes, or one record. Blocks on the disk.
    pub(super) fn step(&mut self, max: usize) -> io::Result<Step> {
        // A block may be longer than asked by the record it cuts.
        let size = max.saturating_sub(RECORD_MAX);
        let mut looked = 0;
        while looked < STEP && self.left > 0 {
            let Some(block) = self.log.block(size)? else {
                self.left = 0;
                break;
            };
            looked += block.len();
            let mut hits = Vec::new();
            for (record, line) in newest_first(&block) {
                self.lowest = record.seq.get();
                if self.grep.finds(record.text) {
                    hits.extend_from_slice(line);
                    hits.push(b'\n');
                    self.left -= 1;
                    if self.left == 0 {
                        break;
                    }
                }
            }
            if !hits.is_empty() {
                return Ok(Step::Hits(hits.into()));
            }
        }
        Ok(if self.left == 0 { Step::Over } else { Step::Hits(Bytes::new()) })
    }

    /// What it has not looked at, should it end here.
    pub(super) fn rest(&self) -> Option<LogGap> {
        gap(self.first_seq, self.lowest.saturating_sub(1)).filter(|_| self.left > 0)
    }
}

pub(super) fn gap(from: u64, to: u64) -> Option<LogGap> {
    (from <= to).then(|| LogGap { from_seq: LogSeq::new(from), to_seq: LogSeq::new(to), count: to - from + 1 })
}
