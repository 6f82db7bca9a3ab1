//! Games that are processes of this machine, each behind a shim of its own.
//!
//! What runs is found by the run directories, never remembered. As root, each game runs as a user of
//! its own that owns its data and nothing else; the game finds its directory below `/run/manman`.

mod cgroup;
mod ports;
mod start;
mod stop;
mod usage;
mod user;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use manman_common::spec::{StopMode, StopRung};
use manman_common::status::{ExitRecord, Usage};
use manman_common::wire::DriverReport;
use manman_common::{InstallMethod, InstanceId, ServerId, ServerSpec};
use manman_shim::launch::{Look, is_locked};
use manman_steam::{Steam, SteamErrorKind};
use manman_worker_core::{Instance, InstanceRef};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::erase::erase;
use super::shim::fence;
use super::shim::held::{Held, Holds, is_live, pen};
use super::shim::lease::{self, Granted};
use super::shim::rundir::{Place, RunDir};
use super::shim::{binary, blocking, gone, retry};
use super::{Driver, DriverError, DriverErrorKind, Lease, OutputBatch, OutputCursor, ProgressSink, RungSink, Stops};
use crate::logs::{LogBook, LogBooks};

/// A shim that has written its last record only closes files.
const SHIM_ENDS_WITHIN: Duration = Duration::from_secs(5);
/// A shim whose game runs answers within milliseconds.
const MET_WITHIN: Duration = Duration::from_secs(2);

pub struct ProcessDriver {
    servers_dir: PathBuf,
    shim: PathBuf,
    books: LogBooks,
    steam: Steam,
    cgroups: cgroup::Cgroups,
    users: user::Users,
    changes: Arc<Notify>,
    holds: Holds,
    leases: Granted,
    samples: usage::Samples,
    /// The shims that this process started, to be reaped.
    children: Mutex<HashMap<InstanceId, std::process::Child>>,
}

impl ProcessDriver {
    /// Unpacks the shim and takes over what runs: from here on the logs of running games are theirs.
    /// Needs a running tokio. Blocks on the disk.
    pub fn open(data_dir: &Path, books: LogBooks, steam: Steam) -> io::Result<Self> {
        // The children of a shim that is killed become ours, and with them their exit codes.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let servers_dir = data_dir.join("servers");
        let changes = Arc::new(Notify::new());
        let driver = Self {
            shim: binary::unpack(data_dir)?,
            cgroups: cgroup::Cgroups::find(),
            users: user::Users::new(&servers_dir),
            holds: Holds::new(Arc::clone(&changes)),
            servers_dir,
            books,
            steam,
            changes,
            leases: Granted::default(),
            samples: usage::Samples::default(),
            children: Mutex::default(),
        };
        for path in RunDir::scan(&driver.servers_dir, Place::Process)? {
            if let Some(run) = RunDir::open(&path)?
                && is_live(&path)?
            {
                driver.hold(&run)?;
            }
        }
        Ok(driver)
    }

    fn server_dir(&self, server: ServerId) -> PathBuf {
        self.servers_dir.join(server.to_string())
    }

    fn data_dir(&self, server: ServerId) -> PathBuf {
        self.server_dir(server).join("data")
    }

    fn run_dir(&self, server: ServerId, instance: InstanceId) -> Result<RunDir, DriverError> {
        let path = RunDir::path_of(&self.servers_dir, Place::Process, server, instance);
        match RunDir::open(&path) {
            Ok(Some(run)) => Ok(run),
            Ok(None) => Err(gone(format!("instance {instance} is not there"))),
            Err(error) => Err(retry(format!("could not read {}", path.display()), error)),
        }
    }

    /// Listens to an instance, whose shim writes the log from now on. Blocks on the disk.
    fn hold(&self, run: &RunDir) -> io::Result<Arc<Held>> {
        if let Some(held) = self.holds.get(run.about.instance) {
            return Ok(held);
        }
        let book = self.books.open(run.about.server)?;
        book.hand_over(pen(run))?;
        Ok(self.holds.hold(run, &book))
    }

    fn held(&self, instance: &Instance) -> Result<Arc<Held>, DriverError> {
        let run = self.run_dir(instance.server, instance.id)?;
        self.hold(&run).map_err(|error| retry("could not open a server's log", error))
    }

    fn reap(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain(|_, child| matches!(child.try_wait(), Ok(None)));
    }

