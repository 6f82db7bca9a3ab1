//! What a container uses, from two samples.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bollard::models::{ContainerMemoryStats, ContainerNetworkStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt;
use manman_common::status::Usage;
use tokio::time::Instant;

use super::engine::{Engine, short};
use super::error;
use crate::driver::DriverError;

/// Containers whose last sample is kept; far above what one machine runs.
const KEPT: usize = 1024;

/// The last sample of each container: when, and its processor time in nanoseconds.
#[derive(Default)]
pub(super) struct Samples(Mutex<HashMap<String, (Instant, u64)>>);

impl Samples {
    pub(super) async fn usage(&self, engine: &Engine, container: &str) -> Result<Usage, DriverError> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let mut stats = engine.docker().await?.stats(container, Some(options)).boxed();
        let sample = match stats.next().await {
            Some(Ok(sample)) => sample,
            Some(Err(source)) => return Err(error::of_container(format!("container {} has no statistics", short(container)), source)),
            None => return Err(error::gone(format!("container {} has no statistics any more", short(container)))),
        };
        let processor = processor_nanos(&sample);
        let cpu_millis = processor.map_or(0, |nanos| self.since_last(container, nanos));
        // A container in the machine's own network has none that is counted.
        let networks = sample.networks.filter(|networks| !networks.is_empty());
        let sum = |bytes: fn(&ContainerNetworkStats) -> Option<u64>| networks.as_ref().map(|all| all.values().filter_map(bytes).sum());
        Ok(Usage {
            memory_bytes: sample.memory_stats.as_ref().map_or(0, memory_bytes),
            cpu_millis,
            network_received_bytes: sum(|network| network.rx_bytes),
            network_sent_bytes: sum(|network| network.tx_bytes),
        })
    }

    fn since_last(&self, container: &str, nanos: u64) -> u32 {
        let now = Instant::now();
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() >= KEPT && !samples.contains_key(container) {
            samples.clear();
        }
        let Some((then, before)) = samples.insert(container.to_owned(), (now, nanos)) else { return 0 };
        let elapsed = u64::try_from(now.duration_since(then).as_nanos()).unwrap_or(u64::MAX);
        let thousandths = nanos.saturating_sub(before).saturating_mul(1000).checked_div(elapsed).unwrap_or(0);
        u32::try_from(thousandths).unwrap_or(u32::MAX)
    }

    pub(super) fn forget(&self, container: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}

fn processor_nanos(sample: &ContainerStatsResponse) -> Option<u64> {
    sample.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage
}

/// Without the page cache that can be dropped at any time, as `docker stats` shows it.
fn memory_bytes(memory: &ContainerMemoryStats) -> u64 {
    let stats = memory.stats.as_ref();
    // The first is the name in cgroup v1, the second in v2.
    let cache = stats.and_then(|stats| stats.get("total_inactive_file").or_else(|| stats.get("inactive_file"))).copied();
    memory.usage.unwrap_or(0).saturating_sub(cache.unwrap_or(0))
}
