//! Games in Docker containers. Everything here is asked of the engine anew: the only memory is a
//! cache of what can not change, so that a worker may die at any line.
//!
//! A worker looks at the containers that carry its own label and at no others. The engine is
//! reached by its Unix socket alone: the servers' directories are bind mounts, so it has to be on
//! this machine.

mod base;
mod boxed;
mod build;
mod create;
mod engine;
mod error;
mod events;
mod fields;
mod files;
mod follow;
mod frames;
mod image;
mod jsonfile;
mod observe;
mod output;
mod ports;
mod resume;
mod start;
mod stdin;
mod stop;
mod usage;
mod volumes;

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use manman_common::spec::{StopMode, StopRung};
use manman_common::status::{ExitRecord, Usage};
use manman_common::wire::DriverReport;
use manman_common::{InstallMethod, InstanceId, ServerId, ServerSpec, SessionEpoch, WorkerId};
use manman_worker_core::{Instance, InstanceRef};
use tokio::sync::Notify;

use crate::logs::{LogBook, LogBooks};

use super::erase::erase;
use super::shim::held::Holds;
use super::shim::lease::{self, Granted};
use super::shim::{blocking, fence};
use super::{Driver, DriverError, Lease, OutputBatch, OutputCursor, ProgressSink, RungSink, Stops};

/// The shim's program, and the logs that shims write.
#[derive(Clone)]
pub struct ShimParts {
    pub program: PathBuf,
    pub books: LogBooks,
}

impl std::fmt::Debug for ShimParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShimParts").field("program", &self.program).finish_non_exhaustive()
    }
}

/// How to reach the engine, and for whom.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// Whose containers these are; it never changes over the life of a data directory.
    pub worker: WorkerId,
    /// The directory that holds one directory per server.
    pub servers_dir: PathBuf,
    /// `DOCKER_HOST` where it is set, else the usual socket.
    pub socket: PathBuf,
    /// What a container gets whose definition wants our shim in front.
    pub shim: Option<ShimParts>,
}

impl DockerConfig {
    #[must_use]
    pub fn new(worker: WorkerId, servers_dir: impl Into<PathBuf>) -> Self {
        Self { worker, servers_dir: servers_dir.into(), socket: engine::default_socket(), shim: None }
    }
}

pub struct DockerDriver {
    config: DockerConfig,
    engine: engine::Engine,
    session_epoch: AtomicU64,
    changes: Arc<Notify>,
    installs: image::Installs,
    seen: Arc<observe::Seen>,
    consoles: stdin::Consoles,
    samples: usage::Samples,
    holds: Holds,
    leases: Granted,
    /// Ends the watch of the engine's events when the driver goes.
    _events: events::Watch,
}

impl DockerDriver {
    /// Begins to watch the engine's events; needs a running tokio. That the engine is away is no
    /// error here: each call says so, and it is looked for again.
    #[must_use]
    pub fn new(config: DockerConfig) -> Self {
        let engine = engine::Engine::new(config.socket.clone());
        let changes = Arc::new(Notify::new());
        let holds = Holds::new(Arc::clone(&changes));
        let seen = Arc::new(observe::Seen::default());
        let watch = events::Watch::start(engine.clone(), config.worker, Arc::clone(&changes), Arc::clone(&seen));
        Self {
            config,
            engine,
            session_epoch: AtomicU64::new(0),
            changes,
            installs: image::Installs::default(),
            seen,
            consoles: stdin::Consoles::default(),
            samples: usage::Samples::default(),
            holds,
            leases: Granted::default(),
            _events: watch,
        }
    }

    /// The session that containers made from now on are labelled with.
    pub fn set_session_epoch(&self, epoch: SessionEpoch) {
        self.session_epoch.store(epoch.get(), Ordering::Relaxed);
    }

    fn server_dir(&self, server: ServerId) -> PathBuf {
        self.config.servers_dir.join(server.to_string())
    }
}

#[async_trait]
impl Driver for DockerDriver {
    fn method(&self) -> InstallMethod {
        InstallMethod::Docker
    }

