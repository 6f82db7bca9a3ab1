//! A whole worker against a small host, over real sockets.

mod api;
mod host;
mod link;
mod standing;
mod trust;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use manman_common::{Generation, ServerId, ServerSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{ExitReason, Ready, RunError, run_with_ready};
use crate::config::{Config, DockerMode};
use host::{JOIN_TOKEN, TestHost};

/// A worker in a task of this test.
struct TestWorker {
    ready: Ready,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<ExitReason, RunError>>,
}

fn config(data: &Path, host: Option<&TestHost>) -> Config {
    let mut config = Config::new(data);
    config.name = "attic".parse().expect("a name");
    config.docker = DockerMode::Off;
    config.host = host.map(|host| host.url().parse().expect("a host's address"));
    config
}

fn joining(data: &Path, host: &TestHost) -> Config {
    Config { join_token: Some(JOIN_TOKEN.to_owned()), ..config(data, Some(host)) }
}

impl TestWorker {
    async fn start(config: Config) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (tell, ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run_with_ready(config, tell, async {
            let _ = stopped.await;
        }));
        match ready.await {
            Ok(ready) => Self { ready, stop, task },
            Err(_) => panic!("the worker did not start: {:?}", task.await),
        }
    }

    async fn stop(self) -> ExitReason {
        let _ = self.stop.send(());
        self.task.await.expect("it does not panic").expect("it ends well")
    }

    /// Waits for it to end by itself.
    async fn ended(self) -> ExitReason {
        let ended = tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("it ends in time");
        ended.expect("it does not panic").expect("it ends well")
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, body).await
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!("authorization: Bearer {}\r\n", self.ready.api_token);
        ask(self.ready.api_address, method, path, &authorization, body).await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    content_type: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// One request over a socket of its own, as any program would send it.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: worker\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    // A refusal may come before the whole body has been taken.
    let _ = socket.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer but {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let lower = head.to_ascii_lowercase();
    let content_type = lower.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default().to_owned();
    Answer { status, content_type, body: body.to_owned() }
}

fn server_id(n: u128) -> ServerId {
    ServerId::from_uuid(Uuid::from_u128(n))
}

/// A server that is not to run: no driver is needed for it.
fn spec(n: u128, generation: u64) -> ServerSpec {
    let json = serde_json::json!({
        "id": server_id(n), "name": format!("server-{n}"), "generation": generation, "desired": "stopped",
        "run": {"game_id": "docker:manman/openarena", "ports": [{"name": "game", "protocol": "udp", "port": 27960}]},
    });
    ServerSpec { generation: Generation::new(generation), ..serde_json::from_value(json).expect("it is a spec") }
}
