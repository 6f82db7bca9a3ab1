//! The front door with real sockets: a waifu that records what reaches it, and clients that behave
//! and that do not.

mod bad_input;
mod forwarding;
mod internal_paths;
mod secure;
mod streams;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{FrontDoor, Listener, ProxyConfig};
use crate::orchestrator::{HelloReply, HelloRequest, NoStore, Orchestrator, OrchestratorConfig};

pub(crate) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A waifu: answers with what it saw, and remembers it.
pub(crate) struct TestWaifu {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl TestWaifu {
    pub(crate) async fn start() -> Self {
        Self::with(Router::new()).await
    }

    /// What `routes` do not answer is recorded and echoed.
    pub(crate) async fn with(routes: Router) -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let recorder = Arc::clone(&seen);
        let echo = move |request: Request| {
            let recorder = Arc::clone(&recorder);
            async move { echo(&recorder, request) }
        };
        let router = routes.fallback(echo);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { address, seen, serving }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// From now on nobody listens there.
    pub(crate) async fn stop(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }
}

fn echo(recorder: &Mutex<Vec<String>>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    if request.uri().path() == "/__internal/health" {
        return axum::http::StatusCode::NO_CONTENT.into_response();
    }
    recorder.lock().expect("not poisoned").push(line.clone());
    let mut text = line;
    for (name, value) in request.headers() {
        text.push_str(&format!("\n{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    }
    text.into_response()
}

/// A front door with its orchestrator.
pub(crate) struct TestDoor {
    pub(crate) orchestrator: Arc<Orchestrator>,
    pub(crate) address: SocketAddr,
    _end: DropGuard,
}

impl TestDoor {
    pub(crate) async fn start() -> Self {
        Self::with(OrchestratorConfig::default(), ProxyConfig::default()).await
    }

    pub(crate) async fn with(config: OrchestratorConfig, proxy: ProxyConfig) -> Self {
        let orchestrator = Orchestrator::start(config, Box::new(NoStore)).await.expect("an orchestrator");
        Self::of(orchestrator, proxy).await
    }

    pub(crate) async fn of(orchestrator: Arc<Orchestrator>, proxy: ProxyConfig) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), None).await.expect("a port");
        let address = listener.address();
        orchestrator.own_listeners().add(address);
        orchestrator.set_public_url(&format!("http://{address}"));
        let end = CancellationToken::new();
        tokio::spawn(Arc::clone(&orchestrator).watch(end.clone()));
        tokio::spawn(listener.serve(FrontDoor::new(Arc::clone(&orchestrator), proxy), end.clone()));
        Self { orchestrator, address, _end: end.drop_guard() }
    }

    pub(crate) async fn hello(&self, name: &str, host: impl ToString) -> HelloReply {
        self.say(serde_json::json!({ "name": name, "host": host.to_string() })).await
    }

    pub(crate) async fn say(&self, body: serde_json::Value) -> HelloReply {
        let request: HelloRequest = serde_json::from_value(body).expect("a hello");
        self.orchestrator.hello(PEER, request).await.expect("welcome").0
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: house\r\nConnection: close\r\n\r\n")).await
    }

    /// Sends these bytes and reads until the end.
    pub(crate) async fn raw(&self, bytes: &str) -> Answer {
        raw(self.address, bytes.as_bytes()).await
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The other side may answer, and close, before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut text = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await;
    let _ = reading.expect("an end");
    parse(&String::from_utf8_lossy(&text))
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Looks until `look` says yes, for some seconds at most.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = crate::clock::instant();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(last) if began.elapsed() > Duration::from_secs(15) => panic!("{what}; seen last: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A body that never ends.
pub(crate) fn endless() -> Body {
    let piece = bytes::Bytes::from_static(&[b'x'; 64 * 1024]);
    Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone())))
}

/// A client of somebody's; TLS wants its provider named, used or not.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().build().expect("a client")
}
