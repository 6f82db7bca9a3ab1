//! One worker from its start to its end: what it is made of, and the order in which the parts come
//! up and go down.
//!
//! The reconcile loop starts from SQLite before the host is asked for anything, so that games come
//! up after a reboot whether or not there is a host. The end of a worker is never the end of its
//! games, unless it is drained.

mod error;
pub(crate) mod label;
mod worker;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use manman_common::wire::ProcessIdentity;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, DockerMode};
use crate::driver::Driver;
use crate::driver::docker::{DockerConfig, DockerDriver, ShimParts};
use crate::driver::process::{ProcessDriver, Processes};
use crate::host_link::{self, LinkState, Registration};
use crate::identity::{DataDir, refuse_copy};
use crate::logs::{LogBooks, Retention};
use crate::metrics::Metrics;
use crate::probe::Supervisor;
use crate::reconcile::{LoopClock, Parts, Reconciler};
use crate::standing::Standing;
use crate::store::{Meta, Store};
use crate::{api, clock, find, machine, metrics, room};
pub use error::RunError;
pub(crate) use worker::Worker;

/// A drain waits for stop plans, the longest of which save worlds for minutes; after this the
/// worker goes, and what still lives is adopted by the next.
const DRAIN_MAX: Duration = Duration::from_secs(30 * 60);
/// What is under way when the worker is handed over: a start, a stop.
const HAND_OVER_MAX: Duration = Duration::from_secs(60);
/// For answers that are being written when the listener closes.
const LISTENER_GRACE: Duration = Duration::from_secs(1);

/// Why a worker came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was asked to by a signal, or by whoever runs it; games go on.
    Stopped,
    /// Every server was stopped by its stop plan.
    Drained,
    /// Games go on for the next worker.
    HandedOver,
    /// The host gave it up and can not be reached: its supervisor is to start it afresh.
    Stale,
}

impl ExitReason {
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Stopped | Self::Drained | Self::HandedOver => 0,
            // EX_TEMPFAIL: the same again may do better.
            Self::Stale => 75,
        }
    }
}

/// A worker that is up.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where its own API listens.
    pub api_address: SocketAddr,
    pub api_token: String,
    /// Its standing with the host, as it changes.
    pub link: watch::Receiver<LinkState>,
}

/// Runs a worker until `shutdown` or until it is told to end.
pub async fn run(config: Config, shutdown: impl Future<Output = ()> + Send) -> Result<ExitReason, RunError> {
    run_with_ready(config, oneshot::channel().0, shutdown).await
}

