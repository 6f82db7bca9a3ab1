//! What the machine itself uses: all of it, whoever does.

use std::path::Path;

use manman_common::wire::MetricsLimits;
use tokio::time::Instant;

use super::tier::Sample;
use crate::machine::{self, UsageMeter};

/// Looks at the machine from time to time.
#[derive(Default)]
pub(super) struct Gauge {
    meter: UsageMeter,
    /// Bytes received and sent up to the last look.
    network: Option<(Instant, Traffic)>,
    looked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Traffic {
    received: u64,
    sent: u64,
}

impl Gauge {
    /// What was used since the last look; the first one has nothing to tell.
    pub(super) fn look(&mut self, data_dir: &Path) -> Option<Sample> {
        let usage = self.meter.measure(data_dir);
        let now = Instant::now();
        let traffic = std::fs::read_to_string("/proc/net/dev").ok().map(|table| traffic(&table, is_hardware));
        let before = std::mem::replace(&mut self.network, traffic.map(|traffic| (now, traffic)));
        let network = before.zip(traffic).and_then(|((then, before), traffic)| {
            let millis = now.duration_since(then).as_millis();
            // A counter that went back belongs to an interface that came or went.
            let rate = |before: u64, now: u64| u64::try_from((u128::from(now.checked_sub(before)?) * 1000).checked_div(millis)?).ok();
            rate(before.received, traffic.received).zip(rate(before.sent, traffic.sent))
        });
        std::mem::replace(&mut self.looked, true).then(|| Sample {
            cpu_millis: usage.cpu_millis,
            memory_bytes: usage.memory_used_bytes,
            network,
            players: None,
            disk_bytes: machine::disk(data_dir).map(|disk| disk.used),
        })
    }
}

/// What the machine has.
pub(crate) fn limits(data_dir: &Path) -> MetricsLimits {
    let cpus = std::thread::available_parallelism().ok().and_then(|cpus| u32::try_from(cpus.get()).ok());
    MetricsLimits { memory: machine::memory_total(), cpu: cpus.map(f64::from), disk: machine::disk(data_dir).map(|disk| disk.total) }
}

/// The sum over what is a piece of hardware. Bridges and the ends of containers carry the same
/// bytes a second time, so they count only where there is nothing else, as inside a container.
fn traffic(table: &str, is_hardware: impl Fn(&str) -> bool) -> Traffic {
    let interfaces: Vec<_> = table.lines().filter_map(interface).filter(|(name, _)| *name != "lo").collect();
    let any_hardware = interfaces.iter().any(|(name, _)| is_hardware(name));
    let counted = interfaces.iter().filter(|(name, _)| if any_hardware { is_hardware(name) } else { !is_inner(name) });
    counted.fold(Traffic { received: 0, sent: 0 }, |sum, (_, traffic)| Traffic {
        received: sum.received.saturating_add(traffic.received),
        sent: sum.sent.saturating_add(traffic.sent),
    })
}

fn interface(line: &str) -> Option<(&str, Traffic)> {
    let (name, numbers) = line.split_once(':')?;
    // Eight columns of what came in, then those of what went out; bytes are the first of each.
    let mut numbers = numbers.split_ascii_whitespace();
    let received = numbers.next()?.parse().ok()?;
    let sent = numbers.nth(7)?.parse().ok()?;
    Some((name.trim(), Traffic { received, sent }))
}

fn is_hardware(name: &str) -> bool {
    // A name comes from the kernel and holds no slash.
    Path::new("/sys/class/net").join(name).join("device").exists()
}

fn is_inner(name: &str) -> bool {
    ["veth", "docker", "br-", "virbr", "tun", "tap", "wg"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9000000    100    0    0    0     0          0         0  9000000     100    0    0    0     0       0          0
  eth0: 1000       10    0    0    0     0          0         0   2000      20    0    0    0     0       0          0
docker0: 500       5    0    0    0     0          0         0     600       6    0    0    0     0       0          0
vethab1: 500       5    0    0    0     0          0         0     600       6    0    0    0     0       0          0
 wlan0: 1       5    0    0    0     0          0         0     2       6    0    0    0     0       0          0
";

    #[test]
    fn bytes_are_counted_once() {
        assert_eq!(traffic(TABLE, |name| name == "eth0"), Traffic { received: 1000, sent: 2000 });
        assert_eq!(traffic(TABLE, |_| false), Traffic { received: 1001, sent: 2002 });
        assert_eq!(traffic("", |_| true), Traffic { received: 0, sent: 0 });
    }

    #[test]
    fn the_second_look_tells() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.look(Path::new("/")), None);
        let sample = gauge.look(Path::new("/")).expect("a second look");
        let limits = limits(Path::new("/"));
        assert!(sample.memory_bytes > 0 && limits.memory.is_some_and(|total| sample.memory_bytes < total));
        assert!(sample.disk_bytes > Some(0) && sample.disk_bytes <= limits.disk);
    }
}
