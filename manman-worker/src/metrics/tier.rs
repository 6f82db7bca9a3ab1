//! From measurements to the points of a graph, each range with steps of its own. Pure.
//!
//! A step is kept as sums and counts, so a coarse mean is that of the measurements and never a mean
//! of means. Every range is a ring: a step's place in it follows from the time alone, so there are
//! never more of them than points, whichever way the clock jumps. What lies in a place for another
//! time is not shown, and gives way.

use manman_common::wire::{MetricsRange, MetricsSeries};

/// What was measured at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Thousandths of a core.
    pub(crate) cpu_millis: u32,
    pub(crate) memory_bytes: u64,
    /// Bytes per second, received and sent; `None` where nobody counts them.
    pub(crate) network: Option<(u64, u64)>,
    pub(crate) players: Option<u32>,
    pub(crate) disk_bytes: Option<u64>,
}

/// All that was measured in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) count: u64,
    pub(super) cpu_millis: u64,
    pub(super) memory_bytes: u64,
    pub(super) networks: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) players: Option<u32>,
    pub(super) disks: u64,
    pub(super) disk_bytes: u64,
}

impl Step {
    pub(super) fn add(&mut self, sample: &Sample) {
        self.count += 1;
        self.cpu_millis = self.cpu_millis.saturating_add(sample.cpu_millis.into());
        self.memory_bytes = self.memory_bytes.saturating_add(sample.memory_bytes);
        if let Some((received, sent)) = sample.network {
            self.networks += 1;
            self.received = self.received.saturating_add(received);
            self.sent = self.sent.saturating_add(sent);
        }
        if let Some(disk) = sample.disk_bytes {
            self.disks += 1;
            self.disk_bytes = self.disk_bytes.saturating_add(disk);
        }
        self.players = self.players.max(sample.players);
    }
}

/// Where a time lies in a range: its step since 1970, and the place in the ring that this has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: i64,
    pub(super) slot: i64,
}

impl Place {
    /// Of a time in seconds since 1970.
    pub(super) fn of(range: MetricsRange, seconds: i64) -> Self {
        Self::step(range, seconds.div_euclid(range.step_seconds().into()))
    }

    fn step(range: MetricsRange, at: i64) -> Self {
        Self { at, slot: at.rem_euclid(range.points().into()) }
    }
}

/// The steps that a range shows at a time, oldest first; the last one is that of this time.
pub(super) fn window(range: MetricsRange, now: i64) -> impl Iterator<Item = Place> {
    let last = Place::of(range, now).at;
    (0..i64::from(range.points())).rev().map(move |back| Place::step(range, last - back))
}

/// Seconds since 1970 at which the window begins.
pub(super) fn begin(range: MetricsRange, now: i64) -> i64 {
    window(range, now).next().map_or(0, |first| first.at) * i64::from(range.step_seconds())
}

/// Steps as points; `None` is one without a measurement.
pub(super) fn series(steps: &[Option<Step>], of_machine: bool) -> MetricsSeries {
    let mut series = MetricsSeries::default();
    for step in steps {
        let step = step.unwrap_or_default();
        let (is_known, has_network) = (step.count > 0, step.networks > 0);
        series.cpu.push(is_known.then(|| cores(step.cpu_millis, step.count)));
        series.memory.push(is_known.then(|| mean(step.memory_bytes, step.count)));
        series.rx.push(has_network.then(|| mean(step.received, step.networks)));
        series.tx.push(has_network.then(|| mean(step.sent, step.networks)));
        if of_machine {
            series.disk.push((step.disks > 0).then(|| mean(step.disk_bytes, step.disks)));
        } else {
            series.players.push(step.players);
        }
    }
    series
}

/// To the nearest; not called with none.
fn mean(sum: u64, count: u64) -> u64 {
    sum.saturating_add(count / 2) / count.max(1)
}

/// Cores with three digits after the point.
fn cores(millis: u64, count: u64) -> f64 {
    // Not above 2^32, which a double holds exactly.
    f64::from(u32::try_from(mean(millis, count)).unwrap_or(u32::MAX)) / 1000.0
}

#[cfg(test)]
mod tests;
