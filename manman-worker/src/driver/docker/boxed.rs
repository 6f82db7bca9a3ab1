//! Containers whose first process is our shim: their log, console, stop ladder and exit record go its
//! way, as those of processes do, and nothing of Docker's that hangs can slow the game.
//!
//! The run directory is `servers/SERVER/box/INSTANCE`; that it is there says that the instance is one
//! of these. In the container the shim runs as the image's user, so the directory is that user's.

use std::io;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfigLogConfig, ImageInspect, Mount, MountType};
use futures_util::stream::{self, BoxStream, StreamExt};
use manman_common::status::ExitRecord;
use manman_common::{InstanceId, ServerId, ServerSpec};
use manman_shim::journal::JournalPlace;
use manman_shim::launch::{Look, prepare};
use manman_shim::lease::Lease;
use manman_shim::record::Phase;
use manman_shim::spec::{LogPlace, Spec, Stdio};
use manman_worker_core::{Instance, InstanceState};
use tokio::time::Instant;

use super::{DockerDriver, ShimParts, error};
use crate::clock;
use crate::driver::DriverError;
use crate::driver::shim::held::{Held, pen};
use crate::driver::shim::rundir::{About, LOCK, Place, RunDir, data_lock};
use crate::driver::shim::{blocking, exit, ladder, refusal, retry};
use crate::logs::Retention;

