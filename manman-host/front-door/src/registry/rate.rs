//! How often one address may ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use manman_common::lease::Tick;

/// Addresses that are remembered at a time; beyond it all are forgotten, and begin anew.
const ADDRESSES_MAX: usize = 4096;
const TELL_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u32,
    buckets: HashMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// In millionths of a request: what a microsecond refills is a whole number.
    left: u64,
    at: Tick,
    told: Option<Tick>,
}

/// Whether a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Yes,
    No { tell: bool },
}

impl Rate {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, buckets: HashMap::new() }
    }

    pub(crate) fn pass(&mut self, now: Tick, ip: IpAddr) -> Pass {
        const ONE: u64 = 1_000_000;
        let full = u64::from(self.per_second) * ONE;
        if self.buckets.len() >= ADDRESSES_MAX && !self.buckets.contains_key(&ip) {
            self.buckets.clear();
        }
        let bucket = self.buckets.entry(ip).or_insert(Bucket { left: full, at: now, told: None });
        let passed = u64::try_from(now.since(bucket.at).as_micros()).unwrap_or(u64::MAX);
        bucket.left = bucket.left.saturating_add(passed.saturating_mul(u64::from(self.per_second))).min(full);
        bucket.at = now;
        if let Some(left) = bucket.left.checked_sub(ONE) {
            bucket.left = left;
            return Pass::Yes;
        }
        let tell = bucket.told.is_none_or(|told| now.since(told) >= TELL_EVERY);
        if tell {
            bucket.told = Some(now);
        }
        Pass::No { tell }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_and_each_address_for_itself() {
        let mut rate = Rate::new(50);
        let at = |millis: u64| Tick::from_micros(millis * 1000);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let passed = |rate: &mut Rate, now, ip| (0..100).filter(|_| rate.pass(now, ip) == Pass::Yes).count();
        assert_eq!(passed(&mut rate, at(0), one), 50);
        assert_eq!(rate.pass(at(0), one), Pass::No { tell: false });
        assert_eq!(passed(&mut rate, at(0), other), 50);
        assert_eq!(passed(&mut rate, at(100), one), 5);
        assert_eq!(passed(&mut rate, at(60_000), one), 50);
        assert_eq!(rate.buckets.len(), 2);
        for n in 0..20_000_u32 {
            rate.pass(at(60_000), IpAddr::from(n.to_be_bytes()));
        }
        assert!(rate.buckets.len() <= ADDRESSES_MAX);
    }
}
