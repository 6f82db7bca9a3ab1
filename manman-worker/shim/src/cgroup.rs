//! Cgroup leaves that the worker has made for the instance. The shim itself is in none of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manman_shim::clock;

/// How long a freezer may take; after that the processes are killed unfrozen.
const FREEZE_WITHIN: Duration = Duration::from_millis(200);

/// Puts the calling process into a leaf.
pub(crate) fn join(leaf: &Path) -> io::Result<()> {
    std::fs::write(leaf.join("cgroup.procs"), "0")
}

/// Pids in the leaf and below, as this namespace counts them; none where the leaf is gone.
pub(crate) fn pids(leaf: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    collect(leaf, &mut found, 8);
    found
}

/// Whether a process is in the leaf or below.
pub(crate) fn holds(leaf: &Path, pid: i32) -> bool {
    pids(leaf).contains(&pid)
}

fn collect(dir: &Path, found: &mut Vec<i32>, depth: u32) {
    if let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    if depth == 0 {
        return;
    }
    // A game may make groups of its own below (a container engine, a sandbox).
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found, depth - 1);
        }
    }
}

/// Kills everything in the leaves that this process may; `kill` sends SIGKILL to one pid.
pub(crate) fn kill(leaves: &[PathBuf], kill: impl Fn(i32)) {
    // v2, kernel 5.14 and later: all at once, forks included.
    if leaves.iter().any(|leaf| std::fs::write(leaf.join("cgroup.kill"), "1").is_ok()) {
        return;
    }
    let frozen = leaves.iter().find_map(|leaf| Freezer::freeze(leaf));
    for leaf in leaves {
        pids(leaf).into_iter().for_each(&kill);
    }
    if let Some(freezer) = frozen {
        freezer.thaw();
    }
}

/// Frozen processes can not fork while they are being killed, and die as soon as they are thawed.
struct Freezer {
    file: PathBuf,
    thawed: &'static str,
}

impl Freezer {
    fn freeze(leaf: &Path) -> Option<Self> {
        let (v1, v2) = (leaf.join("freezer.state"), leaf.join("cgroup.freeze"));
        if std::fs::write(&v1, "FROZEN").is_ok() {
            wait_until(|| std::fs::read_to_string(&v1).is_ok_and(|state| state.trim() == "FROZEN"));
            return Some(Self { file: v1, thawed: "THAWED" });
        }
        std::fs::write(&v2, "1").ok()?;
        wait_until(|| std::fs::read_to_string(leaf.join("cgroup.events")).is_ok_and(|events| events.contains("frozen 1")));
        Some(Self { file: v2, thawed: "0" })
    }

    fn thaw(self) {
        // A leaf that is gone holds nothing that is frozen.
        let _ = std::fs::write(&self.file, self.thawed);
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let end: Instant = clock::instant() + FREEZE_WITHIN;
    while !done() && clock::instant() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many processes the kernel has killed there for want of memory; `None` where nobody counts.
pub(crate) fn oom_kills(leaves: &[PathBuf], in_container: bool) -> Option<u64> {
    let own = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"].map(PathBuf::from);
    let places = leaves.iter().chain(own.iter().filter(|_| in_container && leaves.is_empty()));
    let counts = places.flat_map(|leaf| [leaf.join("memory.events"), leaf.join("memory.oom_control")]).filter_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
    });
    counts.reduce(|sum, count| sum + count)
}
