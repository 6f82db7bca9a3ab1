//! Processes that have left their group and outlived their request.
//!
//! A stage that is a program of its own is its orphans' new parent. One that carries the id of a
//! request under way is left alone; any other is killed and reaped. An engine inside another program
//! can not tell its orphans from other people's children, so it looks for the request's id in
//! environments instead.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, pidfd_send_signal, waitid};
use uuid::Uuid;

use super::Inner;
use super::procfs;

/// Without a list of children, a look reads all of /proc; so often it is cheap.
const PAUSE: Duration = Duration::from_millis(100);
/// While something is dying.
const AGAIN: Duration = Duration::from_millis(10);

/// Looks when a request has ended, and for as long as something is dying.
pub(crate) async fn run(inner: Arc<Inner>) {
    if !inner.options.alone {
        return;
    }
    loop {
        // Cancel-safe: both are levels.
        tokio::select! {
            () = inner.sweep.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = inner.closed.cancelled() => return,
        }
        while adopted(&inner) > 0 {
            tokio::time::sleep(AGAIN).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// At the end: until nothing is left, or it will not go.
pub(crate) fn all(inner: &Inner) {
    for _ in 0..100 {
        if !inner.options.alone || adopted(inner) == 0 {
            return;
        }
        std::thread::sleep(AGAIN);
    }
}

/// How many were killed just now.
fn adopted(inner: &Inner) -> usize {
    let children = procfs::children();
    inner.launcher.roots.settled(|roots| {
        let mut dying = 0;
        for pid in children.into_iter().filter(|pid| !roots.contains_key(pid)) {
            let Some(handle) = Pid::from_raw(pid) else { continue };
            // Still a child of ours, and nobody else reaps those: its pid can not be another's.
            let own = rustix::process::getpid().as_raw_nonzero().get();
            let Some(stat) = procfs::stat(pid).filter(|stat| stat.parent == own) else { continue };
            if stat.state == b'Z' {
                let _ = waitid(WaitId::Pid(handle), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            } else if !request_of(pid).is_some_and(|id| inner.arbiter.is_live(id)) && !inner.pools.owns(pid) {
                tracing::debug!(process.pid = pid, "a process that outlived its request is killed");
                let _ = kill_process(handle, Signal::KILL);
                dying += 1;
            }
        }
        dying
    })
}

fn request_of(pid: i32) -> Option<Uuid> {
    Uuid::try_parse_ascii(&procfs::variable(pid, "REQUEST_ID")?).ok()
}

/// Of a request that is over, in an engine that is no parent of orphans.
pub(crate) fn of_request(id: Uuid) {
    kill_where(|pid| request_of(pid) == Some(id));
}

/// Of a stage that was killed and had this socket.
pub(crate) fn leftovers(socket: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    let is_of_it = |pid| procfs::variable(pid, "UROCKET_SOCKET").is_some_and(|value| value == socket.as_os_str().as_bytes());
    let killed = kill_where(|pid| is_of_it(pid) && procfs::variable(pid, "UROCKET_STAGE").is_some());
    if killed > 0 {
        tracing::warn!(processes = killed, "processes that an earlier stage left behind were killed");
    }
}

fn kill_where(is_one: impl Fn(i32) -> bool) -> usize {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut killed = 0;
    for pid in procfs::all().into_iter().filter(|pid| *pid != own && is_one(*pid)) {
        let Some(handle) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
        // The second look is at the process that the handle holds, or at one that is as much one.
        if is_one(pid) && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
            killed += 1;
        }
    }
    killed
}
