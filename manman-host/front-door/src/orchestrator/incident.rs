//! Wrong secrets: each is an incident that is kept and said, and who has many waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use manman_common::Timestamp;
use manman_common::lease::Tick;
use serde::{Deserialize, Serialize};

/// Failures of one peer with one name within a window, before it has to wait.
const FAILURES_MAX: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Pairs of name and peer that are watched at once.
const WATCHED_MAX: usize = 10_000;
/// Incidents that are kept; of more, the oldest go.
const KEPT_MAX: usize = 1000;

/// Somebody showed a wrong secret; the same by the same peer is counted up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Incident {
    /// Of the last time.
    pub time: Timestamp,
    pub first: Timestamp,
    pub name: String,
    #[schema(value_type = String, example = "192.168.1.20")]
    pub peer: IpAddr,
    pub count: u64,
    pub what: String,
}

/// What has gone wrong, by name and peer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Incidents {
    kept: Vec<Incident>,
    total: u64,
}

impl Incidents {
    /// The incident as it is known from now on.
    pub(crate) fn add(&mut self, time: Timestamp, name: &str, peer: IpAddr, what: &str) -> Incident {
        self.total += 1;
        if let Some(known) = self.kept.iter_mut().find(|known| known.name == name && known.peer == peer && known.what == what) {
            known.time = time;
            known.count += 1;
            return known.clone();
        }
        if self.kept.len() >= KEPT_MAX {
            let oldest = self.kept.iter().enumerate().min_by_key(|(_, incident)| incident.time).map(|(at, _)| at);
            oldest.map(|at| self.kept.swap_remove(at));
        }
        let incident = Incident { time, first: time, name: name.to_owned(), peer, count: 1, what: what.to_owned() };
        self.kept.push(incident.clone());
        incident
    }

    /// The newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Incident> {
        let mut list = self.kept.clone();
        list.sort_by_key(|incident| std::cmp::Reverse(incident.time));
        list
    }

    /// All there ever were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// Who may try a secret, and who has to wait.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    seen: HashMap<(String, IpAddr), Vec<Tick>>,
}

impl Failures {
    /// How long that peer has to wait before it may try that name again.
    pub(crate) fn wait(&mut self, name: &str, peer: IpAddr, now: Tick) -> Option<Duration> {
        let seen = self.seen.get_mut(&(name.to_owned(), peer))?;
        seen.retain(|at| now.since(*at) < WINDOW);
        if seen.len() < FAILURES_MAX {
            return None;
        }
        seen.first().map(|first| WINDOW.saturating_sub(now.since(*first)))
    }

    pub(crate) fn add(&mut self, name: &str, peer: IpAddr, now: Tick) {
        if self.seen.len() >= WATCHED_MAX {
            self.seen.retain(|_, seen| seen.last().is_some_and(|at| now.since(*at) < WINDOW));
        }
        // More of them than that within a minute is no waifu's doing; those known are enough to count.
        if self.seen.len() < WATCHED_MAX || self.seen.contains_key(&(name.to_owned(), peer)) {
            let seen = self.seen.entry((name.to_owned(), peer)).or_default();
            if seen.len() < FAILURES_MAX {
                seen.push(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w10_the_sixth_failure_waits_and_a_minute_heals() {
        let mut failures = Failures::default();
        let (peer, start) = (IpAddr::from([10, 0, 0, 1]), Tick::from_micros(7));
        for _ in 0..5 {
            assert_eq!(failures.wait("links", peer, start), None);
            failures.add("links", peer, start);
        }
        assert_eq!(failures.wait("links", peer, start), Some(WINDOW));
        assert_eq!(failures.wait("links", IpAddr::from([10, 0, 0, 2]), start), None, "another peer does not wait");
        assert_eq!(failures.wait("other", peer, start), None, "nor does another name");
        assert_eq!(failures.wait("links", peer, start.plus(WINDOW)), None);
    }

    #[test]
    fn w10_incidents_are_counted_and_bounded() {
        let mut incidents = Incidents::default();
        let at = |micros| Timestamp::from_micros(micros);
        for number in 0..2000_u32 {
            incidents.add(at(i64::from(number)), "links", IpAddr::from(number.to_be_bytes()), "wrong secret");
        }
        incidents.add(at(9999), "links", IpAddr::from(1999_u32.to_be_bytes()), "wrong secret");
        let list = incidents.list();
        assert_eq!((list.len(), incidents.total()), (KEPT_MAX, 2001));
        assert_eq!((list[0].count, list[0].time), (2, at(9999)));
    }
}
