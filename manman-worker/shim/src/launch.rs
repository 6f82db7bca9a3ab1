//! The worker's side of a run directory: starting a shim, and finding out what became of one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::files;
use crate::identity::{boot_id, pid_namespace};
use crate::record::{Exit, State};
use crate::spec::Spec;

/// Writes the spec into a fresh run directory, which must exist and be 0700.
pub fn prepare(run_dir: &Path, spec: &Spec) -> io::Result<()> {
    files::replace(run_dir, files::SPEC, &spec.to_text(), 0o600)
}

/// Starts the shim. The caller keeps the child only to reap it; it must never kill by it.
///
/// The lock on `RUN_DIR/lock` is taken here and handed over as the shim's stdin: there is no moment
/// at which the shim is on its way and the lock is free, so [`look`] never takes a start that is
/// under way for one that never was, even if this process is killed in between.
pub fn spawn(shim: &Path, run_dir: &Path) -> io::Result<Child> {
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(run_dir.join(files::LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a shim is in this run directory")),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let errors = File::create(run_dir.join(files::ERRORS))?;
    Command::new(shim).arg(run_dir).env_clear().current_dir("/").stdin(lock).stdout(Stdio::null()).stderr(errors).spawn()
}

/// What became of a run directory.
#[derive(Debug)]
pub enum Look {
    /// No shim was ever started in it, or it died before its game could become one: start anew, in
    /// another directory.
    Never,
    /// A shim is on its way; look again.
    Starting,
    /// The shim lives. Its socket is there; `exit` is set once the game's own process has ended.
    Live { state: Box<State>, exit: Option<Box<Exit>> },
    /// All of it has ended, and this is how.
    Ended(Box<Exit>),
    /// The shim has died and left its game behind; `child` is `None` when that, too, is gone (its
    /// descendants may live: the data lock and the cgroup tell). The exit code is lost, unless it
    /// had been written already.
    Abandoned { state: Box<State>, child: Option<std::os::fd::OwnedFd>, exit: Option<Box<Exit>> },
    /// The machine has been started anew since; nothing of it can live.
    Rebooted { state: Box<State> },
}

/// Looks without touching. An error is "could not look", never "nothing there".
pub fn look(run_dir: &Path) -> io::Result<Look> {
    // The lock first: what the files say afterwards is then at least as new as what it says.
    let alive = is_locked(&run_dir.join(files::LOCK))?;
    let exit = read(run_dir, files::EXIT, Exit::parse)?;
    let state = read(run_dir, files::STATE, State::parse)?;
    Ok(match (alive, state, exit) {
        (_, _, Some(exit)) if exit.tree_empty => Look::Ended(Box::new(exit)),
        (true, Some(state), exit) => Look::Live { state: Box::new(state), exit: exit.map(Box::new) },
        (true, None, _) => Look::Starting,
        (false, Some(state), None) if state.shim.boot_id != boot_id()? => Look::Rebooted { state: Box::new(state) },
        (false, Some(state), exit) => {
            // A pid of a container means another process here; and with its shim, a container ends.
            let child = if state.pid_namespace == pid_namespace()? { state.child.open()? } else { None };
            Look::Abandoned { state: Box::new(state), child, exit: exit.map(Box::new) }
        }
        (false, None, Some(exit)) => Look::Ended(Box::new(exit)),
        (false, None, None) => Look::Never,
    })
}

/// Whether a shim lives in the run directory, wherever its pid is counted.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    let lock = match files::open_plain(path, OpenOptions::new().read(true)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Shared, so that two lookers do not take each other for a shim.
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read<T, E: std::error::Error + Send + Sync + 'static>(
    run_dir: &Path,
    name: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> io::Result<Option<T>> {
    let path = run_dir.join(name);
    let Some(content) = files::read(&path)? else { return Ok(None) };
    parse(&content).map(Some).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}
