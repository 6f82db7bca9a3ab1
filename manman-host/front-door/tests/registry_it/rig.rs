//! A registry that listens, and a client that chooses the address it comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Once;
use std::time::Duration;

use axum::Router;
use manman_front_door::registry::{Clock, Keep, Registry, RegistryConfig, routes};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Rig {
    pub(crate) registry: Registry,
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    run: JoinHandle<()>,
    _served: AbortOnDrop,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// No limit on how often, so that tests can hurry; each has its own where it matters.
pub(crate) fn config() -> RegistryConfig {
    RegistryConfig { requests_per_second: 1_000_000, ..RegistryConfig::default() }
}

pub(crate) async fn rig() -> Rig {
    Rig::start(config(), Keep::Nowhere, Clock::real()).await
}

impl Rig {
    pub(crate) async fn start(config: RegistryConfig, keep: Keep, clock: Clock) -> Self {
        Self::bind("127.0.0.1:0", config, keep, clock).await
    }

    pub(crate) async fn bind(bind: &str, config: RegistryConfig, keep: Keep, clock: Clock) -> Self {
        static RING: Once = Once::new();
        RING.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let registry = Registry::with_clock(config, keep, clock);
        registry.restore().await.expect("what was kept is read");
        let listener = TcpListener::bind(bind).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router: Router = routes(registry.clone()).split_for_parts().0;
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let served = tokio::spawn(async move { axum::serve(listener, service).await.expect("it serves") });
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(registry.clone().run(shutdown.clone()));
        Self { registry, address, shutdown, run, _served: AbortOnDrop(served) }
    }

    /// Ends in good order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.run.await.expect("it ends");
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(None, "GET", path, &[], "").await
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> Answer {
        self.ask(None, "PUT", path, &[], body).await
    }

    /// PUT from an address of one's own choice; 127.0.0.0/8 is all this machine.
    pub(crate) async fn put_from(&self, from: &str, path: &str, body: &str) -> Answer {
        self.ask(Some(from.parse().expect("an address")), "PUT", path, &[], body).await
    }

    pub(crate) async fn ask(&self, from: Option<SocketAddr>, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let stream = self.connect(from).await;
        exchange(stream, self.address, method, path, headers, body).await
    }

    pub(crate) async fn connect(&self, from: Option<SocketAddr>) -> TcpStream {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.expect("a socket");
        if let Some(from) = from {
            socket.set_reuseaddr(true).expect("reuse");
            socket.bind(from).expect("the address is free");
        }
        socket.connect(self.address).await.expect("it listens")
    }

    /// Waits until `GET path` answers as `good` likes it.
    pub(crate) async fn until(&self, path: &str, within: Duration, good: impl Fn(&Answer) -> bool) -> Answer {
        let begun = tokio::time::Instant::now();
        loop {
            let answer = self.get(path).await;
            if good(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < within, "{path} still answers {} {}", answer.status, answer.body);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) async fn exchange(
    mut stream: TcpStream,
    host: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("it answers in time").expect("it answers");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"));
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A port on which nobody listens.
pub(crate) async fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port").local_addr().expect("an address").port()
}

/// An address of this machine that is not loopback, where it has one.
pub(crate) fn lan_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}
