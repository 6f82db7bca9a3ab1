//! The engine's framing of a container's log: 8 bytes of head (stream, three zeros, length in big
//! endian), then a time, a space, and the text. A terminal's log has no heads, one record per line.

use bytes::{Buf, Bytes, BytesMut};
use manman_common::logs::LogStream;

/// The engine writes each time with nine digits and in UTC, so that times compare as text.
pub(super) const TIME_LENGTH: usize = "2026-11-20T12:00:00.123456789Z".len();

/// The engine cuts lines at 16 KiB; a frame far above that is no frame.
const FRAME_MAX: usize = 1024 * 1024;

/// A terminal's line that never ends is cut here.
const TTY_LINE_MAX: usize = manman_common::logs::LINE_MAX;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) stream: LogStream,
    pub(super) time: Time,
    pub(super) text: Bytes,
}

pub(super) type Time = [u8; TIME_LENGTH];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Heads,
    Lines,
}

#[derive(Debug, thiserror::Error)]
#[error("the engine's log stream is not in its known form: {0}")]
pub(super) struct FrameError(&'static str);

/// Takes the first whole record off the buffer.
pub(super) fn next(buffer: &mut BytesMut, framing: Framing) -> Result<Option<Record>, FrameError> {
    match framing {
        Framing::Heads => next_frame(buffer),
        Framing::Lines => next_line(buffer),
    }
}

fn next_frame(buffer: &mut BytesMut) -> Result<Option<Record>, FrameError> {
    let Some(&[stream, 0, 0, 0, a, b, c, d]) = buffer.first_chunk::<8>() else {
        return if buffer.len() < 8 { Ok(None) } else { Err(FrameError("a frame's head has no zeros")) };
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > FRAME_MAX {
        return Err(FrameError("a frame is too long"));
    }
    if buffer.len() < 8 + length {
        return Ok(None);
    }
    buffer.advance(8);
    let payload = buffer.split_to(length).freeze();
    let stream = match stream {
        1 => LogStream::Stdout,
        2 => LogStream::Stderr,
        // An error of the engine's own, in words.
        3 => return Err(FrameError("the engine has put an error into it")),
        _ => return Err(FrameError("a frame is of no known stream")),
    };
    record(stream, payload).map(Some)
}

fn next_line(buffer: &mut BytesMut) -> Result<Option<Record>, FrameError> {
    let most = TIME_LENGTH + 1 + TTY_LINE_MAX;
    let line = match buffer.iter().take(most + 1).position(|b| *b == b'\n') {
        Some(end) => {
            let line = buffer.split_to(end).freeze();
            buffer.advance(1);
            line
        }
        None if buffer.len() > most => buffer.split_to(most).freeze(),
        None => return Ok(None),
    };
    record(LogStream::Stdout, line).map(Some)
}

fn record(stream: LogStream, payload: Bytes) -> Result<Record, FrameError> {
    let Some((time, rest)) = payload.split_first_chunk::<TIME_LENGTH>() else { return Err(FrameError("a record is too short")) };
    if rest.first() != Some(&b' ') || time[TIME_LENGTH - 1] != b'Z' || time[10] != b'T' {
        return Err(FrameError("a record does not begin with a time"));
    }
    let time = *time;
    let mut end = payload.len();
    if end > TIME_LENGTH + 1 && payload[end - 1] == b'\n' {
        end -= 1;
    }
    if end > TIME_LENGTH + 1 && payload[end - 1] == b'\r' {
        end -= 1;
    }
    Ok(Record { stream, time, text: payload.slice(TIME_LENGTH + 1..end) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-20T12:00:00.123456789Z";

    fn frame(stream: u8, text: &[u8]) -> Vec<u8> {
        let mut payload = format!("{TIME} ").into_bytes();
        payload.extend_from_slice(text);
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        frame.extend_from_slice(&payload);
        frame
    }

    #[test]
    fn frames_come_out_whole_wherever_they_are_cut() {
        let bytes = [frame(1, b"one\n"), frame(2, b"two\r\n"), frame(1, b"\n"), frame(1, b" \x01\xff part")].concat();
        for cut in 0..bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let mut texts = Vec::new();
            while let Some(record) = next(&mut buffer, Framing::Heads).expect("sound") {
                texts.push((record.stream, record.text));
            }
            buffer.extend_from_slice(&bytes[cut..]);
            while let Some(record) = next(&mut buffer, Framing::Heads).expect("sound") {
                assert_eq!(&record.time[..], TIME.as_bytes());
                texts.push((record.stream, record.text));
            }
            let expected: [(LogStream, &[u8]); 4] = [
                (LogStream::Stdout, b"one"),
                (LogStream::Stderr, b"two"),
                (LogStream::Stdout, b""),
                (LogStream::Stdout, b" \x01\xff part"),
            ];
            assert_eq!(texts.iter().map(|(stream, text)| (*stream, &text[..])).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_terminals_lines_may_begin_with_anything() {
        let mut buffer = BytesMut::from(format!("{TIME} \x01\x02colour\r\n{TIME} half").as_bytes());
        let record = next(&mut buffer, Framing::Lines).expect("sound").expect("a line");
        assert_eq!(&record.text[..], b"\x01\x02colour");
        assert_eq!(next(&mut buffer, Framing::Lines).expect("sound"), None);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        for bad in [&b"HTTP/1.0 200 OK"[..], &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], &frame(7, b"x"), &[1, 0, 0, 0, 0, 0, 0, 1, b'x']] {
            assert!(next(&mut BytesMut::from(bad), Framing::Heads).is_err(), "{bad:?}");
        }
    }
}
