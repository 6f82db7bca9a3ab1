//! What a game uses: by its cgroup, else by the processes that descend from it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use manman_common::InstanceId;
use manman_common::status::Usage;
use manman_worker_core::{Instance, InstanceRef};
use tokio::time::Instant;

use super::cgroup;
use crate::driver::DriverError;
use crate::driver::shim::gone;
use crate::driver::shim::rundir::RunDir;

const KEPT: usize = 1024;
/// Clock ticks per second in `/proc`; the same on every Linux of today.
const TICKS: u64 = 100;

#[derive(Default)]
pub(super) struct Samples(Mutex<HashMap<InstanceId, (Instant, u64)>>);

impl Samples {
    /// Blocks on the kernel's files.
    pub(super) fn usage(&self, run: &RunDir, instance: &Instance) -> Result<Usage, DriverError> {
        let pids = pids(run, instance);
        if pids.is_empty() {
            return Err(gone("the game does not run"));
        }
        let leaves = &run.about.cgroups;
        let nanos =
            processor_nanos(leaves).unwrap_or_else(|| pids.iter().filter_map(|pid| ticks(*pid)).sum::<u64>() * (1_000_000_000 / TICKS));
        let memory_bytes = memory(leaves).unwrap_or_else(|| pids.iter().filter_map(|pid| resident(*pid)).sum());
        let now = Instant::now();
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() >= KEPT && !samples.contains_key(&run.about.instance) {
            samples.clear();
        }
        let cpu_millis = match samples.insert(run.about.instance, (now, nanos)) {
            Some((then, before)) => {
                let elapsed = u64::try_from(now.duration_since(then).as_nanos()).unwrap_or(u64::MAX).max(1);
                u32::try_from(nanos.saturating_sub(before).saturating_mul(1000) / elapsed).unwrap_or(u32::MAX)
            }
            None => 0,
        };
        // The game shares the machine's network, so nobody counts its bytes.
        Ok(Usage { memory_bytes, cpu_millis, ..Usage::default() })
    }
}

/// Everything of the instance that runs.
pub(super) fn pids(run: &RunDir, instance: &Instance) -> Vec<i32> {
    let grouped = cgroup::pids(&run.about.cgroups);
    if !grouped.is_empty() {
        return grouped;
    }
    let InstanceRef::Process { pid, .. } = instance.reference else { return Vec::new() };
    let Ok(first) = i32::try_from(pid) else { return Vec::new() };
    let mut found = vec![first];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        at += 1;
    }
    found.retain(|pid| Path::new(&format!("/proc/{pid}")).exists());
    found
}

fn read(leaves: &[PathBuf], file: &str) -> Option<String> {
    leaves.iter().find_map(|leaf| std::fs::read_to_string(leaf.join(file)).ok())
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn processor_nanos(leaves: &[PathBuf]) -> Option<u64> {
    let v2 = || field(&read(leaves, "cpu.stat")?, "usage_usec ").map(|micros| micros * 1000);
    v2().or_else(|| read(leaves, "cpuacct.usage")?.trim().parse().ok())
}

/// Without the page cache that can be dropped at any time.
fn memory(leaves: &[PathBuf]) -> Option<u64> {
    let used: u64 = read(leaves, "memory.current").or_else(|| read(leaves, "memory.usage_in_bytes"))?.trim().parse().ok()?;
    let stat = read(leaves, "memory.stat").unwrap_or_default();
    let cache = field(&stat, "total_inactive_file ").or_else(|| field(&stat, "inactive_file ")).unwrap_or(0);
    Some(used.saturating_sub(cache))
}

fn ticks(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