/// The same, and tells when the worker is up.
pub async fn run_with_ready(
    mut config: Config,
    ready: oneshot::Sender<Ready>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<ExitReason, RunError> {
    // It lets in whoever shows it, so it is shown to a host that a person has named, and to no other.
    if config.host.is_none() && config.join_token.take().is_some() {
        tracing::warn!("a join token is of no use without --host: it is shown to no host that was merely found");
    }
    let data_dir = DataDir::open(&config.data_dir)?;
    let process = data_dir.this_process(clock::new_run_id())?;
    let (store, meta) = open_store(&data_dir, &process, &config).await?;
    let api_token = write_api_token(&data_dir, &meta)?;
    let registration = Registration::of(&meta);
    let label = label::label(&data_dir, &config, registration.as_ref()).await?;
    let listener = TcpListener::bind(config.listen).await.map_err(|source| RunError::Listen { address: config.listen, source })?;
    let api_address = listener.local_addr().map_err(|source| RunError::Listen { address: config.listen, source })?;

    let servers_dir = data_dir.path().join("servers");
    let logs = LogBooks::new(&servers_dir, Retention::default());
    recover_restores(data_dir.path()).await?;
    let docker = match config.docker {
        DockerMode::Off => None,
        DockerMode::On | DockerMode::Auto => Some(open_docker(DockerConfig::new(label, &servers_dir), data_dir.path(), &logs).await?),
    };
    if let Some(docker) = &docker {
        docker.set_session_epoch(meta.session_epoch);
    }
    let processes = open_processes(&config, data_dir.path(), &logs).await?;
    let mut drivers: Vec<Arc<dyn Driver>> = vec![Arc::new(processes)];
    drivers.extend(docker.iter().map(|docker| Arc::clone(docker) as Arc<dyn Driver>));
    let (signals, signal_receiver) = crate::reconcile::signals::channel();
    let metrics = Metrics::new(data_dir.path());
    let supervision = Supervisor::new(logs.clone(), signals, metrics.clone());
    let console = supervision.console();
    let (full, hears_full) = watch::channel(false);
    let rooming = AbortOnDropHandle::new(tokio::spawn(room::watch(data_dir.path().to_owned(), full)));
    let parts = Parts {
        store: store.clone(),
        drivers: drivers.clone(),
        supervision,
        signals: signal_receiver,
        clock: LoopClock::real(),
        full: hears_full,
    };
    let (reconcile, reconciling) = Reconciler::spawn(parts).await?;
    let reconciling = AbortOnDropHandle::new(reconciling);

    let worker = Arc::new(Worker::new(worker::WorkerParts {
        data_dir: data_dir.path().to_owned(),
        process,
        api_address,
        api_token,
        store,
        reconcile,
        console,
        logs,
        metrics,
        drivers,
        docker,
        registration,
        revision: meta.observed_revision,
        standing: Standing::of(&meta),
        config,
    }));
    worker.actions.take_over().await?;
    let router = api::router(Arc::clone(&worker));
    worker.calls.serve_with(router.clone());
    let (close, closed) = watch::channel(false);
    let listening = AbortOnDropHandle::new(tokio::spawn(crate::api::listen::serve(listener, router, closed)));
    tracing::info!(worker.name = %worker.config.name, api = %api_address, data = %worker.data_dir.display(), "the worker is up");
    // Nobody may be waiting for it.
    let _ = ready.send(Ready { api_address, api_token: worker.api_token.clone(), link: worker.link_state.subscribe() });

    let sampling = AbortOnDropHandle::new(tokio::spawn(metrics::run(Arc::clone(&worker))));
    let linking = AbortOnDropHandle::new(match worker.config.host.clone() {
        Some(endpoint) => tokio::spawn(host_link::run(Arc::clone(&worker), endpoint)),
        None => tokio::spawn(find::run(Arc::clone(&worker))),
    });
    let announcing = worker.config.orchestrator.clone().map(|orchestrator| {
        let hello = crate::announce::worker_hello(orchestrator, worker.config.name.to_string(), worker.config.advertise, api_address);
        AbortOnDropHandle::new(tokio::spawn(hello))
    });
    let reason = until_end(&worker, reconciling, shutdown).await;
    worker.actions.end().await;
    let reason = reason?;
    drop((linking, announcing, sampling, rooming));
    if reason != ExitReason::Stale {
        host_link::goodbye(&worker).await;
    }
    close.send_replace(true);
    let _ = tokio::time::timeout(LISTENER_GRACE, listening).await;
    tracing::info!(?reason, "the worker ends");
    Ok(reason)
}

/// Waits for whatever ends this worker, and brings a drain to its end.
async fn until_end(
    worker: &Worker,
    reconciling: AbortOnDropHandle<()>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<ExitReason, RunError> {
    let mut ordered = worker.ordered_end();
    let work = async {
        let reason = match ordered.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(ExitReason::Stopped),
            // The worker holds the sender.
            Err(_) => ExitReason::Stopped,
        };
        let (keep_servers, limit) = match reason {
            ExitReason::Drained => (false, DRAIN_MAX),
            ExitReason::HandedOver => (true, HAND_OVER_MAX),
            ExitReason::Stopped | ExitReason::Stale => return reason,
        };
        tracing::info!(keep_servers, "draining");
        match tokio::time::timeout(limit, worker.drain(keep_servers)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = api::error_chain(&error), "the drain failed; what still lives goes on"),
            Err(_) => tracing::error!("the drain took too long; what still lives goes on"),
        }
        reason
    };
    // Cancel-safe: a drain that is cut short leaves games to be adopted.
    tokio::select! {
        reason = work => Ok(reason),
        () = shutdown => Ok(ExitReason::Stopped),
        ended = reconciling => match ended {
            Ok(()) => Err(RunError::LoopEnded),
            Err(source) => Err(RunError::LoopBroke { source }),
        },
    }
}

