//! What a process prints: drained at once and to the end, so that it is never kept waiting.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::history::Record;
use super::{Event, Stream};

/// Kept of each stream.
const RING: usize = 64 << 10;
/// A longer line is cut in pieces.
const LINE: usize = 16 << 10;
/// What a 502 tells of stderr.
const TAIL: usize = 2 << 10;
/// As much as a pipe holds.
const CHUNK: usize = 64 << 10;

#[derive(Debug, Default)]
pub(crate) struct Logs {
    stdout: Ring,
    stderr: Ring,
}

/// The end of a stream.
#[derive(Debug, Default)]
struct Ring {
    bytes: BytesMut,
    dropped: u64,
}

impl Ring {
    fn push(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(RING)..];
        let over = (self.bytes.len() + chunk.len()).saturating_sub(RING);
        let _ = self.bytes.split_to(over.min(self.bytes.len()));
        self.bytes.extend_from_slice(chunk);
    }

    fn add(&mut self, chunk: &[u8]) {
        let before = self.bytes.len() + chunk.len();
        self.push(chunk);
        self.dropped += (before - self.bytes.len()) as u64;
    }
}

impl Logs {
    fn add(&mut self, stream: Stream, chunk: &[u8]) {
        match stream {
            Stream::Stdout => self.stdout.add(chunk),
            Stream::Stderr => self.stderr.add(chunk),
        }
    }

    pub(crate) fn tell(&self, record: &mut Record) {
        record.stdout = String::from_utf8_lossy(&self.stdout.bytes).into_owned();
        record.stderr = String::from_utf8_lossy(&self.stderr.bytes).into_owned();
        (record.stdout_dropped, record.stderr_dropped) = (self.stdout.dropped, self.stderr.dropped);
    }

    pub(crate) fn stderr_tail(&self) -> String {
        let tail = &self.stderr.bytes[self.stderr.bytes.len().saturating_sub(TAIL)..];
        String::from_utf8_lossy(tail).into_owned()
    }
}

/// Where the bytes of one stream go.
pub(crate) struct Sink {
    pub(crate) id: Uuid,
    pub(crate) label: String,
    pub(crate) stream: Stream,
    pub(crate) logs: Arc<Mutex<Logs>>,
    /// Whether lines are logged.
    pub(crate) log: bool,
    pub(crate) events: Option<mpsc::Sender<Event>>,
    /// Keep it all, up to so many bytes: it is the answer.
    pub(crate) whole: Option<usize>,
}

/// Reads to the end; all of it if that was asked for, and `None` if it was too much.
pub(crate) async fn drain(descriptor: OwnedFd, mut sink: Sink) -> Option<Bytes> {
    let mut whole = Some(BytesMut::new());
    let mut line = Vec::new();
    let Ok(pipe) = pipe::Receiver::from_owned_fd(descriptor) else { return Some(Bytes::new()) };
    // Cancel-safe: nothing is read before the pipe says that there is something.
    while pipe.readable().await.is_ok() {
        match read_some(&pipe, &mut sink, &mut line, &mut whole) {
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(false) | Err(_) => break,
        }
    }
    if !line.is_empty() {
        sink.line(&line);
    }
    whole.map(BytesMut::freeze)
}

/// `false` at the end. The buffer is on the stack for the moment of a read, and not in the task.
fn read_some(pipe: &pipe::Receiver, sink: &mut Sink, line: &mut Vec<u8>, whole: &mut Option<BytesMut>) -> io::Result<bool> {
    let mut buffer = [0; CHUNK];
    let length = pipe.try_read(&mut buffer)?;
    let chunk = &buffer[..length];
    sink.logs.lock().unwrap_or_else(PoisonError::into_inner).add(sink.stream, chunk);
    if let Some(limit) = sink.whole {
        match whole {
            Some(bytes) if bytes.len() + length <= limit => bytes.extend_from_slice(chunk),
            _ => *whole = None,
        }
    }
    if sink.log || sink.events.is_some() {
        sink.lines(line, chunk);
    }
    Ok(length > 0)
}

impl Sink {
    fn lines(&mut self, open: &mut Vec<u8>, chunk: &[u8]) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while open.len() + piece.len() > LINE {
                let (head, tail) = piece.split_at(LINE - open.len());
                open.extend_from_slice(head);
                self.line(open);
                open.clear();
                piece = tail;
            }
            open.extend_from_slice(piece);
            if open.last() == Some(&b'\n') {
                open.pop();
                self.line(open);
                open.clear();
            }
        }
    }

    fn line(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if self.log {
            tracing::info!(request.id = %self.id, request.label = %self.label, stream = self.stream.as_str(), "{text}");
        }
        if let Some(events) = &self.events {
            // A reader that is behind misses some; the process is not kept waiting for it.
            let _ = events.try_send(Event::Line { stream: self.stream, text: text.into_owned() });
        }
    }
}

/// Writes the payload and closes. A process that does not want it is no error.
pub(crate) async fn feed(descriptor: OwnedFd, payload: Bytes) {
    let Ok(mut pipe) = pipe::Sender::from_owned_fd(descriptor) else { return };
    let _ = pipe.write_all(&payload).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_end_and_counts_the_rest() {
        let mut ring = Ring::default();
        ring.add(b"begin");
        ring.add(&vec![b'x'; RING]);
        ring.add(b"end");
        assert_eq!((ring.bytes.len(), ring.dropped), (RING, 8));
        assert!(ring.bytes.ends_with(b"xend"));
        ring.add(&vec![b'y'; 3 * RING]);
        assert_eq!((ring.bytes.len(), ring.dropped), (RING, 8 + 3 * RING as u64));
    }

    #[tokio::test]
    async fn long_lines_are_cut_and_the_last_one_is_kept() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (events, mut seen) = mpsc::channel(64);
        let sink = Sink {
            id: Uuid::nil(),
            label: String::new(),
            stream: Stream::Stdout,
            logs: Arc::default(),
            log: false,
            events: Some(events),
            whole: Some(100_000),
        };
        let reading = tokio::spawn(drain(reader.into(), sink));
        let mut text = vec![b'a'; LINE + 10];
        text.extend_from_slice(b"\nsecond\r\nlast");
        feed(writer.into(), text.clone().into()).await;
        assert_eq!(reading.await.expect("it ends").expect("it fits"), text);
        let mut lines = Vec::new();
        while let Ok(Event::Line { text, .. }) = seen.try_recv() {
            lines.push(text);
        }
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE, 10, 6, 4]);
        assert_eq!(lines[2..], ["second", "last"]);
    }
}
