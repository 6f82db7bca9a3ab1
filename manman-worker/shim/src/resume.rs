//! Where a log directory's last record ends, and what comes next.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The end of a log.
pub(crate) struct End {
    /// The last segment, to be appended to.
    pub(crate) file: Option<File>,
    pub(crate) size: u64,
    pub(crate) next_seq: u64,
}

/// A segment's last record is looked for in so much of its end.
const LOOK_BACK: u64 = 1024 * 1024;
/// No record is shorter: a digit, a time, a letter, three spaces, a line feed.
const RECORD_MIN: u64 = 35;

pub(crate) fn name(first_seq: u64) -> String {
    format!("{first_seq:020}.log")
}

/// First sequence numbers of the segments, in no order.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A link or a pipe was put there by the game, which in a container may write here.
        if !entry.file_type()?.is_file() {
            continue;
        }
        let entry = entry.file_name();
        let seq = entry.to_str().and_then(|name| name.strip_suffix(".log")).filter(|digits| digits.len() == 20);
        found.extend(seq.and_then(|digits| digits.parse::<u64>().ok()));
    }
    Ok(found)
}

/// Finds the end, and cuts off what a power cut or a kill has left half written behind it.
pub(crate) fn resume(dir: &Path) -> io::Result<End> {
    let Some(first_seq) = segments(dir)?.into_iter().max() else { return Ok(End { file: None, size: 0, next_seq: 1 }) };
    let file = OpenOptions::new().read(true).append(true).open(dir.join(name(first_seq)))?;
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(End { file: Some(file), size, next_seq: first_seq.max(1) });
    }
    let from = size.saturating_sub(LOOK_BACK);
    let mut tail = vec![0; usize::try_from(size - from).unwrap_or(0)];
    file.read_exact_at(&mut tail, from)?;
    // What stands before the first line feed is the end of a record that began before the look.
    let skip = if from == 0 { 0 } else { tail.iter().position(|byte| *byte == b'\n').map_or(tail.len(), |at| at + 1) };
    if let Some((end, seq)) = last_record(&tail[skip..], first_seq) {
        let end = from + (skip + end) as u64;
        if end < size {
            file.set_len(end)?;
        }
        return Ok(End { file: Some(file), size: end, next_seq: seq + 1 });
    }
    if from == 0 {
        file.set_len(0)?;
        return Ok(End { file: Some(file), size: 0, next_seq: first_seq.max(1) });
    }
    // Not one record in so much: the file is left for a person to look at, and a number is taken
    // that none of its records can have.
    Ok(End { file: None, size: 0, next_seq: first_seq + size / RECORD_MIN + 1 })
}

/// Where the last whole record ends, and its number.
fn last_record(tail: &[u8], first_seq: u64) -> Option<(usize, u64)> {
    let mut end = tail.iter().rposition(|byte| *byte == b'\n')? + 1;
    loop {
        let start = tail[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if let Some(seq) = seq_of(&tail[start..end - 1]).filter(|seq| *seq >= first_seq && *seq > 0) {
            return Some((end, seq));
        }
        if start == 0 {
            return None;
        }
        end = start;
    }
}

fn seq_of(line: &[u8]) -> Option<u64> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let seq = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let time = parts.next()?;
    let stream = parts.next()?;
    (time.ends_with(b"Z") && matches!(stream, b"o" | b"e" | b"m") && parts.next().is_some()).then_some(seq)
}
