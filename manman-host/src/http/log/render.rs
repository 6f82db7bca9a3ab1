//! Records as people and programs read them.

use bytes::Bytes;
use manman_common::logs::{LogMessage, records};
use manman_common::{LogSeq, logs};

/// One JSON message with the lines of a chunk; `None` where there are none.
pub(super) fn lines(chunk: &[u8]) -> Option<LogMessage> {
    let items: Vec<_> = records(chunk).map(|record| record.to_line()).collect();
    (!items.is_empty()).then_some(LogMessage::Lines { items })
}

pub(super) fn json(message: &LogMessage) -> String {
    // All keys are text and all numbers finite: a message can always be written.
    serde_json::to_string(message).unwrap_or_default()
}

/// One line of JSON for each line of the log.
pub(super) fn ndjson(chunk: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(chunk.len() * 2);
    for record in records(chunk) {
        // Writing into a Vec can not fail.
        let _ = serde_json::to_writer(&mut out, &record.to_line());
        out.push(b'\n');
    }
    out.into()
}

/// The lines as the game has printed them, or with their times before them.
pub(super) fn plain(chunk: &[u8], times: bool) -> Bytes {
    let mut out = Vec::with_capacity(chunk.len());
    for record in records(chunk) {
        if times {
            out.extend_from_slice(record.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(record.text);
        out.push(b'\n');
    }
    out.into()
}

/// The number of the last line of a chunk: where a reader goes on that comes back.
pub(super) fn last_seq(chunk: &[u8]) -> Option<LogSeq> {
    let line = chunk.strip_suffix(b"\n").unwrap_or(chunk).rsplit(|byte| *byte == b'\n').next()?;
    logs::LogRecord::parse(line).map(|record| record.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: &[u8] = b"7 2026-11-20T12:00:00.000000001Z o hello\n8 2026-11-20T12:00:00.000000002Z e \x1b[31mred \xff\n";

    #[test]
    fn a_chunk_reads_as_json_as_lines_and_as_text() {
        let message = lines(CHUNK).expect("two lines");
        let json = json(&message);
        assert!(
            json.starts_with(
                r#"{"type":"lines","items":[{"seq":7,"time":"2026-11-20T12:00:00.000000001Z","stream":"stdout","text":"hello"}"#
            ),
            "{json}"
        );
        let ndjson = ndjson(CHUNK);
        assert_eq!(ndjson.iter().filter(|byte| **byte == b'\n').count(), 2);
        assert_eq!(&plain(CHUNK, false)[..], b"hello\n\x1b[31mred \xff\n");
        assert!(plain(CHUNK, true).starts_with(b"2026-11-20T12:00:00.000000001Z hello\n"));
        assert_eq!(last_seq(CHUNK), Some(LogSeq::new(8)));
        assert_eq!(lines(b""), None);
        assert_eq!(last_seq(b""), None);
    }
}
