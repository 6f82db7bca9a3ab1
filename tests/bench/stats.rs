//! Percentiles, and what the kernel says of a process.

use std::time::Duration;

use manman_e2e::{Context, Result};

/// The value below which `percent` of the samples lie.
pub(crate) fn percentile(samples: &mut [f64], percent: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    let index = (last as f64 * percent / 100.0).round() as usize;
    samples.get(index).copied().unwrap_or(f64::NAN)
}

/// `p50 0.42 ms, p99 1.10 ms` of samples in seconds.
pub(crate) fn latency(samples: &mut [f64]) -> String {
    let (median, tail) = (percentile(samples, 50.0), percentile(samples, 99.0));
    format!("p50 {:.2} ms, p99 {:.2} ms ({} samples)", median * 1e3, tail * 1e3, samples.len())
}

/// Resident bytes of a process.
pub(crate) fn resident(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Processor time that a process has used so far.
pub(crate) fn processor_time(pid: i32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; fields 14 and 15 are the ticks in user and kernel mode.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Seconds since 1970, as the printer writes them.
pub(crate) fn wall_clock() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(f64::NAN, |since| since.as_secs_f64())
}
