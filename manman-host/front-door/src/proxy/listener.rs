//! A public listener of its own, for an orchestrator that runs alone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
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

use super::{FrontDoor, Outcome};
use crate::orchestrator::respond;

/// A connection that has sent no whole head by then is closed; a handshake has as long.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
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

    /// Serves the front door until `shutdown`.
    pub async fn serve(self, door: FrontDoor, shutdown: CancellationToken) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
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
            let (door, tls, end) = (door.clone(), self.tls.clone(), shutdown.clone());
            tasks.spawn(async move {
                let _permit = permit;
                let _ = stream.set_nodelay(true);
                match tls {
                    None => plain(stream, peer, door, &end).await,
                    Some(config) => {
                        let handshake = TlsAcceptor::from(config).accept(stream);
                        if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_WITHIN, handshake).await {
                            either(stream, peer, door, &end).await;
                        }
                    }
                }
            });
        }
        tasks.close();
        let _ = tokio::time::timeout(GRACE, tasks.wait()).await;
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
async fn plain(stream: TcpStream, peer: SocketAddr, door: FrontDoor, end: &CancellationToken) {
    let service = service_fn(move |request| answer(door.clone(), request, peer, false));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, client = %peer, "a connection ended");
    }
}

async fn either(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr, door: FrontDoor, end: &CancellationToken) {
    let service = service_fn(move |request| answer(door.clone(), request, peer, true));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_header_list_size(64 * 1024)
        .max_concurrent_streams(256)
        .enable_connect_protocol();
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, client = %peer, "a connection ended");
    }
}
