//! One connection at the front: its requests one after the other, and the wait of one that is parked.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::front::{Front, Lot, Parked};

/// For a request's head, so that slow senders do not keep connections.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn serve(front: Arc<Front>, stream: TcpStream, peer: SocketAddr, ending: CancellationToken) {
    let mut io = Reread { before: Bytes::new(), stream };
    let mut lot = Lot::default();
    // What serves is much larger than what waits, and is there only while it serves.
    while let ControlFlow::Continue((parked, back)) = Box::pin(requests(&front, io, lot, peer, &ending)).await {
        // Cancel-safe: the one is a place in a queue, which is given up with the connection.
        lot = tokio::select! {
            lot = parked.turn() => lot,
            () = gone(&back.stream) => return,
        };
        let mut before = BytesMut::with_capacity(parked.head.len() + back.before.len());
        before.extend_from_slice(&parked.head);
        before.extend_from_slice(&back.before);
        io = Reread { before: before.freeze(), ..back };
    }
}

/// Until the connection ends, or a request on it has to wait.
async fn requests(
    front: &Arc<Front>,
    io: Reread,
    lot: Lot,
    peer: SocketAddr,
    ending: &CancellationToken,
) -> ControlFlow<(), (Parked, Reread)> {
    let lot = Arc::new(lot);
    let service = service_fn(|request| {
        let (front, lot) = (front.clone(), lot.clone());
        async move { Ok::<_, std::convert::Infallible>(Box::pin(front.handle(peer, lot, request)).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let mut connection = builder.serve_connection(TokioIo::new(io), service);
    let mut told = false;
    let parked = loop {
        // Cancel-safe: the connection is kept, and the others are levels. It comes first, so that a
        // request that was parked is read before its connection is told to take no more.
        tokio::select! {
            biased;
            _ = &mut connection => return ControlFlow::Break(()),
            parked = lot.parked() => break parked,
            () = ending.cancelled(), if !told => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    let Reread { before, stream } = parts.io.into_inner();
    // Requests that were sent behind the one that waits: what was read of them, and what was put before.
    let behind = if before.is_empty() { parts.read_buf } else { [&parts.read_buf[..], &before[..]].concat().into() };
    ControlFlow::Continue((parked, Reread { before: Bytes::copy_from_slice(&behind), stream }))
}

/// Comes back when nobody is at the other end any more; never, if another request is there already.
async fn gone(stream: &TcpStream) {
    if let Ok(1..) = stream.peek(&mut [0]).await {
        std::future::pending().await
    }
}

/// A connection on which something is to be read once more.
struct Reread {
    before: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Reread {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.before.len().min(buffer.remaining());
        buffer.put_slice(&self.before[..length]);
        self.before.advance(length);
        if self.before.is_empty() {
            self.before = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Reread {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