/// Before anything could be started on files that are half swapped.
async fn recover_restores(data_dir: &std::path::Path) -> Result<(), RunError> {
    let path = data_dir.to_owned();
    let recovered = tokio::task::spawn_blocking(move || crate::action::recover(&path)).await;
    let recovered = recovered.map_err(|source| RunError::LoopBroke { source })?;
    recovered.map_err(|source| RunError::File { path: data_dir.join("servers"), source })
}

/// Takes over the containers that have our shim in front.
async fn open_docker(mut config: DockerConfig, data_dir: &std::path::Path, logs: &LogBooks) -> Result<Arc<DockerDriver>, RunError> {
    let (path, books, runtime) = (data_dir.to_owned(), logs.clone(), tokio::runtime::Handle::current());
    let opened = tokio::task::spawn_blocking(move || {
        let _entered = runtime.enter();
        config.shim = Some(ShimParts { program: crate::driver::unpack_shim(&path)?, books });
        let docker = DockerDriver::new(config);
        docker.take_over_boxes()?;
        Ok(Arc::new(docker))
    });
    let opened: std::io::Result<_> = opened.await.map_err(|source| RunError::LoopBroke { source })?;
    opened.map_err(|source| RunError::File { path: data_dir.join("libexec"), source })
}

/// Takes over what runs as a process, before anybody else could write into its log.
async fn open_processes(config: &Config, data_dir: &std::path::Path, logs: &LogBooks) -> Result<Processes, RunError> {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let steam = manman_steam::Steam::new(config.steam(home.as_deref()));
    let (path, logs, runtime) = (data_dir.to_owned(), logs.clone(), tokio::runtime::Handle::current());
    let opened = tokio::task::spawn_blocking(move || {
        let _entered = runtime.enter();
        ProcessDriver::open(&path, logs, steam)
    });
    let opened = opened.await.map_err(|source| RunError::LoopBroke { source })?;
    let driver = opened.map_err(|source| RunError::File { path: data_dir.join("servers"), source })?;
    Ok(Processes(Arc::new(driver)))
}

async fn open_store(data_dir: &DataDir, process: &ProcessIdentity, config: &Config) -> Result<(Store, Meta), RunError> {
    let path = data_dir.path().to_owned();
    let opened = tokio::task::spawn_blocking(move || Store::open(&path)).await.map_err(|source| RunError::LoopBroke { source })??;
    if let Some(aside) = &opened.set_aside {
        tracing::error!(
            path = %aside.path.display(),
            reason = aside.reason,
            "the worker's database was damaged and has been set aside; what runs is adopted, and the host says again what should be"
        );
    }
    let store = opened.store;
    let machine = machine::this_machine(data_dir.path());
    if let Some(last) = store.meta().await?.process {
        refuse_copy(process, &last)?;
    }
    let (process, name) = (process.clone(), config.name.clone());
    let meta = store
        .update_meta(move |meta| {
            meta.process = Some(process);
            meta.name = Some(name);
            // Before anything could be started: on another machine nothing is.
            meta.trust.started_on(machine);
            if meta.worker_id.is_none() {
                meta.token.get_or_insert_with(|| clock::new_token("worker"));
            }
            meta.api_token.get_or_insert_with(|| clock::new_token("api"));
        })
        .await?;
    if let Some((text, hint)) = Standing::of(&meta).attention(config.name.as_str()) {
        tracing::warn!(hint, "{text}");
    }
    Ok((store, meta))
}

/// Puts the token of the worker's own API where its machine's owner finds it.
fn write_api_token(data_dir: &DataDir, meta: &Meta) -> Result<String, RunError> {
    use std::io::Write as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

    let token = meta.api_token.clone().unwrap_or_default();
    let path = data_dir.path().join("api-token");
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        writeln!(file, "{token}")
    };
    write().map_err(|source| RunError::File { path: path.clone(), source })?;
    Ok(token)
}

#[cfg(test)]
mod tests;
