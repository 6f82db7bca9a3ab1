//! The running postmaster: how it is started, watched and ended.
//!
//! It is a child of a thread of its own that does nothing but wait for it. The kernel sends a
//! death signal when the thread that spawned a child ends, not when the process does; a thread
//! of a pool would take Postgres down whenever the pool shrinks.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::PostgresError;
use super::account::{self, Account};

/// What to send, and for how long to wait, as in `leftover`.
const STEPS: [(Signal, Duration); 3] =
    [(Signal::INT, Duration::from_secs(30)), (Signal::QUIT, Duration::from_secs(10)), (Signal::KILL, Duration::from_secs(5))];

/// util-linux's, which is on every Debian, Ubuntu, Fedora and Arch. Setting the death signal
/// ourselves would take code between fork and exec, and that is unsafe.
const SETPRIV: [&str; 2] = ["/usr/bin/setpriv", "/bin/setpriv"];

pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) account: Option<Account>,
    pub(super) current_dir: PathBuf,
    pub(super) log: File,
}

pub(super) struct Postmaster {
    pid: Pid,
    pidfd: OwnedFd,
    ended: watch::Receiver<Option<ExitStatus>>,
    asked_to_stop: Arc<AtomicBool>,
}

impl Postmaster {
    pub(super) async fn spawn(launch: Launch) -> Result<Self, PostgresError> {
        let (started, start) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let program = launch.program.clone();
        std::thread::Builder::new()
            .name("postgres-keeper".into())
            .spawn(move || keep(launch, started, &end))
            .map_err(PostgresError::io("start a thread for", &program))?;
        let (pid, pidfd) = start.await.map_err(|_| PostgresError::Internal { doing: "start PostgreSQL" })??;
        Ok(Self { pid, pidfd, ended, asked_to_stop: Arc::new(AtomicBool::new(false)) })
    }

    /// When it ends, for whatever reason.
    pub(super) fn ended(&self) -> impl Future<Output = ExitStatus> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            let status = ended.wait_for(Option::is_some).await;
            // The keeper sends before it lets go of the channel.
            status.map_or_else(|_| ExitStatus::default(), |it| it.unwrap_or_default())
        }
    }

    /// When it ends without anybody here having asked for it; else never.
    pub(super) fn ended_unasked(&self) -> impl Future<Output = ExitStatus> + Send + 'static {
        let ended = self.ended();
        let asked_to_stop = Arc::clone(&self.asked_to_stop);
        async move {
            let status = ended.await;
            if asked_to_stop.load(Ordering::Acquire) {
                std::future::pending::<()>().await;
            }
            status
        }
    }

    pub(super) async fn stop(&self) -> Result<(), PostgresError> {
        self.asked_to_stop.store(true, Ordering::Release);
        for (signal, wait) in STEPS {
            if signal != Signal::INT {
                tracing::warn!(?signal, "PostgreSQL does not stop, asking harder");
            }
            self.send(signal);
            if timeout(wait, self.ended()).await.is_ok() {
                return Ok(());
            }
        }
        Err(PostgresError::WontStop { pid: self.pid.as_raw_pid() })
    }

    /// A fast stop: it ends open connections, writes everything to disk and goes.
    pub(super) fn ask_to_stop(&self) {
        self.asked_to_stop.store(true, Ordering::Release);
        self.send(Signal::INT);
    }

    fn send(&self, signal: Signal) {
        // It fails only when the postmaster is gone, and that is what was wanted.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }
}

/// The life of the keeper thread.
fn keep(launch: Launch, started: oneshot::Sender<Result<(Pid, OwnedFd), PostgresError>>, end: &watch::Sender<Option<ExitStatus>>) {
    let Launch { program, arguments, account, current_dir, log } = launch;
    let spawned = log.try_clone().and_then(|copy| {
        // A group of its own: Ctrl-C on the host's terminal must not stop the database before
        // the host has finished what it does with it.
        under_death_signal("INT", &program, account.as_ref(), &current_dir)
            .args(arguments)
            .process_group(0)
            .stdout(Stdio::from(copy))
            .stderr(Stdio::from(log))
            .spawn()
    });
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(PostgresError::io("run", &program)(error)));
            return;
        }
    };
    // Not waited for yet: the number is still its own.
    let pid = Pid::from_child(&child);
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => {
            if let Err(Ok((_, pidfd))) = started.send(Ok((pid, pidfd))) {
                // Whoever wanted it gave up meanwhile; nobody else would ever stop it.
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::INT);
            }
        }
        Err(error) => {
            let _ = child.kill();
            let _ = started.send(Err(PostgresError::io("watch", &program)(error.into())));
        }
    }
    end.send_replace(Some(child.wait().unwrap_or_default()));
}

/// A command that gets that signal when the thread that spawns it ends. Without setpriv it runs
/// all the same, and what a killed host leaves is ended by the next start.
pub(super) fn under_death_signal(signal: &str, program: &Path, account: Option<&Account>, dir: &Path) -> Command {
    // Busybox has a setpriv as well, which cannot do it.
    let setpriv = SETPRIV.iter().map(Path::new).find(|setpriv| {
        Command::new(setpriv)
            .args(["--pdeathsig", signal, "--", "/bin/sh", "-c", ":"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    let Some(setpriv) = setpriv else {
        tracing::warn!(
            "no `setpriv --pdeathsig` (util-linux): if this host is killed, its database stops \
             only when the host starts again"
        );
        return account::command(program, account, dir);
    };
    let mut command = account::command(setpriv, account, dir);
    command.args(["--pdeathsig", signal, "--"]).arg(program);
    command
}
