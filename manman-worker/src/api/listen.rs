//! The worker's own listener: a few people and a host, and nobody who could take their places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

/// Most connections at a time: any process of this machine may open some.
const CONNECTIONS_MAX: usize = 512;
/// A connection that has sent no whole head by then is closed.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// What is under way when the worker ends has so long to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// Between two tries where a connection can not be taken: mostly for want of files.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until `closed`; then what is under way may end by itself for a moment.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut closed: watch::Receiver<bool>) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_MAX);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30))).max_concurrent_streams(64);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        // Cancel-safe: a connection that was not taken is still in the queue.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // A sender that is gone closes, too.
            _ = closed.wait_for(|closed| *closed) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the worker's own API could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Closed at once where too many are open.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let begun = Arc::new(AtomicBool::new(false));
        let begins = Arc::clone(&begun);
        let service = TowerToHyperService::new(router.clone().map_request(move |request: http::Request<_>| {
            begins.store(true, Ordering::Relaxed);
            request.map(Body::new)
        }));
        let connection = graceful.watch(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            let _place = place;
            tokio::pin!(connection);
            // The first bytes tell HTTP/1 from HTTP/2, and hyper-util sets no time for those.
            let ended = match tokio::time::timeout(HEAD_WITHIN, &mut connection).await {
                Ok(ended) => ended,
                Err(_) if !begun.load(Ordering::Relaxed) => return,
                Err(_) => connection.await,
            };
            if let Err(error) = ended {
                tracing::debug!(error, "a connection to the worker's own API broke off");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::debug!("a request to the worker's own API did not end in time");
    }
}
