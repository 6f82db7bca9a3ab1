//! How long the first word on a connection is waited for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::listener::HEAD_WITHIN;

/// What HTTP/2 begins with. A server of both protocols tells them apart by these bytes, and hyper-util
/// sets no time for that.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that ends with `TimedOut` where its peer does not say within 10 s which protocol it speaks.
/// From there on the protocol's own times hold.
#[derive(Debug)]
pub struct Opening<T> {
    stream: T,
    undecided: Option<Undecided>,
}

#[derive(Debug)]
struct Undecided {
    /// Bytes that have come, each as in the preface.
    heard: usize,
    over: Pin<Box<Sleep>>,
}

impl Undecided {
    /// Whether it may be either protocol after these, too.
    fn goes_on(&mut self, bytes: &[u8]) -> bool {
        let missing = &PREFACE[self.heard..];
        self.heard += bytes.len();
        !bytes.is_empty() && bytes.len() < missing.len() && missing.starts_with(bytes)
    }
}

impl<T> Opening<T> {
    pub fn new(stream: T) -> Self {
        Self::within(HEAD_WITHIN, stream)
    }

    fn within(limit: Duration, stream: T) -> Self {
        Self { stream, undecided: Some(Undecided { heard: 0, over: Box::pin(tokio::time::sleep(limit)) }) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Opening<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, undecided } = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(stream).poll_read(cx, buffer);
        let Some(opening) = undecided else { return read };
        if read.is_pending() {
            ready!(opening.over.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was said on the connection")));
        }
        if !opening.goes_on(&buffer.filled()[before..]) {
            *undecided = None;
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Opening<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn whoever_does_not_begin_to_speak_is_not_waited_for() {
        for silent in [&PREFACE[..0], &PREFACE[..1], &PREFACE[..PREFACE.len() - 1]] {
            let (mut client, server) = tokio::io::duplex(64);
            let mut opening = Opening::within(Duration::ZERO, server);
            client.write_all(silent).await.expect("it is sent");
            let mut heard = Vec::new();
            let end = opening.read_to_end(&mut heard).await.expect_err("its client has not gone");
            assert_eq!((heard.as_slice(), end.kind()), (silent, io::ErrorKind::TimedOut));
        }
    }

    #[tokio::test]
    async fn whoever_has_begun_to_speak_has_the_time_of_the_protocol() {
        for decided in [PREFACE, b"G", b"PRx", b"GET / HTTP/1.1\r\n\r\n"] {
            for pieces in [1, decided.len()] {
                let (mut client, server) = tokio::io::duplex(64);
                let mut opening = Opening::new(server);
                for piece in decided.chunks(decided.len() / pieces) {
                    client.write_all(piece).await.expect("it is sent");
                    let mut heard = vec![0; piece.len()];
                    opening.read_exact(&mut heard).await.expect("it is heard");
                }
                assert!(opening.undecided.is_none(), "after {decided:?} in {pieces}");
            }
        }
    }
}
