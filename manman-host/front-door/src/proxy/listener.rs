//! A public listener of its own, for an orchestrator that runs alone.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use manman_common::{Kind, Problem};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::deadline::ConnectionTimer;
use super::opening::Opening;
use super::{FrontDoor, Outcome, link};
use crate::orchestrator::respond;

/// A connection that has sent no whole head by then is closed; a handshake has as long.
pub(super) const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;
const CONNECTIONS_MAX: usize = 16_384;
/// What is under way at the end has so long to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// After an accept that failed, as it does when files run out.
const BREATH: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}")]
pub struct ListenError {
    pub address: SocketAddr,
    #[source]
    pub source: std::io::Error,
}

/// A listener that is open already.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
}

impl Listener {
    pub async fn bind(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Result<Self, ListenError> {
        let error = |source| ListenError { address, source };
        let tcp = TcpListener::bind(address).await.map_err(error)?;
        Ok(Self { address: tcp.local_addr().map_err(error)?, tcp, tls })
    }

    /// The real address, port 0 resolved.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the front door until `shutdown`, with a thread for each core: a connection and those to
    /// its waifus stay on one of them, and no core waits for another.
    pub async fn serve(self, door: FrontDoor, shutdown: CancellationToken) {
        let Self { tcp, address, tls } = self;
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(link::SHARDS);
        let failed = |error: std::io::Error| tracing::error!(%error, %address, "a listener could not be shared among threads");
        let tcp = match tcp.into_std() {
            Ok(tcp) => tcp,
            Err(error) => return failed(error),
        };
        let mut ends = Vec::new();
        for shard in 0..threads {
            let acceptor = match tcp.try_clone() {
                Ok(tcp) => Acceptor { tcp, tls: tls.clone(), permits: Arc::clone(&permits) },
                Err(error) => {
                    failed(error);
                    continue;
                }
            };
            let (door, shutdown) = (door.clone(), shutdown.clone());
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            let thread = std::thread::Builder::new().name(format!("front-door-{shard}")).spawn(move || {
                let _end = end;
                link::stay_on(shard);
                match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime.block_on(acceptor.run(door, shutdown)),
                    Err(error) => tracing::error!(%error, "a thread of the front door could not be set up"),
                }
            });
            match thread {
                Ok(_) => ends.push(ended),
                Err(error) => failed(error),
            }
        }
        for ended in ends {
            // It ends by being dropped.
            let _ = ended.await;
        }
    }
}

/// What each thread has.
struct Acceptor {
    tcp: std::net::TcpListener,
    tls: Option<Arc<ServerConfig>>,
    permits: Arc<Semaphore>,
}

impl Acceptor {
    async fn run(self, door: FrontDoor, shutdown: CancellationToken) {
        let Self { tcp, tls, permits } = self;
        let listener = match TcpListener::from_std(tcp) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a thread of the front door can not listen");
                return;
            }
        };
        let (tasks, end) = (TaskTracker::new(), Arc::new(End::default()));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                tracing::warn!(limit = CONNECTIONS_MAX, "a connection is refused: too many are open");
                continue;
            };
            let (door, tls, end) = (door.clone(), tls.clone(), Arc::clone(&end));
            tasks.spawn(async move {
                let _permit = permit;
                let _ = stream.set_nodelay(true);
                match tls {
                    None => plain(stream, peer, door, &end).await,
                    Some(config) => {
                        let handshake = TlsAcceptor::from(config).accept(stream);
                        if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_WITHIN, handshake).await {
                            either(Opening::new(stream), peer, door, &end).await;
                        }
                    }
                }
            });
        }
        end.come();
        tasks.close();
        let _ = tokio::time::timeout(GRACE, tasks.wait()).await;
    }
}

/// That the listener ends, told to its connections. They look at it whenever they are woken, so the
/// look is one of a flag and not of a lock.
#[derive(Default)]
struct End {
    has_come: AtomicBool,
    bell: CancellationToken,
}

impl End {
    fn come(&self) {
        self.has_come.store(true, Ordering::Release);
        self.bell.cancel();
    }

    /// Runs a connection to its end, which `hurry` makes come sooner.
    async fn until<C: Future>(&self, mut connection: Pin<&mut C>, hurry: impl Fn(Pin<&mut C>)) -> C::Output {
        let mut bell = pin!(self.bell.cancelled());
        let (mut listens, mut hurried) = (false, false);
        poll_fn(|cx| {
            // A task keeps its waker: to be woken it is enough to have asked once.
            if !std::mem::replace(&mut listens, true) {
                let _ = bell.as_mut().poll(cx);
            }
            if !hurried && self.has_come.load(Ordering::Acquire) {
                hurried = true;
                hurry(connection.as_mut());
            }
            connection.as_mut().poll(cx)
        })
        .await
    }
}

async fn answer(
    door: FrontDoor,
    request: Request<hyper::body::Incoming>,
    peer: SocketAddr,
    https: bool,
) -> Result<Response<Body>, Infallible> {
    Ok(match door.handle(request.map(Body::new), peer, https).await {
        Outcome::Answer(response) => response,
        Outcome::NotMine(_) => respond(&Problem::new(Kind::NotFound, "there is no such path")),
    })
}

/// HTTP/1 alone: nobody speaks HTTP/2 without TLS to a front door.
async fn plain(stream: TcpStream, peer: SocketAddr, door: FrontDoor, end: &End) {
    let service = service_fn(move |request| answer(door.clone(), request, peer, false));
    let mut builder = http1::Builder::new();
    builder.timer(ConnectionTimer::default()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = end.until(connection.as_mut(), |connection| connection.graceful_shutdown()).await;
    if let Err(error) = ended {
        tracing::debug!(%error, client = %peer, "a connection ended");
    }
}

async fn either(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr, door: FrontDoor, end: &End) {
    let service = service_fn(move |request| answer(door.clone(), request, peer, true));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(ConnectionTimer::default()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_header_list_size(64 * 1024)
        .max_concurrent_streams(256)
        .enable_connect_protocol();
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = end.until(connection.as_mut(), |connection| connection.graceful_shutdown()).await;
    if let Err(error) = ended {
        tracing::debug!(error = %error, client = %peer, "a connection ended");
    }
}
