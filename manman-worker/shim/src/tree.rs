//! Every process of the instance: what is in its cgroup, and whatever descends from the shim.
//!
//! The shim is a subreaper (or process 1), so a process that loses its parent becomes the shim's
//! child: none of them can hide by forking twice. They are gone when the shim has no child left and
//! the cgroup is empty.

use std::path::PathBuf;

use manman_shim::identity::{Identity, Stat, stat};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open, pidfd_send_signal};

/// Pids of all that descends from this process and of all in the cgroups.
pub(crate) fn pids(cgroups: &[PathBuf]) -> Vec<i32> {
    let mut found: Vec<i32> = descendants().into_iter().map(|(pid, _)| pid).collect();
    found.extend(cgroups.first().map(|leaf| crate::cgroup::pids(leaf)).unwrap_or_default());
    found.sort_unstable();
    found.dedup();
    found
}

/// Everything of the instance, each process with its start time.
pub(crate) fn members(cgroups: &[PathBuf]) -> Vec<(i32, u64)> {
    pids(cgroups).into_iter().filter_map(|pid| Some((pid, stat(pid).ok()?.start_ticks))).collect()
}

/// SIGKILL to everything, by the surest way there is here. May have to be called again: only
/// `cgroup.kill`, a freezer and the signal of a process 1 to all others reach a fork in time.
pub(crate) fn kill(cgroups: &[PathBuf], group: Option<Pid>) {
    if getpid() == Pid::INIT {
        // kill(-1): all processes of this pid namespace but its first one, which is this.
        let _ = kill_process_group(Pid::INIT, Signal::KILL);
        return;
    }
    if !cgroups.is_empty() {
        crate::cgroup::kill(cgroups, |pid| {
            let _ = signal_one(pid, Signal::KILL, || cgroups.iter().any(|leaf| crate::cgroup::holds(leaf, pid)));
        });
    }
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // Also when there is a cgroup: nothing that descends from here may live on by having left it.
    signal_all(&[], Signal::KILL);
}

/// A signal to everything, each process once; returns whom it was sent to.
pub(crate) fn signal_all(cgroups: &[PathBuf], signal: Signal) -> Vec<(i32, u64)> {
    let descendants = descendants();
    let mut sent = Vec::with_capacity(descendants.len());
    for (pid, seen) in &descendants {
        sent.extend(signal_one(*pid, signal, || stat(*pid).is_ok_and(|now| now.start_ticks == seen.start_ticks)));
    }
    if let Some(leaf) = cgroups.first() {
        for pid in crate::cgroup::pids(leaf) {
            if !descendants.iter().any(|(known, _)| *known == pid) {
                sent.extend(signal_one(pid, signal, || crate::cgroup::holds(leaf, pid)));
            }
        }
    }
    sent
}

/// The descriptor first, the look second: what is ours once the descriptor is held, is what the signal
/// goes to, however fast pids are used again.
fn signal_one(pid: i32, signal: Signal, is_ours: impl FnOnce() -> bool) -> Option<(i32, u64)> {
    // A process that has gone since, and one that may not be signalled, are the caller's next look.
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let ticks = stat(pid).ok()?.start_ticks;
    (is_ours() && pidfd_send_signal(&pidfd, signal).is_ok()).then_some((pid, ticks))
}

/// Everything below this process, in the order of the pids.
fn descendants() -> Vec<(i32, Stat)> {
    let mut all: Vec<(i32, Stat)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, stat(pid).ok()?))) {
            all.push((pid, stat));
        }
    }
    let mut inside = vec![getpid().as_raw_nonzero().get()];
    let mut begun = 0;
    while let Some(&parent) = inside.get(begun) {
        begun += 1;
        inside.extend(all.iter().filter(|(_, stat)| stat.parent == parent && stat.state != b'Z').map(|(pid, _)| *pid));
    }
    let own = inside.first().copied();
    all.retain(|(pid, _)| Some(*pid) != own && inside.contains(pid));
    all
}

/// Who the game's process is, with the descriptor by which it is signalled.
pub(crate) fn identify(pid: u32) -> std::io::Result<(Identity, Pid, std::os::fd::OwnedFd)> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| std::io::Error::other("no pid"))?;
    // It is our own child and has not been waited for, so its pid is its own.
    Ok((Identity::of(pid)?, pid, pidfd_open(pid, PidfdFlags::empty())?))
}
