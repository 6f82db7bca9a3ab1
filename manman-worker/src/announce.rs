//! Being a waifu: the worker itself, and with `manman-worker announce` any program at all.

use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket};
use std::process::ExitStatus;
use std::time::Duration;

use manman_common::client::{Client, ClientError, Endpoint, EndpointError, HELLO_LEASE, Hello, waifu_name};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::api::error_chain;

/// Between two looks whether the program listens yet.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A program that is to be reachable through the front door.
#[derive(Clone, Debug)]
pub struct Announcement {
    pub orchestrator: Endpoint,
    pub name: String,
    /// Where it is; by default this machine's address towards the orchestrator.
    pub host: Option<String>,
    /// Where it listens; none: a free port, which it is told as `PORT`.
    pub port: Option<u16>,
    pub secret: Option<String>,
    pub command: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    #[error("`{0}` can not be made a name: a name is one label of DNS")]
    Name(String),
    #[error("there is no program to run")]
    NoProgram,
    #[error("could not find a free port")]
    Port(#[source] std::io::Error),
    #[error("could not find this machine's address towards the orchestrator; name it with --host")]
    Address,
    #[error("could not run `{program}`")]
    Run { program: String, source: std::io::Error },
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Runs the program, and announces it for as long as it runs and listens.
pub async fn announce(announcement: Announcement, asked_to_end: impl Future<Output = ()>) -> Result<ExitStatus, AnnounceError> {
    let Announcement { orchestrator, name, host, port, secret, command } = announcement;
    let name = waifu_name(&name).ok_or(AnnounceError::Name(name))?;
    let port = match port {
        Some(port) => port,
        None => free_port().map_err(AnnounceError::Port)?,
    };
    let host = host.or_else(|| own_address(&orchestrator).map(|ip| ip.to_string())).ok_or(AnnounceError::Address)?;
    let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let client = Client::new(orchestrator, None)?;
    let (program, arguments) = command.split_first().ok_or(AnnounceError::NoProgram)?;
    let failed = |source| AnnounceError::Run { program: program.clone(), source };
    let mut child = Command::new(program).args(arguments).env("PORT", port.to_string()).spawn().map_err(failed)?;
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let hello = Hello { name, host, expire: HELLO_LEASE, secret };
    // Cancel-safe: a program that ends needs no more announcing, and a lease that is not renewed ends.
    tokio::select! {
        ended = child.wait() => return ended.map_err(failed),
        () = keep_announced(&client, &hello, port) => {}
        () = asked_to_end => {}
    }
    // The program decides how it ends; who wants it to end now sends it the signal that can not be declined.
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    wait(&mut child).await.map_err(failed)
}

async fn wait(child: &mut Child) -> std::io::Result<ExitStatus> {
    child.wait().await
}

async fn keep_announced(client: &Client, hello: &Hello, port: u16) {
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() && TcpStream::connect(&hello.host).await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    say_hello(client, hello).await;
}

/// Says hello for the worker itself, until it is dropped; an orchestrator that is away is asked again.
pub(crate) async fn worker_hello(orchestrator: Endpoint, name: String, advertise: Option<IpAddr>, api: SocketAddr) {
    let Some(name) = waifu_name(&name) else { return };
    let ip = match (advertise, api.ip()) {
        (Some(ip), _) => ip,
        (None, ip) if ip.is_unspecified() => match own_address(&orchestrator) {
            Some(ip) => ip,
            None => return,
        },
        (None, ip) => ip,
    };
    let host = format!("http://{}", SocketAddr::new(ip, api.port()));
    match Client::new(orchestrator, None) {
        Ok(client) => say_hello(&client, &Hello { name, host, expire: HELLO_LEASE, secret: None }).await,
        Err(error) => tracing::error!(error = error_chain(&error), "hello can not be said"),
    }
}

async fn say_hello(client: &Client, hello: &Hello) {
    client
        .keep_hello(hello, |news| match news {
            Ok(welcome) => tracing::info!(waifu.name = hello.name, url = welcome.url, "the front door shows us"),
            Err(error) => {
                tracing::warn!(
                    waifu.name = hello.name,
                    error = error_chain(error),
                    "the orchestrator does not hear our hello; it is said again"
                );
            }
        })
        .await;
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("0.0.0.0", 0))?.local_addr()?.port())
}

/// The address by which the orchestrator sees us; nothing is sent to find it.
fn own_address(orchestrator: &Endpoint) -> Option<IpAddr> {
    let url = orchestrator.url();
    let (host, port) = (url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned(), url.port_or_known_default()?);
    let target = (host.as_str(), port).to_socket_addrs().ok()?.next()?;
    let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
