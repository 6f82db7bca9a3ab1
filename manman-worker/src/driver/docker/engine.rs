//! The connection to the engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use super::error;
use crate::driver::{DriverError, DriverErrorKind};

/// For the engine to begin its answer; a container's start with a cold disk was seen to take ten
/// seconds, and the engine serves one image's layers at a time.
const TIMEOUT_SECONDS: u64 = 120;

/// For an engine that is asked whether it is there.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

const USUAL_SOCKET: &str = "/var/run/docker.sock";

#[derive(Clone)]
pub(super) struct Engine {
    socket: Arc<PathBuf>,
    docker: Arc<OnceCell<Docker>>,
}

/// The socket of `DOCKER_HOST`, or the usual one.
pub(super) fn default_socket() -> PathBuf {
    match std::env::var("DOCKER_HOST") {
        // Another scheme is kept as it is, so that the report can say that it is not served.
        Ok(host) if !host.is_empty() => PathBuf::from(host.strip_prefix("unix://").unwrap_or(&host)),
        Ok(_) | Err(_) => PathBuf::from(USUAL_SOCKET),
    }
}

impl Engine {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket: Arc::new(socket), docker: Arc::new(OnceCell::new()) }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The client, once the engine has answered which version it speaks.
    pub(super) async fn docker(&self) -> Result<&Docker, DriverError> {
        self.docker.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Docker, DriverError> {
        let shown = self.socket.display();
        // Tells "no engine", "not allowed" and "does not answer" apart, which the client's errors do not.
        UnixStream::connect(self.socket.as_path()).await.map_err(|source| DriverError {
            kind: DriverErrorKind::Retry,
            what: format!("the Docker engine can not be reached at {shown}"),
            hint: Some(reach_hint(&self.socket, &source)),
            source: Some(source.into()),
        })?;
        let path = self.socket.to_str().ok_or_else(|| error::refused(format!("{shown} is not a socket's name in UTF-8"), None))?;
        let docker = Docker::connect_with_unix(path, TIMEOUT_SECONDS, API_DEFAULT_VERSION)
            .map_err(|source| error::retry(format!("no client for the Docker engine at {shown}"), source))?;
        docker.negotiate_version().await.map_err(|source| error::retry(format!("the Docker engine at {shown} does not answer"), source))
    }

    pub(super) async fn version(&self) -> Result<String, DriverError> {
        let ask = async {
            let version = self.docker().await?.version().await;
            let version = version.map_err(|source| error::retry("the Docker engine does not say its version", source))?;
            Ok(version.version.unwrap_or_else(|| "unknown".to_owned()))
        };
        tokio::time::timeout(REPORT_TIMEOUT, ask).await.unwrap_or_else(|_| {
            Err(error::retry_because(format!("the Docker engine has not answered within {} s", REPORT_TIMEOUT.as_secs())))
        })
    }

    pub(super) async fn inspect(&self, container: &str) -> Result<ContainerInspectResponse, DriverError> {
        let inspected = self.docker().await?.inspect_container(container, None).await;
        inspected.map_err(|source| error::of_container(format!("container {} can not be inspected", short(container)), source))
    }

    pub(super) async fn is_running(&self, container: &str) -> Result<bool, DriverError> {
        Ok(self.inspect(container).await?.state.and_then(|state| state.running).unwrap_or(false))
    }
}

fn reach_hint(socket: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "add this user to the group that owns the socket: `sudo usermod -aG docker $USER`, then log in anew".to_owned()
        }
        _ if socket.to_string_lossy().contains("://") => {
            "only an engine on this machine can be used: unset DOCKER_HOST, or name a `unix://` socket".to_owned()
        }
        std::io::ErrorKind::NotFound => "install Docker, for example with `apt-get install docker.io`".to_owned(),
        _ => "start it, for example with `systemctl start docker`".to_owned(),
    }
}

/// A container's id as people know it.
pub(super) fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}
