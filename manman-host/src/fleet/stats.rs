//! Counters for `/metrics`; they only ever grow.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) beats: Counter,
    pub(crate) frames_from_workers: Counter,
    pub(crate) frames_to_workers: Counter,
    pub(crate) log_bytes: Counter,
    pub(crate) log_gaps: Counter,
    pub(crate) calls: Counter,
    pub(crate) calls_failed: Counter,
    pub(crate) kill_attempts: Counter,
    pub(crate) requests: Requests,
}

/// Upper bounds of the latency buckets, in microseconds.
pub(crate) const BUCKETS_US: [u64; 10] = [500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];

/// Requests by class of status, and how long they took.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// 1xx to 5xx.
    pub(crate) by_class: [Counter; 5],
    /// Each counts what its bound is the first to hold; what is slower still is in none.
    pub(crate) by_latency: [Counter; 10],
    pub(crate) micros: Counter,
}

impl Requests {
    pub(crate) fn count(&self, status: u16, micros: u64) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.by_class[class].add(1);
        if let Some(bucket) = BUCKETS_US.iter().position(|bound| micros <= *bound) {
            self.by_latency[bucket].add(1);
        }
        self.micros.add(micros);
    }
}
