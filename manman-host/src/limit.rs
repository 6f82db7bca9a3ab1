//! How many connections a door holds open at once, in all and from one address.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use futures_util::future::BoxFuture;
use manman_front_door::proxy::Opening;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A link and a beat of each of 5,000 workers, and people besides.
const CONNECTIONS_MAX: usize = 16_384;
/// A whole fleet behind one router or one proxy, and still most of the places for everybody else.
const PER_NETWORK_MAX: usize = CONNECTIONS_MAX / 4;

/// An IPv4 address, or the /64 that one IPv6 customer has.
pub(crate) type Network = [u8; 16];

pub(crate) fn network_of(address: IpAddr) -> Network {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

#[derive(Debug)]
struct Places {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_network: HashMap<Network, usize>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where too many are taken.
    fn take(self: &Arc<Self>, network: Network) -> Option<Place> {
        let mut taken = self.lock();
        if taken.all >= self.most || taken.by_network.get(&network).is_some_and(|count| *count >= self.most_of_one) {
            return None;
        }
        taken.all += 1;
        *taken.by_network.entry(network).or_default() += 1;
        Some(Place { places: Arc::clone(self), network })
    }
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    network: Network,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(count) = taken.by_network.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

/// Closes a connection at once where too many are open; counts it until its stream is dropped,
/// WebSockets included.
#[derive(Clone, Debug)]
pub(crate) struct Limited<A> {
    inner: A,
    places: Arc<Places>,
}

impl<A> Limited<A> {
    pub(crate) fn new(inner: A) -> Self {
        Self::at_most(CONNECTIONS_MAX, PER_NETWORK_MAX, inner)
    }

    fn at_most(most: usize, most_of_one: usize, inner: A) -> Self {
        Self { inner, places: Arc::new(Places { most, most_of_one, taken: Mutex::default() }) }
    }
}

impl<S, A> Accept<TcpStream, S> for Limited<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Held<Opening<A::Stream>>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // One whose peer is gone already has no address.
        let peer = stream.peer_addr().map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let Some(place) = self.places.take(network_of(peer)) else {
            tracing::debug!(%peer, "a connection is refused: too many are open, in all or from there");
            return Box::pin(std::future::ready(Err(io::Error::other("too many connections"))));
        };
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            Ok((Held { stream: Opening::new(stream), _place: place }, service))
        })
    }
}

/// A stream with its place among those that may be open.
#[derive(Debug)]
pub(crate) struct Held<T> {
    stream: T,
    _place: Place,
}

impl<T: AsyncRead + Unpin> AsyncRead for Held<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Held<T> {
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
    use axum_server::accept::NoDelayAcceptor;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A stream as a listener gets it, from that address of the loopback.
    async fn stream(from: [u8; 4]) -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this machine");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(socket.connect(address), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    #[tokio::test]
    async fn one_address_leaves_places_for_others_and_gives_back_what_it_had() {
        let limited = Limited::at_most(6, 3, NoDelayAcceptor::new());
        let open = async |from: [u8; 4]| {
            let (near, far) = stream(from).await;
            limited.accept(far, ()).await.map(|(held, ())| (near, held))
        };
        let mut flood = Vec::new();
        for _ in 0..3 {
            flood.push(open([127, 0, 0, 1]).await.expect("a place"));
        }
        assert!(open([127, 0, 0, 1]).await.is_err(), "it has had its share");
        let others = [open([127, 0, 0, 2]).await.expect("a place"), open([127, 0, 0, 3]).await.expect("a place")];
        let _last = open([127, 0, 0, 4]).await.expect("the last place");
        assert!(open([127, 0, 0, 5]).await.is_err(), "all are taken");
        drop(others);
        flood.pop();
        let _again = open([127, 0, 0, 1]).await.expect("what was given back");
        drop(flood);
        assert_eq!(limited.places.lock().by_network.len(), 2, "nothing is kept of who has gone");
    }

    #[test]
    fn a_customer_of_ipv6_is_one() {
        assert_eq!(network_of(ip("2001:db8::1")), network_of(ip("2001:db8::ffff:1")));
        assert_ne!(network_of(ip("2001:db8::1")), network_of(ip("2001:db8:0:1::1")));
        assert_eq!(network_of(ip("192.0.2.1")), network_of(ip("::ffff:192.0.2.1")));
    }
}
