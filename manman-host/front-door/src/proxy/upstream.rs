//! The way to a waifu: resolves at each connect, refuses what nothing is forwarded to, speaks TLS
//! where the target wants it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{Request, Response};
use manman_common::client::pinned_config;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::link::Link;
use crate::clock;
use crate::orchestrator::{Target, is_forbidden};

/// Name, connect and handshake together: on a home's network all of it takes milliseconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Where this process itself listens for the public: forwarding there would go round for ever.
#[derive(Clone, Debug, Default)]
pub struct OwnListeners(Arc<RwLock<Vec<SocketAddr>>>);

impl OwnListeners {
    pub fn add(&self, address: SocketAddr) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(address);
    }

    #[must_use]
    pub fn contains(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let own = self.0.read().unwrap_or_else(PoisonError::into_inner);
        own.iter().any(|own| {
            let listens = own.ip().to_canonical();
            own.port() == address.port() && (listens == ip || (listens.is_unspecified() && is_of_this_machine(ip)))
        })
    }
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("could not look up `{0}`")]
    Lookup(String, #[source] std::io::Error),
    #[error("`{0}` leads to {1}, where nothing is forwarded to")]
    Forbidden(String, SocketAddr),
    #[error("`{0}` leads back to the front door itself")]
    Loop(String),
    #[error("could not connect to `{0}`")]
    Connect(String, #[source] std::io::Error),
    #[error("could not speak TLS with `{0}`")]
    Tls(String, #[source] std::io::Error),
    #[error("`{host}` did not take a connection within {} s", CONNECT_WITHIN.as_secs())]
    Slow { host: String },
}

/// Why a waifu has given no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no connection was had")]
    Connect(#[source] ConnectError),
    #[error("it took too long")]
    Slow,
    #[error("the connection broke")]
    Broke(#[source] hyper::Error),
    #[error("the answer is longer than {ANSWER_MAX} bytes, or ends early")]
    Answer(#[source] axum::BoxError),
}

/// Longest answer to a question of our own, in bytes.
const ANSWER_MAX: usize = 1024 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct Connector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    own: OwnListeners,
    /// Certificates that are vouched for by a hello rather than by an authority, by `host:port`.
    pins: RwLock<HashMap<String, [u8; 32]>>,
    /// Made at the first https target: a machine's authorities take a megabyte.
    verified: OnceLock<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn new(own: OwnListeners) -> Self {
        Self { shared: Arc::new(Shared { own, pins: RwLock::default(), verified: OnceLock::new() }) }
    }

    pub(crate) fn pin(&self, authority: &str, pin: Option<[u8; 32]>) {
        let mut pins = self.shared.pins.write().unwrap_or_else(PoisonError::into_inner);
        match pin {
            Some(pin) => pins.insert(authority.to_owned(), pin),
            None => pins.remove(authority),
        };
    }

    /// Where that host is now; refused as a whole where one of its addresses must not be reached.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => lookup_host((bare, port)).await.map_err(|error| ConnectError::Lookup(bare.to_owned(), error))?.take(8).collect(),
        };
        for address in &addresses {
            if is_forbidden(address.ip()) {
                return Err(ConnectError::Forbidden(bare.to_owned(), *address));
            }
            if self.shared.own.contains(*address) {
                return Err(ConnectError::Loop(bare.to_owned()));
            }
        }
        Ok(addresses)
    }

    /// A fresh connection.
    pub(super) async fn link(&self, target: &Target) -> Result<Link, AskError> {
        let stream = self.connect(target).await.map_err(AskError::Connect)?;
        Link::open(stream).await.map_err(AskError::Broke)
    }

    /// Asks a question of our own, by a connection of its own, and waits so long for the whole answer.
    pub(crate) async fn ask(&self, target: &Target, request: Request<Body>, within: Duration) -> Result<Response<Bytes>, AskError> {
        tokio::time::timeout(within, self.ask_until(target, request, clock::instant() + within)).await.map_err(|_| AskError::Slow)?
    }

    async fn ask_until(&self, target: &Target, request: Request<Body>, end: Instant) -> Result<Response<Bytes>, AskError> {
        let mut link = self.link(target).await?;
        let response = link.send(request, end).await.map_err(|failed| failed.error)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_MAX);
        // Cancel-safe: the body says by itself when the connection has ended.
        let body = tokio::select! {
            biased;
            body = body.collect() => body,
            body = async { link.finish().await; std::future::pending().await } => body,
        };
        let body = body.map_err(AskError::Answer)?.to_bytes();
        Ok(Response::from_parts(head, body))
    }

    async fn connect(&self, target: &Target) -> Result<Stream, ConnectError> {
        let Target { https, host, port, base: _ } = target;
        let connecting = async {
            let tcp = self.tcp(host, *port).await?;
            if !https {
                return Ok(Stream::Plain(tcp));
            }
            let tls = |error| ConnectError::Tls(host.clone(), error);
            let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(name).map_err(|error| tls(std::io::Error::other(error)))?;
            let config = self.tls_config(&target.authority()).map_err(|error| tls(std::io::Error::other(error)))?;
            let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(tls)?;
            Ok(Stream::Tls(Box::new(stream)))
        };
        match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::Slow { host: host.clone() }),
        }
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for address in self.resolve(host, port).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Small answers go at once.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(ConnectError::Connect(host.to_owned(), last))
    }

    fn tls_config(&self, authority: &str) -> Result<Arc<ClientConfig>, rustls::Error> {
        let pin = self.shared.pins.read().unwrap_or_else(PoisonError::into_inner).get(authority).copied();
        if let Some(pin) = pin {
            return pinned_config(pin).map(Arc::new);
        }
        Ok(Arc::clone(self.shared.verified.get_or_init(|| Arc::new(verified_config()))))
    }
}

fn verified_config() -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of this machine's authorities can not be read");
    }
    roots.add_parsable_certificates(found.certs);
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

/// A connection to a waifu.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