    fn list_now(&self) -> Result<Vec<Instance>, DriverError> {
        self.reap();
        let failed = |path: &Path| {
            let what = format!("could not look at {}", path.display());
            move |error| retry(what, error)
        };
        let mut found = Vec::new();
        for path in RunDir::scan(&self.servers_dir, Place::Process).map_err(failed(&self.servers_dir))? {
            let Some(run) = RunDir::open(&path).map_err(failed(&path))? else {
                // A start that was cut off before anything was started; its next try needs the name.
                if !self.users.is_starting(&path) {
                    std::fs::remove_dir_all(&path).map_err(failed(&path))?;
                }
                continue;
            };
            let look = run.look().map_err(failed(&path))?;
            match &look {
                Look::Live { .. } | Look::Starting | Look::Abandoned { child: Some(_), .. } => {
                    self.hold(&run).map_err(failed(&path))?;
                }
                // Nothing of it may live on beside a next instance.
                Look::Abandoned { child: None, .. } => cgroup::kill(&run.about.cgroups),
                Look::Never | Look::Ended(_) | Look::Rebooted { .. } => {}
            }
            let log_dir = self.server_dir(run.about.server).join("log");
            found.push(run.instance(&look, &log_dir));
        }
        Ok(found)
    }
}

/// A shim says that all has ended a moment before it ends itself, and until then the lock on the data
/// is its, at which a next start would fail. Blocks.
fn wait_for_the_shim(run_dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + SHIM_ENDS_WITHIN;
    while is_locked(&run_dir.join(manman_shim::files::LOCK))? && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The driver as the reconcile loop shares it.
#[derive(Clone)]
pub struct Processes(pub Arc<ProcessDriver>);

#[async_trait]
impl Driver for Processes {
    fn method(&self) -> InstallMethod {
        InstallMethod::Steamcmd
    }

    async fn report(&self) -> DriverReport {
        let driver = Arc::clone(&self.0);
        let report = tokio::task::spawn_blocking(move || driver.steam.report()).await;
        let (ready, version, problem) = match report {
            Ok(Ok(version)) => (true, Some(format!("{version}; {}", self.0.cgroups)), None),
            Ok(Err(problem)) => (false, None, Some(format!("{}; {}", problem.reason, problem.hint))),
            Err(error) => (false, None, Some(error.to_string())),
        };
        DriverReport { method: InstallMethod::Steamcmd, ready, version, problem }
    }

    fn changes(&self) -> Arc<Notify> {
        Arc::clone(&self.0.changes)
    }

    async fn list(&self) -> Result<Vec<Instance>, DriverError> {
        let driver = Arc::clone(&self.0);
        blocking(move || driver.list_now()).await
    }

    fn install_key(&self, spec: &ServerSpec) -> String {
        Steam::install_key(&spec.run)
    }

    async fn install(&self, spec: &ServerSpec, progress: ProgressSink) -> Result<(), DriverError> {
        let driver = &self.0;
        let owner = driver.prepare_data(spec.id).await?;
        let tell = move |told| progress(told);
        let done = driver.steam.install(&spec.run, spec.id, &driver.data_dir(spec.id), owner, tell).await;
        done.map(drop).map_err(|error| DriverError {
            kind: match error.kind() {
                SteamErrorKind::Retry => DriverErrorKind::Retry,
                SteamErrorKind::Final => DriverErrorKind::Final,
            },
            what: error.what.clone(),
            hint: error.hint.clone(),
            source: error.source,
        })
    }

    fn want_newest(&self, server: ServerId) {
        self.0.steam.want_newest(server);
    }

    async fn build_of(&self, spec: &ServerSpec) -> Option<String> {
        let (driver, spec) = (Arc::clone(&self.0), spec.clone());
        let looked = blocking(move || {
            let installed = driver.steam.installed(&spec.run, spec.id, &driver.data_dir(spec.id));
            Ok(installed.ok().flatten().map(|installed| installed.build))
        });
        looked.await.ok().flatten()
    }

    async fn start(&self, spec: &ServerSpec, instance: InstanceId) -> Result<InstanceRef, DriverError> {
        let started = start::start(&self.0, spec, instance).await?;
        if let Some(held) = self.0.holds.get(instance) {
            // It runs whether or not: a shim that does not answer is no failed start.
            let _ = tokio::time::timeout(MET_WITHIN, held.met()).await;
        }
        Ok(started)
    }

    async fn grant_lease(&self, server: ServerId, live: Option<&Instance>, lease: Option<Lease>) -> Result<(), DriverError> {
        self.0.leases.put(server, lease);
        match live {
            Some(instance) => lease::tell(&*self.0.held(instance)?, lease).await,
            None => Ok(()),
        }
    }

    async fn stop(&self, instance: &Instance, ladder: &[StopRung], mode: StopMode, rung: RungSink) -> Result<ExitRecord, DriverError> {
        stop::stop(&self.0, instance, ladder, mode, &rung).await
    }

    async fn remove(&self, instance: &Instance) -> Result<(), DriverError> {
        let (driver, server, id) = (Arc::clone(&self.0), instance.server, instance.id);
        blocking(move || {
            let path = RunDir::path_of(&driver.servers_dir, Place::Process, server, id);
            let failed = |error| retry(format!("could not clear {} away", path.display()), error);
            if is_live(&path).map_err(failed)? {
                return Err(DriverError {
                    kind: DriverErrorKind::Retry,
                    what: format!("instance {id} runs, and is not cleared away"),
                    hint: None,
                    source: None,
                });
            }
            wait_for_the_shim(&path).map_err(failed)?;
            if let Some(run) = RunDir::open(&path).map_err(failed)? {
                cgroup::remove(&run.about.cgroups);
            }
            driver.holds.let_go(id);
            if let Ok(book) = driver.books.open(server) {
                book.take_back().map_err(failed)?;
            }
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                Ok(()) | Err(_) => Ok(()),
            }
        })
        .await
    }

    async fn purge(&self, server: ServerId) -> Result<(), DriverError> {
        let driver = Arc::clone(&self.0);
        blocking(move || {
            erase(&driver.server_dir(server))?;
            driver.users.forget(server);
            user::remove_mount_point(server).map_err(|error| retry("where its game saw its directory can not be removed", error))?;
            driver.steam.forget(server).map_err(|error| retry("what is known of its install can not be forgotten", io::Error::other(error)))
        })
        .await
    }

    async fn let_go(&self, spec: &ServerSpec) -> Result<(), DriverError> {
        let (dir, spec) = (self.0.server_dir(spec.id), spec.clone());
        blocking(move || fence::let_go(&dir, &spec)).await
    }

    async fn take_up(&self, spec: &ServerSpec, stops: Stops) -> Result<(), DriverError> {
        let (dir, spec) = (self.0.server_dir(spec.id), spec.clone());
        blocking(move || fence::take_up(&dir, &spec, stops)).await
    }

    async fn write_line(&self, instance: &Instance, line: &str) -> Result<(), DriverError> {
        self.0.held(instance)?.type_line(line).await
    }

    /// Its log is written by its shim.
    async fn output(
        &self,
        _instance: &Instance,
        _after: Option<OutputCursor>,
    ) -> Result<BoxStream<'static, Result<OutputBatch, DriverError>>, DriverError> {
        Ok(stream::empty().boxed())
    }

    async fn written(
        &self,
        instance: &Instance,
        _book: &LogBook,
    ) -> Result<Option<BoxStream<'static, Result<(), DriverError>>>, DriverError> {
        match self.0.holds.get(instance.id) {
            Some(held) => Ok(Some(held.written())),
            None => {
                let run = self.0.run_dir(instance.server, instance.id)?;
                let look = run.look().map_err(|error| retry("could not look at a run directory", error))?;
                match look {
                    Look::Live { .. } | Look::Starting | Look::Abandoned { child: Some(_), .. } => {
                        Ok(Some(self.0.held(instance)?.written()))
                    }
                    // All of it is in the log.
                    Look::Never | Look::Ended(_) | Look::Abandoned { child: None, .. } | Look::Rebooted { .. } => {
                        Ok(Some(stream::once(async { Ok(()) }).boxed()))
                    }
                }
            }
        }
    }

    async fn usage(&self, instance: &Instance) -> Result<Usage, DriverError> {
        let (driver, instance) = (Arc::clone(&self.0), instance.clone());
        blocking(move || {
            let run = driver.run_dir(instance.server, instance.id)?;
            driver.samples.usage(&run, &instance)
        })
        .await
    }

    async fn ports_bound(&self, instance: &Instance, spec: &ServerSpec) -> Result<bool, DriverError> {
        let (driver, instance, wanted) = (Arc::clone(&self.0), instance.clone(), spec.run.ports.clone());
        blocking(move || {
            let run = driver.run_dir(instance.server, instance.id)?;
            ports::bound(&run, &instance, &wanted)
        })
        .await
    }
}
