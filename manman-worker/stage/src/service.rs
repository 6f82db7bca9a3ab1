//! The stage as a program: `manman-worker stage -c urocket-service.yaml`.
//!
//! What is wrong with the file is found before anything listens, and is exit code 78 (EX_CONFIG). The
//! socket at the back is opened before the port at the front, so that no request comes too early.
//! SIGHUP reads the file again and keeps the old one if the new one is wrong; SIGTERM lets what is
//! under way finish, ends the rest, and takes the socket away.

mod connection;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::site::Overrides;
use crate::config::{ConfigError, Site};
use crate::engine::{Engine, OpenError, Options, Policy};
use crate::front::Front;

/// EX_CONFIG of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;
/// Each takes a descriptor and a few KiB.
const CONNECTIONS: usize = 16_384;
/// A request takes up to five descriptors.
const DESCRIPTORS: u64 = 65_536;

#[derive(Debug, clap::Args)]
pub struct StageArgs {
    /// Which path and verb starts what
    #[arg(short, long, value_name = "FILE", default_value = "urocket-service.yaml")]
    pub config: PathBuf,
    /// The OpenAPI file (3.0 or 3.1); wins over the configuration's own
    #[arg(long, value_name = "FILE")]
    pub openapi: Option<PathBuf>,
    /// The front's port; wins over the configuration's, and 0 is any
    #[arg(long)]
    pub port: Option<u16>,
    /// Make every warning an error
    #[arg(long)]
    pub strict: bool,
    /// Say whether it would start, and do not
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the port {address} can not be opened")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("signals can not be listened to")]
    Signals(#[source] std::io::Error),
}

impl StageError {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(EXIT_CONFIG),
            Self::Open(_) | Self::Listen { .. } | Self::Signals(_) => ExitCode::FAILURE,
        }
    }

    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open(OpenError::InUse(_)) => Some("stop the other one, or give this one a `socketpath` of its own"),
            Self::Listen { .. } => Some("choose another with `port` or --port; 0 is any"),
            Self::Config(ConfigError::Strict(_)) => Some("without --strict it is a warning"),
            Self::Config(_) => Some("`manman-worker stage --check -c FILE` looks without starting"),
            Self::Open(_) | Self::Signals(_) => None,
        }
    }
}

/// Runs until SIGTERM or SIGINT. The process must have no children of its own.
pub async fn run(args: StageArgs) -> Result<(), StageError> {
    let overrides = Overrides { openapi: args.openapi, port: args.port, strict: args.strict };
    let site = Site::read(&args.config, &overrides)?;
    for warning in &site.warnings {
        tracing::warn!("{warning}");
    }
    if args.check {
        say(&format!("{} is sound: {} routes", args.config.display(), site.routes.iter().map(|(_, verbs)| verbs.len()).sum::<usize>()));
        return Ok(());
    }
    raise_descriptors();
    let mut terminate = signal(SignalKind::terminate()).map_err(StageError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StageError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StageError::Signals)?;
    let mut options = Options::new(&site.socket);
    (options.alone, options.policy) = (true, policy(&site));
    let engine = Engine::open(options)?;
    let address = site.address;
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(source) => {
            engine.stop().await;
            return Err(StageError::Listen { address, source });
        }
    };
    let address = listener.local_addr().unwrap_or(address);
    let (name, socket, drain) = (site.name.clone(), site.socket.clone(), site.drain);
    let front = Arc::new(Front::new(engine.clone(), site));
    say(&format!("ready {name} http://{address} {}", socket.display()));
    let (connections, ending) = (TaskTracker::new(), CancellationToken::new());
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Cancel-safe: accept is, and signals are levels.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
                    let _ = stream.set_nodelay(true);
                    let connection = connection::serve(front.clone(), stream, peer, ending.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            _ = hangup.recv() => reload(&front, &args.config, &overrides),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    front.draining.store(true, Ordering::Relaxed);
    tracing::info!(processes = engine.in_flight(), "the stage ends; what is under way may finish");
    ending.cancel();
    connections.close();
    let finished = async {
        tokio::join!(connections.wait(), async {
            while engine.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    };
    // Cancel-safe: a second signal means now.
    tokio::select! {
        _ = tokio::time::timeout(drain, finished) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    engine.stop().await;
    Ok(())
}

/// What is under way keeps the file it began with.
fn reload(front: &Front, path: &std::path::Path, overrides: &Overrides) {
    let site = match Site::read(path, overrides) {
        Ok(site) => site,
        Err(error) => {
            tracing::error!(error = %chain(&error), "the new configuration is wrong, the old one stays");
            return;
        }
    };
    let old = front.serving();
    if site.socket != old.site.socket || (site.address != old.site.address && site.address.port() != 0) {
        tracing::warn!("the socket and the port stay as they are until the stage is started anew");
    }
    for warning in &site.warnings {
        tracing::warn!("{warning}");
    }
    front.engine.set_policy(policy(&site));
    front.replace(site);
    tracing::info!("the configuration was read anew");
}

fn policy(site: &Site) -> Policy {
    Policy { reply_uid: site.reply_uid, strict_peer: site.strict_peer, max_body: site.max_body, reply_headers: site.reply_headers.clone() }
}

/// Processes inherit it, and a few old ones walk through all of them, so it is not the most there is.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    if limit.current.is_some_and(|current| current < most) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // Nobody has to listen.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
