//! The log from its newest record back to its oldest, block by block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use manman_common::logs::{LogRecord, RECORD_MAX};

use super::book::Published;
use super::segment::{self, Segment};

/// Reads what was published when it was made, and no line twice.
pub(super) struct Backwards {
    /// Those that are still to be read; the last one is next.
    segments: Vec<Segment>,
    open: Option<Open>,
}

struct Open {
    file: File,
    /// What lies from here on has been read.
    end: u64,
    /// The beginning of a record whose rest was read in the block after it.
    rest: Vec<u8>,
}

impl Backwards {
    pub(super) fn new(log: &Published) -> Self {
        Self { segments: log.segments.iter().cloned().collect(), open: None }
    }

    /// Only the records before this number. Blocks on the disk.
    pub(super) fn before(log: &Published, seq: u64) -> io::Result<Self> {
        let mut segments: Vec<_> = log.segments.iter().filter(|segment| segment.first_seq < seq).cloned().collect();
        if let Some(last) = segments.last_mut()
            && let Some(file) = segment::open(last)?
        {
            last.len = segment::seek(&file, last.len, seq)?;
        }
        Ok(Self { segments, open: None })
    }

    /// About `size` bytes of whole records, oldest first, that lie just before those of the call
    /// before; `None` at the beginning of the log. Blocks on the disk.
    pub(super) fn block(&mut self, size: usize) -> io::Result<Option<Vec<u8>>> {
        // Smaller than a record, a block might hold no whole one.
        let size = size.max(RECORD_MAX) as u64;
        loop {
            let Some(open_segment) = &mut self.open else {
                let Some(segment) = self.segments.pop() else { return Ok(None) };
                match segment::open(&segment)? {
                    Some(file) => self.open = Some(Open { file, end: segment.len, rest: Vec::new() }),
                    // Its time was up, and that of those before it.
                    None => self.segments.clear(),
                }
                continue;
            };
            if open_segment.end == 0 {
                self.open = None;
                continue;
            }
            let begin = open_segment.end.saturating_sub(size);
            let mut block = vec![0; usize::try_from(open_segment.end - begin).unwrap_or(0)];
            open_segment.file.read_exact_at(&mut block, begin)?;
            block.append(&mut open_segment.rest);
            open_segment.end = begin;
            let whole = if begin == 0 { 0 } else { block.iter().position(|b| *b == b'\n').map_or(block.len(), |at| at + 1) };
            open_segment.rest = block[..whole].to_vec();
            block.drain(..whole);
            if !block.is_empty() {
                return Ok(Some(block));
            }
        }
    }
}

/// The records of a block, newest first, each with its whole line.
pub(super) fn newest_first(block: &[u8]) -> impl Iterator<Item = (LogRecord<'_>, &[u8])> {
    let block = block.strip_suffix(b"\n").unwrap_or(block);
    block.rsplit(|b| *b == b'\n').filter_map(|line| Some((LogRecord::parse(line)?, line)))
}
