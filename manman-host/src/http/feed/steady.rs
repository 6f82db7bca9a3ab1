//! What is not told each time: figures that differ by less than anybody would see.

use std::time::Duration;

use manman_common::status::Usage;
use manman_common::wire::{MachineUsage, ServerView, WorkerView};
use manman_common::{Generation, WorkerId, WorkerStatus};

/// What has to be known of a server's last view.
pub(super) struct Known {
    pub(super) worker: WorkerId,
    pub(super) generation: Generation,
    pub(super) usage: Option<Usage>,
}

impl Known {
    pub(super) fn of(view: &ServerView) -> Self {
        Self { worker: view.worker_id, generation: view.generation, usage: view.usage }
    }
}

/// Figures are told in their own round; until then the last ones stand.
pub(super) fn steady_server(before: &Known, view: &mut ServerView) {
    if view.usage.is_some() && before.usage.is_some() {
        view.usage = before.usage;
    }
}

/// Whether nobody would see the difference.
pub(super) fn same_usage(old: Option<Usage>, new: Option<Usage>) -> bool {
    const MEMORY: u64 = 1024 * 1024;
    match (old, new) {
        (Some(old), Some(new)) => old.cpu_millis.abs_diff(new.cpu_millis) < 10 && old.memory_bytes.abs_diff(new.memory_bytes) < MEMORY,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// A little more or less of what a machine uses is noise, and of one that is alive nobody asks when
/// its last beat was.
pub(super) fn steady_worker(before: &WorkerView, view: &mut WorkerView) {
    if let (Some(old), Some(new)) = (before.usage, view.usage)
        && same_figures(old, new)
    {
        view.usage = before.usage;
    }
    let lives = matches!(view.status, WorkerStatus::Alive | WorkerStatus::Frozen) && before.status == view.status;
    if let (Some(old), Some(new), true) = (before.last_seen, view.last_seen, lives)
        && new.since(old) < LAST_SEEN_EVERY
    {
        view.last_seen = before.last_seen;
    }
}

/// The last beat of a worker that is alive is told so often.
const LAST_SEEN_EVERY: Duration = Duration::from_secs(30);

fn same_figures(old: MachineUsage, new: MachineUsage) -> bool {
    const MEMORY: u64 = 16 * 1024 * 1024;
    const DISK: u64 = 256 * 1024 * 1024;
    old.cpu_millis.abs_diff(new.cpu_millis) < 20
        && old.memory_used_bytes.abs_diff(new.memory_used_bytes) < MEMORY
        && old.disk_free_bytes.abs_diff(new.disk_free_bytes) < DISK
}
