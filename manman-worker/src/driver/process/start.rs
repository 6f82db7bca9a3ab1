//! From a spec to a running game, or to the reason why there is none.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use manman_common::{InstanceId, ServerId, ServerSpec};
use manman_shim::journal::JournalPlace;
use manman_shim::launch::{Look, prepare, spawn};
use manman_shim::lease::Lease;
use manman_shim::record::Phase;
use manman_shim::spec::{Bind, LogPlace, Spec, Stdio, User};
use manman_worker_core::InstanceRef;
use tokio::time::Instant;

use super::ProcessDriver;
use super::user::Owner;
use crate::clock;
use crate::driver::shim::held::{is_live, pen};
use crate::driver::shim::rundir::{About, LOCK, Place, RunDir, data_lock, reference};
use crate::driver::shim::{blocking, fence, ladder, refusal, retry};
use crate::driver::{DriverError, DriverErrorKind};
use crate::failpoint::reach;
use crate::logs::Retention;

/// A shim has to read one file and start one process.
const BEGUN_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What a game leaves behind may save for so long once its own process has ended.
const LINGER: Duration = Duration::from_secs(10);
/// Columns and rows of the terminal that a game gets which wants one.
const TERMINAL: (u16, u16) = (50, 200);
/// Of the worker's own environment, what a game may know: language and time zone of its machine.
const PASSED_ON: [&str; 4] = ["LANG", "LC_ALL", "LC_CTYPE", "TZ"];

impl ProcessDriver {
    /// Makes the server's data directory, owned by the user that its game runs as, and says which.
    pub(super) async fn prepare_data(self: &Arc<Self>, server: ServerId) -> Result<Owner, DriverError> {
        let driver = Arc::clone(self);
        blocking(move || {
            let data = driver.data_dir(server);
            let failed = |error| retry(format!("could not make {}", data.display()), error);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data).map_err(failed)?;
            let owner = driver.users.of(server).map_err(failed)?;
            if let Some((uid, gid)) = owner {
                std::os::unix::fs::lchown(&data, Some(uid), Some(gid)).map_err(failed)?;
            }
            Ok(owner)
        })
        .await
    }
}

pub(super) async fn start(driver: &Arc<ProcessDriver>, spec: &ServerSpec, instance: InstanceId) -> Result<InstanceRef, DriverError> {
    reach("start.committed");
    let owner = driver.prepare_data(spec.id).await?;
    let (driver, spec) = (Arc::clone(driver), spec.clone());
    blocking(move || {
        let path = RunDir::path_of(&driver.servers_dir, Place::Process, spec.id, instance);
        let _starting = driver.users.starting(&path);
        begin(&driver, &spec, instance, owner, &path)
    })
    .await
}

