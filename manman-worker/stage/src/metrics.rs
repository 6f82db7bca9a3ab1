//! Counters, and how Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::engine::{Delivery, Usage};

/// Seconds; a start takes about a millisecond, a timeout is a second unless said otherwise.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    deliveries: [AtomicU64; 5],
    killed: Mutex<BTreeMap<&'static str, u64>>,
    seconds: Histogram,
    spawn_seconds: Histogram,
    processes: AtomicU64,
    user_us: AtomicU64,
    system_us: AtomicU64,
    max_rss: AtomicU64,
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|bucket| seconds <= *bucket) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros(time), Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut sum = 0;
        for (bucket, count) in BUCKETS.iter().zip(&self.buckets) {
            sum += count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bucket}\"}} {sum}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_count {count}");
        let _ = writeln!(out, "{name}_sum {}", self.sum_us.load(Ordering::Relaxed) as f64 / 1e6);
    }
}

/// What is so at the moment of asking.
pub(crate) struct Gauges {
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) pool_processes: usize,
    /// Of the processes that run.
    pub(crate) rss: u64,
    pub(crate) cpu_ms: u64,
}

impl Metrics {
    pub(crate) fn answered(&self, label: &str, status: u16, time: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        // Labels are routes of the file, so there are only so many.
        match requests.get_mut(&(label.to_owned(), status)) {
            Some(count) => *count += 1,
            None => {
                requests.insert((label.to_owned(), status), 1);
            }
        }
        drop(requests);
        self.seconds.observe(time);
    }

    pub(crate) fn spawned(&self, time: Duration) {
        self.spawn_seconds.observe(time);
    }

    pub(crate) fn killed(&self, why: &'static str) {
        *self.killed.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    pub(crate) fn delivered(&self, delivery: Delivery) {
        self.deliveries[delivery as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, usage: Option<&Usage>) {
        let Some(usage) = usage else { return };
        self.processes.fetch_add(1, Ordering::Relaxed);
        self.user_us.fetch_add(micros(usage.user), Ordering::Relaxed);
        self.system_us.fetch_add(micros(usage.system), Ordering::Relaxed);
        self.max_rss.fetch_max(usage.max_rss, Ordering::Relaxed);
    }

    pub(crate) fn to_text(&self, now: &Gauges) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "# HELP urocket_requests_total Requests by route and status\n# TYPE urocket_requests_total counter");
        for ((label, status), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let (verb, path) = label.split_once(' ').unwrap_or(("", label));
            let path = path.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(out, "urocket_requests_total{{verb=\"{verb}\",path=\"{path}\",status=\"{status}\"}} {count}");
        }
        let _ = writeln!(out, "# HELP urocket_replies_total What became of replies at the socket\n# TYPE urocket_replies_total counter");
        for (name, count) in ["delivered", "unknown", "late", "second", "stranger"].iter().zip(&self.deliveries) {
            let _ = writeln!(out, "urocket_replies_total{{result=\"{name}\"}} {}", count.load(Ordering::Relaxed));
        }
        let _ = writeln!(out, "# HELP urocket_killed_total Processes that were told to end\n# TYPE urocket_killed_total counter");
        for (why, count) in self.killed.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(out, "urocket_killed_total{{reason=\"{why}\"}} {count}");
        }
        self.seconds.write(&mut out, "urocket_request_seconds", "From the request to its answer");
        self.spawn_seconds.write(&mut out, "urocket_spawn_seconds", "From the wish for a process to its first instruction");
        let seconds = |us: &AtomicU64| us.load(Ordering::Relaxed) as f64 / 1e6;
        for (name, kind, help, value) in [
            ("urocket_processes_total", "counter", "Processes that have ended", self.processes.load(Ordering::Relaxed) as f64),
            ("urocket_process_user_seconds_total", "counter", "User time of processes that have ended", seconds(&self.user_us)),
            ("urocket_process_system_seconds_total", "counter", "System time of processes that have ended", seconds(&self.system_us)),
            ("urocket_process_max_rss_bytes", "gauge", "The largest process so far", self.max_rss.load(Ordering::Relaxed) as f64),
            ("urocket_in_flight", "gauge", "Requests whose process has not ended", now.in_flight as f64),
            ("urocket_waiting", "gauge", "Requests that wait for their turn", now.waiting as f64),
            ("urocket_pool_processes", "gauge", "Processes of pools", now.pool_processes as f64),
            ("urocket_running_rss_bytes", "gauge", "Memory of the processes that run, sampled", now.rss as f64),
            ("urocket_running_cpu_seconds", "gauge", "CPU time of the processes that run, sampled", now.cpu_ms as f64 / 1e3),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        out
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