    async fn report(&self) -> DriverReport {
        match self.engine.version().await {
            Ok(version) => DriverReport { method: InstallMethod::Docker, ready: true, version: Some(version), problem: None },
            Err(error) => {
                let problem = match &error.hint {
                    Some(hint) => format!("{}; {hint}", error::chain(&error)),
                    None => error::chain(&error),
                };
                DriverReport { method: InstallMethod::Docker, ready: false, version: None, problem: Some(problem) }
            }
        }
    }

    fn changes(&self) -> Arc<Notify> {
        Arc::clone(&self.changes)
    }

    async fn list(&self) -> Result<Vec<Instance>, DriverError> {
        self.list_own().await
    }

    fn install_key(&self, spec: &ServerSpec) -> String {
        image::install_key(spec)
    }

    async fn install(&self, spec: &ServerSpec, progress: ProgressSink) -> Result<(), DriverError> {
        self.install_image(spec, &progress).await
    }

    fn want_newest(&self, server: ServerId) {
        self.installs.want_newest(server);
    }

    async fn build_of(&self, spec: &ServerSpec) -> Option<String> {
        let wanted = image::Wanted::of(spec).ok()?;
        image::inspect(&self.engine, &wanted.image).await.ok()??.id
    }

    async fn start(&self, spec: &ServerSpec, instance: InstanceId) -> Result<InstanceRef, DriverError> {
        self.start_instance(spec, instance).await
    }

    async fn grant_lease(&self, server: ServerId, live: Option<&Instance>, lease: Option<Lease>) -> Result<(), DriverError> {
        self.leases.put(server, lease);
        let Some(instance) = live else { return Ok(()) };
        match self.held_box(instance).await? {
            Some(held) => lease::tell(&held, lease).await,
            None if lease.is_none() => Ok(()),
            None => Err(error::refused(
                "a lease needs our shim in front of the game, and this container runs without it: it goes on without a lease",
                Some("give its definition `docker.shim: true` and restart it, or take the lease away"),
            )),
        }
    }

    async fn stop(&self, instance: &Instance, ladder: &[StopRung], mode: StopMode, rung: RungSink) -> Result<ExitRecord, DriverError> {
        self.stop_instance(instance, ladder, mode, &rung).await
    }

    async fn remove(&self, instance: &Instance) -> Result<(), DriverError> {
        self.remove_instance(instance).await
    }

    async fn purge(&self, server: ServerId) -> Result<(), DriverError> {
        let dir = self.server_dir(server);
        blocking(move || erase(&dir)).await
    }

    async fn let_go(&self, spec: &ServerSpec) -> Result<(), DriverError> {
        let (dir, spec) = (self.server_dir(spec.id), spec.clone());
        blocking(move || fence::let_go(&dir, &spec)).await
    }

    async fn take_up(&self, spec: &ServerSpec, stops: Stops) -> Result<(), DriverError> {
        let (dir, spec) = (self.server_dir(spec.id), spec.clone());
        blocking(move || fence::take_up(&dir, &spec, stops)).await
    }

    async fn write_line(&self, instance: &Instance, line: &str) -> Result<(), DriverError> {
        if let Some(held) = self.held_box(instance).await? {
            return held.type_line(line).await;
        }
        let container = container_of(instance)?;
        self.consoles.write_line(&self.engine, container, line).await
    }

    async fn written(
        &self,
        instance: &Instance,
        _book: &LogBook,
    ) -> Result<Option<BoxStream<'static, Result<(), DriverError>>>, DriverError> {
        self.box_written(instance).await
    }

    async fn output(
        &self,
        instance: &Instance,
        after: Option<OutputCursor>,
    ) -> Result<BoxStream<'static, Result<OutputBatch, DriverError>>, DriverError> {
        let container = container_of(instance)?;
        output::output(self.engine.clone(), container.to_owned(), after).await
    }

    async fn usage(&self, instance: &Instance) -> Result<Usage, DriverError> {
        let container = container_of(instance)?;
        self.samples.usage(&self.engine, container).await
    }

    async fn ports_bound(&self, instance: &Instance, spec: &ServerSpec) -> Result<bool, DriverError> {
        let container = container_of(instance)?;
        ports::bound(&self.engine, container, &spec.run.ports).await
    }
}

fn container_of(instance: &Instance) -> Result<&str, DriverError> {
    match &instance.reference {
        InstanceRef::Container(id) => Ok(id),
        InstanceRef::Process { pid, .. } => Err(error::refused(format!("process {pid} is no container"), None)),
    }
}