fn begin(driver: &ProcessDriver, spec: &ServerSpec, instance: InstanceId, owner: Owner, path: &Path) -> Result<InstanceRef, DriverError> {
    let failed = |error| retry(format!("could not use {}", path.display()), error);
    match RunDir::open(path).map_err(failed)? {
        Some(run) => match run.look().map_err(failed)? {
            // Cut off before a shim was there: begun anew.
            Look::Never => std::fs::remove_dir_all(path).map_err(failed)?,
            Look::Starting | Look::Live { .. } | Look::Abandoned { .. } | Look::Ended(_) | Look::Rebooted { .. } => {
                driver.hold(&run).map_err(failed)?;
                return begun(driver, &run);
            }
        },
        None if path.exists() => std::fs::remove_dir_all(path).map_err(failed)?,
        None => {}
    }
    refuse_beside_another(driver, spec.id, path)?;
    let lease = driver.leases.for_start(spec)?;
    // Before a file is written; the shim takes it again for as long as the game lives.
    drop(fence::hold(&driver.server_dir(spec.id), spec, &instance.to_string())?);
    let data = driver.data_dir(spec.id);
    match driver.steam.for_start(&spec.run, spec.id, &data, spec.generation) {
        Ok(Some(_)) => {}
        Ok(None) => {
            return Err(DriverError {
                kind: DriverErrorKind::Gone,
                what: format!("{} is not, or no longer wholly, in {}", spec.run.game_id, data.display()),
                hint: None,
                source: None,
            });
        }
        Err(error) => return Err(retry("could not look at the install", std::io::Error::other(error))),
    }
    manman_config_files::write(&data, &spec.run.files, owner).map_err(|error| DriverError {
        kind: if error.is_of_the_machine() { DriverErrorKind::Retry } else { DriverErrorKind::Final },
        what: "its configuration files can not be written".to_owned(),
        hint: Some(error.hint()),
        source: Some(error.into()),
    })?;
    reach("start.files_written");

    let mut about = About::new(spec, instance, clock::new_token("shim"));
    about.user = owner.map(|(uid, _)| uid);
    about.cgroups = driver.cgroups.make(instance, &spec.run.limits).map_err(|error| retry("could not limit the game", error))?;
    reach("start.cgroup_made");
    let run = RunDir::create(&driver.servers_dir, Place::Process, about).map_err(failed)?;
    reach("start.run_dir_made");
    let shim_spec = shim_spec(driver, spec, &run, owner, lease).map_err(failed)?;
    prepare(path, &shim_spec).map_err(failed)?;
    reach("start.spec_written");
    let book = driver.books.open(spec.id).map_err(failed)?;
    book.begin_elsewhere(instance).map_err(failed)?;
    book.hand_over(pen(&run)).map_err(failed)?;
    reach("start.log_handed_over");
    let child = match spawn(&driver.shim, path) {
        Ok(child) => child,
        Err(error) => {
            book.take_back().map_err(failed)?;
            clear(driver, &run);
            return Err(retry(format!("could not start the shim {}", driver.shim.display()), error));
        }
    };
    reach("start.shim_spawned");
    driver.children.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(instance, child);
    driver.hold(&run).map_err(failed)?;
    begun(driver, &run)
}

/// The lock on the data would refuse it, too, but only after the log had been taken from the shim
/// that writes it.
fn refuse_beside_another(driver: &ProcessDriver, server: ServerId, path: &Path) -> Result<(), DriverError> {
    let failed = |error| retry(format!("could not look for other instances beside {}", path.display()), error);
    for other in RunDir::scan_server(&driver.server_dir(server), Place::Process).map_err(failed)? {
        if other != path && is_live(&other).map_err(failed)? {
            let other = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(refusal::in_use(&format!("its data is locked: its instance {other} still runs")));
        }
    }
    Ok(())
}

/// Waits until the game runs or is known not to.
fn begun(driver: &ProcessDriver, run: &RunDir) -> Result<InstanceRef, DriverError> {
    let deadline = Instant::now() + BEGUN_WITHIN;
    loop {
        let look = run.look().map_err(|error| retry(format!("could not look at {}", run.path.display()), error))?;
        match &look {
            // Its process is there, and may still turn out not to become the game.
            Look::Live { state, exit: None } if state.phase == Phase::Gated && Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
            // Never the game, and not yet all gone.
            Look::Live { exit: Some(exit), .. } if exit.reason.is_some() && Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
            Look::Live { .. } | Look::Abandoned { .. } | Look::Rebooted { .. } => {
                reach("start.game_runs");
                return Ok(reference(&look));
            }
            // It ran, however short: its end is for the next look to tell.
            Look::Ended(exit) if exit.reason.is_none() => return Ok(reference(&look)),
            Look::Ended(exit) => {
                let error = refusal::of(exit);
                clear(driver, run);
                return Err(error);
            }
            Look::Never => {
                let words = std::fs::read_to_string(run.path.join(manman_shim::files::ERRORS)).unwrap_or_default();
                clear(driver, run);
                return Err(retry("the shim ended before it had begun", std::io::Error::other(words.trim().to_owned())));
            }
            Look::Starting if Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
            Look::Starting => {
                return Err(retry("the shim has not begun", std::io::Error::from(std::io::ErrorKind::TimedOut)));
            }
        }
    }
}

