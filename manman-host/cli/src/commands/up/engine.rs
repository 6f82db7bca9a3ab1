//! Whether Docker Engine answers on this machine, asked with one plain request over its socket.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const SOCKET: &str = "/var/run/docker.sock";

/// An engine that is alive answers within milliseconds; one that hangs must not hang us.
const PATIENCE: Duration = Duration::from_secs(5);

/// Far above what it answers, far below what would hurt.
const ANSWER_MAX: u64 = 256 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Answers {
        version: String,
    },
    /// It is there, and this user may not talk to it.
    Denied,
    /// Nobody listens.
    Down,
    /// It is elsewhere, and the worker will find out.
    Elsewhere(String),
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "Version")]
    version: String,
}

pub(crate) async fn look() -> Engine {
    let socket = match std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) => PathBuf::from(path),
            None => return Engine::Elsewhere(host),
        },
        None => PathBuf::from(SOCKET),
    };
    match tokio::time::timeout(PATIENCE, get(&socket, "/version")).await {
        Ok(Ok(answer)) => match body(&answer).and_then(|json| serde_json::from_slice::<Version>(json).ok()) {
            Some(Version { version }) => Engine::Answers { version },
            None => Engine::Down,
        },
        Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => Engine::Denied,
        Ok(Err(_)) | Err(_) => Engine::Down,
    }
}

/// Whether the image is there; false where nobody can say.
pub(crate) async fn has_image(image: &str) -> bool {
    let answer = tokio::time::timeout(PATIENCE, get(&PathBuf::from(SOCKET), &format!("/images/{image}/json"))).await;
    matches!(answer, Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200"))
}

/// HTTP/1.0: the answer ends where the connection does, and is not chunked.
async fn get(socket: &PathBuf, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    Some(&answer[end + 4..])
}
