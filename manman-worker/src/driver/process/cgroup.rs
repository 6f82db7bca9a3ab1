//! A leaf per instance, for limits, figures and the certainty that nothing of it is left.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use manman_common::InstanceId;
use manman_common::spec::Limits;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const ROOT: &str = "/sys/fs/cgroup";
/// Hierarchies of version 1 that are used where they are there.
const CONTROLLERS: [&str; 5] = ["memory", "cpu,cpuacct", "cpuacct", "pids", "freezer"];
/// Microseconds in which a share of processor time is dealt out.
const PERIOD: u64 = 100_000;

/// What this machine offers to this worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cgroups {
    V2(PathBuf),
    V1(Vec<PathBuf>),
    /// Limits are not enforced, and are said not to be.
    None(String),
}

impl fmt::Display for Cgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V2(_) => f.write_str("limits by cgroup v2"),
            Self::V1(_) => f.write_str("limits by cgroup v1"),
            Self::None(why) => write!(f, "no limits of memory and processor: {why}"),
        }
    }
}

impl Cgroups {
    pub(super) fn find() -> Self {
        let root = Path::new(ROOT);
        let group = if root.join("cgroup.controllers").exists() { v2(root) } else { v1(root) };
        group.unwrap_or_else(|error| Self::None(format!("no cgroup can be made below {ROOT}: {error}")))
    }

    /// Makes the instance's leaves, limited; none where there are no cgroups.
    pub(super) fn make(&self, instance: InstanceId, limits: &Limits) -> io::Result<Vec<PathBuf>> {
        let leaves: Vec<PathBuf> = match self {
            Self::V2(parent) => vec![parent.join(instance.to_string())],
            Self::V1(parents) => parents.iter().map(|parent| parent.join(instance.to_string())).collect(),
            Self::None(_) => return Ok(Vec::new()),
        };
        for leaf in &leaves {
            match std::fs::create_dir(leaf) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => limit(leaf, limits)?,
            }
        }
        Ok(leaves)
    }
}

fn v2(root: &Path) -> io::Result<Cgroups> {
    let parent = root.join("manman");
    make(&parent)?;
    for dir in [root, &parent] {
        // One that is not to be had is missed where a limit is written.
        for controller in ["+memory", "+cpu", "+pids"] {
            let _ = std::fs::write(dir.join("cgroup.subtree_control"), controller);
        }
    }
    Ok(Cgroups::V2(parent))
}

fn v1(root: &Path) -> io::Result<Cgroups> {
    let mut parents = Vec::new();
    for controller in CONTROLLERS {
        let hierarchy = root.join(controller);
        // `cpuacct` is often another name of `cpu,cpuacct`.
        let twin = hierarchy.is_symlink();
        if !twin && hierarchy.join("cgroup.procs").exists() {
            let parent = hierarchy.join("manman");
            make(&parent)?;
            parents.push(parent);
        }
    }
    if !parents.iter().any(|parent| parent.starts_with(root.join("cpu,cpuacct"))) && root.join("cpu/cgroup.procs").exists() {
        let parent = root.join("cpu/manman");
        make(&parent)?;
        parents.push(parent);
    }
    if parents.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "none is mounted"));
    }
    Ok(Cgroups::V1(parents))
}

fn make(dir: &Path) -> io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes each limit where its file is: a leaf of version 1 has those of its own controller only.
fn limit(leaf: &Path, limits: &Limits) -> io::Result<()> {
    let set = |file: &str, value: String| {
        let path = leaf.join(file);
        if path.exists() { std::fs::write(path, value) } else { Ok(()) }
    };
    if let Some(bytes) = limits.memory_bytes {
        set("memory.max", bytes.to_string())?;
        set("memory.swap.max", "0".to_owned())?;
        set("memory.limit_in_bytes", bytes.to_string())?;
        // Not there where the kernel does not count swap.
        let _ = set("memory.memsw.limit_in_bytes", bytes.to_string());
    }
    if let Some(millis) = limits.cpu_millis {
        let quota = u64::from(millis) * PERIOD / 1000;
        set("cpu.max", format!("{quota} {PERIOD}"))?;
        set("cpu.cfs_period_us", PERIOD.to_string())?;
        set("cpu.cfs_quota_us", quota.to_string())?;
    }
    if let Some(pids) = limits.pids {
        set("pids.max", pids.to_string())?;
    }
    Ok(())
}

pub(super) fn pids(leaves: &[PathBuf]) -> Vec<i32> {
    let mut found: Vec<i32> = leaves
        .iter()
        .filter_map(|leaf| std::fs::read_to_string(leaf.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Kills what is left in the leaves; whatever is in them is the instance's.
pub(super) fn kill(leaves: &[PathBuf]) {
    if leaves.iter().any(|leaf| std::fs::write(leaf.join("cgroup.kill"), "1").is_ok()) {
        return;
    }
    for pid in pids(leaves) {
        // The descriptor first, the look second: a pid that has been given to a stranger since is in no
        // leaf of ours. One that has ended meanwhile is what was wanted.
        let opened = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(process) = opened.filter(|_| pids(leaves).contains(&pid)) {
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
}

/// Empty leaves go; one that is not empty yet goes with the next instance's.
pub(super) fn remove(leaves: &[PathBuf]) {
    for leaf in leaves {
        if let Err(error) = std::fs::remove_dir(leaf)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(leaf = %leaf.display(), %error, "a cgroup is not removed");
        }
    }
}