/// A start that failed leaves no instance behind.
fn clear(driver: &ProcessDriver, run: &RunDir) {
    driver.holds.let_go(run.about.instance);
    if let Ok(book) = driver.books.open(run.about.server)
        && let Err(error) = book.take_back()
    {
        tracing::warn!(server.id = %run.about.server, %error, "a log could not be taken back");
    }
    super::cgroup::remove(&run.about.cgroups);
    if let Err(error) = std::fs::remove_dir_all(&run.path) {
        tracing::warn!(path = %run.path.display(), %error, "a run directory could not be removed");
    }
}

fn shim_spec(driver: &ProcessDriver, spec: &ServerSpec, run: &RunDir, owner: Owner, lease: Option<Lease>) -> std::io::Result<Spec> {
    let data = driver.data_dir(spec.id);
    let retention = Retention::default();
    let log =
        LogPlace { dir: driver.server_dir(spec.id).join("log"), segment_bytes: retention.segment_bytes, total_bytes: retention.bytes };
    // Where the game finds its directory: through the worker's own its user may not pass.
    let home = match owner {
        Some(_) => super::user::mount_point(spec.id)?,
        None => data.clone(),
    };
    let cwd = match &spec.run.process.dir {
        Some(dir) => home.join(dir),
        None => home.clone(),
    };
    let argv = spec.run.argv.iter().map(OsString::from).collect();
    let mut out = Spec::new(run.about.instance.to_string(), run.about.nonce.clone(), argv, log);
    out.env = environment(spec, &home, &cwd);
    out.cwd = Some(cwd);
    if let Some((uid, gid)) = owner {
        out.user = Some(User { uid, gid, groups: Vec::new() });
        out.bind = Some(Bind { source: data, target: home });
    }
    if spec.run.process.tty {
        out.stdio = Stdio::Pty { rows: TERMINAL.0, columns: TERMINAL.1 };
    }
    out.lock = Some(data_lock(driver.server_dir(spec.id).join(LOCK), spec));
    out.journal = Some(JournalPlace { dir: run.journal_dir(), server: spec.id.to_string() });
    out.lease = lease;
    out.cgroups.clone_from(&run.about.cgroups);
    out.ladder = ladder::rungs(&spec.run.stop).into_iter().map(|(rung, _)| rung).collect();
    out.linger = Some(LINGER);
    out.oom_score_adj = Some(200);
    Ok(out)
}

/// What the definition says, on top of the little that every program expects.
fn environment(spec: &ServerSpec, home: &Path, cwd: &Path) -> Vec<(OsString, OsString)> {
    let mut env = std::collections::BTreeMap::new();
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            env.insert(OsString::from(name), value);
        }
    }
    env.entry("LANG".into()).or_insert_with(|| "C.UTF-8".into());
    env.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin:/usr/games".into());
    env.insert("HOME".into(), home.into());
    env.insert("USER".into(), "manman".into());
    env.insert("TERM".into(), "xterm-256color".into());
    for (name, value) in &spec.run.env {
        // Loaders look from where the game stands, wherever its launcher goes.
        let value = match name.as_str() {
            "LD_LIBRARY_PATH" | "LD_PRELOAD" => anchored(value, cwd),
            _ => OsString::from(value),
        };
        env.insert(name.into(), value);
    }
    env.into_iter().collect()
}

fn anchored(paths: &str, cwd: &Path) -> OsString {
    let whole = |path: &str| {
        if path.starts_with("./") || path.starts_with("../") || path == "." { cwd.join(path).into_os_string() } else { path.into() }
    };
    paths.split(':').map(whole).collect::<Vec<_>>().join(std::ffi::OsStr::new(":"))
}