const PROGRAM: &str = "/manman/shim";
const RUN: &str = "/manman/run";
const LOG: &str = "/manman/log";
const JOURNAL_IN: &str = "/manman/journal";
const LOCK_IN: &str = "/manman/lock";
/// Raised for the game, so that the shim outlives it when memory runs out: with it the reason would go.
const OOM_SCORE_ADJ: i16 = 200;
/// For the container's first process to say that it is there.
const BEGUN_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl DockerDriver {
    /// Takes over the shims that run. Blocks on the disk; needs a running tokio.
    ///
    /// The directories are the games' own: one that its game has spoilt costs that game its log, and
    /// nobody else the worker.
    pub fn take_over_boxes(&self) -> io::Result<()> {
        for path in RunDir::scan(&self.config.servers_dir, Place::Container)? {
            if let Err(error) = self.take_over_box(&path) {
                tracing::warn!(path = %path.display(), %error, "a game in a container can not be listened to");
            }
        }
        Ok(())
    }

    fn take_over_box(&self, path: &Path) -> io::Result<()> {
        if let Some(run) = RunDir::open(path)?
            && matches!(run.look()?, Look::Live { .. } | Look::Starting)
        {
            self.hold_box(&run)?;
        }
        Ok(())
    }

    /// Makes the run directory and puts the shim in front, where the definition wants it and the
    /// image's user is known by number.
    pub(super) async fn put_in_box(
        &self,
        spec: &ServerSpec,
        instance: InstanceId,
        image: &ImageInspect,
        body: &mut ContainerCreateBody,
    ) -> Result<(), DriverError> {
        let lease = self.leases.for_start(spec)?;
        let Some(parts) = self.config.shim.clone().filter(|_| spec.run.docker.shim) else {
            return lease.map_or(Ok(()), |_| Err(without_shim(spec, "its definition does not ask for it (`docker.shim`)")));
        };
        let config = image.config.clone().unwrap_or_default();
        let named = spec.run.docker.user.clone().or(config.user).unwrap_or_default();
        let Some(user) = numbers(&named) else {
            tracing::debug!(server.id = %spec.id, user = named, "the image's user has a name, and the shim stays out of it");
            return lease.map_or(Ok(()), |_| Err(without_shim(spec, "its image's user has a name and no number")));
        };
        let mut argv =
            if spec.run.docker.entrypoint.is_empty() { config.entrypoint.unwrap_or_default() } else { spec.run.docker.entrypoint.clone() };
        if spec.run.argv.is_empty() && spec.run.docker.entrypoint.is_empty() {
            argv.extend(config.cmd.unwrap_or_default());
        } else {
            argv.extend(spec.run.argv.iter().cloned());
        }
        let (servers_dir, wanted) = (self.config.servers_dir.clone(), spec.clone());
        let inside = Inside { user, argv, lease };
        let log_dir = servers_dir.join(spec.id.to_string()).join("log");
        let (program, log_source) = (parts.program.clone(), log_dir.clone());
        let run = blocking(move || make(&servers_dir, &parts, &wanted, instance, inside, &log_dir)).await?;
        let Some(run) = run else {
            return lease.map_or(Ok(()), |_| Err(without_shim(spec, "its directories can not be given to the image's user")));
        };
        body.entrypoint = Some(vec![PROGRAM.to_owned(), RUN.to_owned()]);
        body.cmd = None;
        body.tty = Some(false);
        body.open_stdin = Some(false);
        let host = body.host_config.get_or_insert_default();
        host.init = None;
        host.log_config = Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None });
        let mount = |source: &Path, target: &str, read_only| Mount {
            target: Some(target.to_owned()),
            source: Some(source.to_string_lossy().into_owned()),
            typ: Some(MountType::BIND),
            read_only: Some(read_only),
            ..Mount::default()
        };
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|source| error::retry(format!("{} has no absolute path", path.display()), source))
        };
        host.mounts.get_or_insert_default().extend([
            mount(&absolute(program)?, PROGRAM, true),
            mount(&absolute(run.path.clone())?, RUN, false),
            mount(&absolute(log_source)?, LOG, false),
            mount(&absolute(run.journal_dir())?, JOURNAL_IN, false),
            mount(&absolute(self.server_dir(run.about.server).join(LOCK))?, LOCK_IN, false),
        ]);
        Ok(())
    }

    /// Waits until the shim of a container that was started is heard of; why it started no game, where
    /// it says so.
    pub(super) async fn box_begun(
        &self,
        spec: &ServerSpec,
        instance: InstanceId,
        container: &str,
    ) -> Result<Option<DriverError>, DriverError> {
        let Some(run) = self.box_of(spec.id, instance)? else { return Ok(None) };
        let deadline = Instant::now() + BEGUN_WITHIN;
        loop {
            match look(&run).await? {
                // Its process is there, and may still turn out not to become the game.
                Look::Live { state, exit: None } if state.phase == Phase::Gated && Instant::now() < deadline => {}
                Look::Live { exit: Some(exit), .. } if exit.reason.is_some() && Instant::now() < deadline => {}
                Look::Live { .. } => {
                    return self.hold_box(&run).map(|_| None).map_err(|error| retry("could not open a server's log", error));
                }
                // It never became the game.
                Look::Ended(exit) if exit.reason.is_some() => return Ok(Some(refusal::of(&exit))),
                // Its end is for the next look to tell.
                Look::Ended(_) | Look::Abandoned { .. } | Look::Rebooted { .. } => return Ok(None),
                Look::Never | Look::Starting => {}
            }
            if Instant::now() >= deadline {
                return Err(error::retry_because(format!("the shim in the container of `{}` does not begin", spec.name)));
            }
            if !self.engine.is_running(container).await? && matches!(look(&run).await?, Look::Never) {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(super) fn box_of(&self, server: ServerId, instance: InstanceId) -> Result<Option<RunDir>, DriverError> {
        if self.config.shim.is_none() {
            return Ok(None);
        }
        let path = RunDir::path_of(&self.config.servers_dir, Place::Container, server, instance);
        RunDir::open(&path).map_err(|error| retry(format!("could not read {}", path.display()), error))
    }

    fn hold_box(&self, run: &RunDir) -> io::Result<Arc<Held>> {
        if let Some(held) = self.holds.get(run.about.instance) {
            return Ok(held);
        }
        let parts = self.config.shim.as_ref().ok_or_else(|| io::Error::other("this worker has no shim"))?;
        let book = parts.books.open(run.about.server)?;
        book.hand_over(pen(run))?;
        Ok(self.holds.hold(run, &book))
    }

    /// The shim of an instance, where it has one that lives.
    pub(super) async fn held_box(&self, instance: &Instance) -> Result<Option<Arc<Held>>, DriverError> {
        let Some(run) = self.box_of(instance.server, instance.id)? else { return Ok(None) };
        match look(&run).await? {
            Look::Live { .. } | Look::Starting => {
                self.hold_box(&run).map(Some).map_err(|error| retry("could not open a server's log", error))
            }
            Look::Never | Look::Ended(_) | Look::Abandoned { .. } | Look::Rebooted { .. } => Ok(None),
        }
    }

    pub(super) async fn box_written(
        &self,
        instance: &Instance,
    ) -> Result<Option<BoxStream<'static, Result<(), DriverError>>>, DriverError> {
        if self.box_of(instance.server, instance.id)?.is_none() {
            return Ok(None);
        }
        Ok(Some(match self.held_box(instance).await? {
            Some(held) => held.written(),
            None => stream::once(async { Ok(()) }).boxed(),
        }))
    }

    /// As the shim saw it, which knows a signal from a code; where it was killed, as Docker says.
    ///
    /// The directory is the game's own, and a game that spoils it spoils nobody else's: Docker's word
    /// stands then, and the other servers are looked at all the same.
    pub(super) async fn as_boxed(&self, instance: Instance) -> Instance {
        match self.as_its_shim_says(instance.clone()).await {
            Ok(instance) => instance,
            Err(error) => {
                // At every look, so it is not for everybody's log.
                tracing::debug!(server.id = %instance.server, %error, "what a shim says in its container can not be read");
                instance
            }
        }
    }

    async fn as_its_shim_says(&self, mut instance: Instance) -> Result<Instance, DriverError> {
        let Some(run) = self.box_of(instance.server, instance.id)? else { return Ok(instance) };
        match &instance.state {
            InstanceState::Running { .. } => drop(self.held_box(&instance).await?),
            InstanceState::Exited(_) => {
                let log_dir = self.server_dir(instance.server).join("log");
                if let Look::Ended(exit) = look(&run).await? {
                    instance.state = InstanceState::Exited(exit::record(&exit, Some(&log_dir)));
                }
            }
            InstanceState::Created => {}
        }
        Ok(instance)
    }

    pub(super) async fn box_exit(&self, instance: &Instance) -> Result<ExitRecord, DriverError> {
        match self.box_of(instance.server, instance.id)? {
            Some(run) => match look(&run).await? {
                Look::Ended(exit) => Ok(exit::record(&exit, None)),
                _ => Ok(exit::unknown("its shim was killed with its container")),
            },
            None => Ok(exit::unknown("it is gone")),
        }
    }

    /// Forgets the run directory of an instance whose container is gone.
    pub(super) async fn drop_box(&self, server: ServerId, instance: InstanceId) {
        let Some(parts) = self.config.shim.clone() else { return };
        let path = RunDir::path_of(&self.config.servers_dir, Place::Container, server, instance);
        self.holds.let_go(instance);
        let dropped = blocking(move || {
            if !path.exists() {
                return Ok(());
            }
            let failed = |error| retry(format!("could not clear {} away", path.display()), error);
            parts.books.open(server).and_then(|book| book.take_back()).map_err(failed)?;
            std::fs::remove_dir_all(&path).map_err(failed)
        });
        if let Err(error) = dropped.await {
            tracing::warn!(server.id = %server, %instance, %error, "a run directory is left behind");
        }
    }
}

async fn look(run: &RunDir) -> Result<Look, DriverError> {
    let run = run.clone();
    blocking(move || run.look().map_err(|error| retry(format!("could not look at {}", run.path.display()), error))).await
}

/// `UID` or `UID:GID`; no word stands for root.
fn numbers(user: &str) -> Option<(u32, u32)> {
    if user.is_empty() {
        return Some((0, 0));
    }
    match user.split_once(':') {
        Some((uid, gid)) => Some((uid.parse().ok()?, gid.parse().ok()?)),
        None => user.parse().ok().map(|uid| (uid, 0)),
    }
}

/// What the shim gets to know of the container that it is in.
struct Inside {
    user: (u32, u32),
    argv: Vec<String>,
    lease: Option<Lease>,
}

fn without_shim(spec: &ServerSpec, why: &str) -> DriverError {
    error::refused(
        format!("a lease needs our shim in front of the game, and `{}` has none: {why}", spec.name),
        Some("take the lease away (`lease_seconds`), or give its definition `docker.shim: true` and a user by number"),
    )
}

/// `None` where this worker may not give the directories to the image's user.
fn make(
    servers_dir: &Path,
    parts: &ShimParts,
    spec: &ServerSpec,
    instance: InstanceId,
    inside: Inside,
    log_dir: &Path,
) -> Result<Option<RunDir>, DriverError> {
    let Inside { user, argv, lease } = inside;
    let path = RunDir::path_of(servers_dir, Place::Container, spec.id, instance);
    let failed = |error| retry(format!("could not make {}", path.display()), error);
    // Left by a call that was cut off before there was a container.
    if path.exists() {
        std::fs::remove_dir_all(&path).map_err(failed)?;
    }
    let book = parts.books.open(spec.id).map_err(failed)?;
    let mut about = About::new(spec, instance, clock::new_token("shim"));
    about.user = Some(user.0);
    let run = RunDir::create(servers_dir, Place::Container, about).map_err(failed)?;
    let retention = Retention::default();
    let log = LogPlace { dir: LOG.into(), segment_bytes: retention.segment_bytes, total_bytes: retention.bytes };
    let argv = argv.into_iter().map(Into::into).collect();
    let mut shim = Spec::new(instance.to_string(), run.about.nonce.clone(), argv, log);
    // The image and the engine have made one.
    shim.inherit_env = true;
    if spec.run.docker.tty {
        shim.stdio = Stdio::Pty { rows: 50, columns: 200 };
    }
    shim.ladder = ladder::rungs(&spec.run.stop).into_iter().map(|(rung, _)| rung).collect();
    shim.peers = vec![rustix::process::geteuid().as_raw()];
    let server_dir = servers_dir.join(spec.id.to_string());
    shim.lock = Some(data_lock(LOCK_IN.into(), spec));
    shim.journal = Some(JournalPlace { dir: JOURNAL_IN.into(), server: spec.id.to_string() });
    shim.lease = lease;
    shim.oom_score_adj = Some(OOM_SCORE_ADJ);
    prepare(&path, &shim).map_err(failed)?;
    let journal_dir = run.journal_dir();
    std::fs::create_dir_all(&journal_dir).map_err(failed)?;
    let given = give(&[&path, log_dir, &journal_dir], user).and_then(|()| lchown(server_dir.join(LOCK), Some(user.0), Some(user.1)));
    if let Err(error) = given {
        tracing::info!(server.id = %spec.id, %error, "the shim stays out of its container: its directories can not be given to the image's user");
        std::fs::remove_dir_all(&path).map_err(failed)?;
        return Ok(None);
    }
    book.begin_elsewhere(instance).map_err(failed)?;
    Ok(Some(run))
}

fn give(dirs: &[&Path], (uid, gid): (u32, u32)) -> io::Result<()> {
    for dir in dirs {
        for entry in std::fs::read_dir(dir)? {
            lchown(entry?.path(), Some(uid), Some(gid))?;
        }
        lchown(dir, Some(uid), Some(gid))?;
    }
    Ok(())
}
