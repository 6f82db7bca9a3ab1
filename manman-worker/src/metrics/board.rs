//! The newest look at each running server, from which samples are taken.

use std::collections::HashMap;
use std::time::Duration;

use manman_common::status::Usage;
use manman_common::{InstanceId, ServerId};
use tokio::time::Instant;

use super::tier::Sample;

/// Servers are looked at every ten seconds or so; an older look says nothing of now.
const FRESH_FOR: Duration = Duration::from_secs(25);

#[derive(Debug, Default)]
pub(super) struct Board(HashMap<ServerId, Look>);

#[derive(Debug)]
struct Look {
    instance: InstanceId,
    at: Instant,
    usage: Usage,
    /// Absent after the first look, to which there is nothing to compare.
    sample: Option<Sample>,
}

impl Board {
    pub(super) fn note(&mut self, server: ServerId, instance: InstanceId, usage: Usage, at: Instant) {
        let before = self.0.remove(&server).filter(|look| look.instance == instance);
        let sample = before.map(|before| Sample {
            cpu_millis: usage.cpu_millis,
            memory_bytes: usage.memory_bytes,
            network: rates(&before, &usage, at),
            ..Sample::default()
        });
        self.0.insert(server, Look { instance, at, usage, sample });
    }

    /// What is known of this instance now, and only now.
    pub(super) fn sample(&self, server: ServerId, instance: InstanceId, now: Instant) -> Option<Sample> {
        let look = self.0.get(&server).filter(|look| look.instance == instance)?;
        look.sample.filter(|_| now.duration_since(look.at) <= FRESH_FOR)
    }

    pub(super) fn forget(&mut self, server: ServerId) {
        self.0.remove(&server);
    }

    /// Drops those that nobody looks at any more.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, look| now.duration_since(look.at) <= FRESH_FOR);
    }
}

fn rates(before: &Look, usage: &Usage, at: Instant) -> Option<(u64, u64)> {
    let millis = at.duration_since(before.at).as_millis();
    let rate = |before: Option<u64>, now: Option<u64>| {
        // A counter that went back began anew, and nobody knows when.
        let bytes = now?.checked_sub(before?)?;
        u64::try_from((u128::from(bytes) * 1000).checked_div(millis)?).ok()
    };
    let received = rate(before.usage.network_received_bytes, usage.network_received_bytes);
    received.zip(rate(before.usage.network_sent_bytes, usage.network_sent_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn usage(memory_bytes: u64, network: Option<u64>) -> Usage {
        Usage { memory_bytes, cpu_millis: 5, network_received_bytes: network, network_sent_bytes: network.map(|bytes| bytes * 2) }
    }

    #[test]
    fn a_sample_is_of_this_instance_and_of_now() {
        let (server, one, two) = (ServerId::from_uuid(clock::new_uuid()), clock::new_instance_id(), clock::new_instance_id());
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut board = Board::default();
        board.note(server, one, usage(1, Some(1000)), at(0));
        assert_eq!(board.sample(server, one, at(1)), None, "one look alone tells no use of the processor");
        board.note(server, one, usage(2, Some(6000)), at(10));
        let sample = board.sample(server, one, at(11)).expect("two looks");
        assert_eq!((sample.memory_bytes, sample.network), (2, Some((500, 1000))));
        assert_eq!(board.sample(server, two, at(11)), None);
        assert_eq!(board.sample(server, one, at(60)), None, "nobody looked for long");
        board.note(server, one, usage(2, Some(10)), at(20));
        assert_eq!(board.sample(server, one, at(20)).and_then(|sample| sample.network), None, "the counter began anew");
        board.note(server, one, usage(2, None), at(30));
        assert_eq!(board.sample(server, one, at(30)).and_then(|sample| sample.network), None, "nobody counts");
        board.note(server, two, usage(3, None), at(31));
        assert_eq!(board.sample(server, two, at(31)), None, "another instance begins anew");
        board.sweep(at(100));
        assert!(board.0.is_empty());
    }
}
