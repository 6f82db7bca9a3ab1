//! Which line was printed at a time.

use std::fs::File;
use std::io;

use chrono::DateTime;
use manman_common::logs::{LogRecord, RECORD_MAX};
use manman_common::{LogSeq, Timestamp};

use super::book::LogBook;
use super::segment::{self, Segment};

impl LogBook {
    /// The first line at or after a time; one after the last where there is none. Times mostly go
    /// up with the numbers; where a clock was set back, one of the places that fit is found. Blocks
    /// on the disk.
    pub fn seq_at(&self, at: Timestamp) -> io::Result<LogSeq> {
        let mut log = self.shared().snapshot();
        // One that has just begun says nothing of times.
        log.segments.retain(|segment| segment.len > 0);
        let earlier = |record: &LogRecord<'_>| is_earlier(record.time, at);
        let (mut low, mut high) = (0, log.segments.len());
        while low < high {
            let middle = low + (high - low) / 2;
            // One whose time was up is older than all that is asked for.
            let begins_earlier = match log.segments.get(middle).map(first).transpose()?.flatten() {
                Some(begin) => is_earlier(&begin, at),
                None => true,
            };
            if begins_earlier {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // It is in the last segment that begins earlier, or else it is the first of the next one.
        if let Some(segment) = low.checked_sub(1).and_then(|at| log.segments.get(at))
            && let Some(file) = segment::open(segment)?
        {
            let offset = segment::partition(&file, segment.len, &earlier)?;
            if let Some(seq) = record_at(&file, offset, segment.len, |record| record.seq)? {
                return Ok(seq);
            }
        }
        let next = log.segments.get(low).map_or(log.next_seq, |segment| segment.first_seq);
        Ok(LogSeq::new(next))
    }
}

fn is_earlier(time: &str, at: Timestamp) -> bool {
    // A time that is none can not be told from an early one.
    DateTime::parse_from_rfc3339(time).map_or(true, |time| time.timestamp_micros() < at.as_micros())
}

/// The time of a segment's first record; `None` where there is none any more.
fn first(segment: &Segment) -> io::Result<Option<String>> {
    match segment::open(segment)? {
        Some(file) => record_at(&file, 0, segment.len, |record| record.time.to_owned()),
        None => Ok(None),
    }
}

fn record_at<T>(file: &File, offset: u64, len: u64, read: impl Fn(LogRecord<'_>) -> T) -> io::Result<Option<T>> {
    if offset >= len {
        return Ok(None);
    }
    let mut window = vec![0; RECORD_MAX];
    let found = segment::read_some(file, &mut window, offset)?;
    let line = window[..found].split(|b| *b == b'\n').next().unwrap_or_default();
    Ok(LogRecord::parse(line).map(read))
}
