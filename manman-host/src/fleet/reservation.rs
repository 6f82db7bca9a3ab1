//! Ids handed out to machines that want to register; each is good for a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use manman_common::{Name, WorkerId};

use crate::clock;
use crate::limit::{Network, network_of};

const RESERVED_FOR: Duration = Duration::from_secs(60);

/// More machines than this do not join a home within a minute.
const RESERVATIONS_MAX: usize = 1024;

/// Fresh ids for machines without a token from one network within a while: a house full of them. So
/// nobody takes all the ids, or all the places of those who wait to be accepted, for everybody else.
const STRANGERS_MAX: u32 = 32;
const WHILE: Duration = Duration::from_secs(600);
/// Networks that are remembered.
const NETWORKS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Reservations {
    by_id: HashMap<WorkerId, Reserved>,
    strangers: HashMap<Network, Asked>,
}

/// How often a network's strangers have asked, and since when.
#[derive(Debug)]
struct Asked {
    count: u32,
    since: Instant,
}

#[derive(Debug)]
struct Reserved {
    name: Option<Name>,
    peer: IpAddr,
    until: Instant,
}

impl Reservations {
    /// The same for a machine that shows no token.
    pub(crate) fn reserve_for_stranger(&mut self, name: Option<&Name>, peer: IpAddr) -> Option<WorkerId> {
        let now = clock::instant();
        self.strangers.retain(|_, asked| asked.since + WHILE > now);
        let network = network_of(peer);
        let is_full = self.strangers.get(&network).map_or(self.strangers.len() >= NETWORKS_MAX, |asked| asked.count >= STRANGERS_MAX);
        let again = self.by_id.values().any(|reserved| reserved.is_of(name, peer) && reserved.until > now);
        if is_full && !again {
            return None;
        }
        let id = self.reserve(name, peer)?;
        if !again {
            self.strangers.entry(network).or_insert(Asked { count: 0, since: now }).count += 1;
        }
        Some(id)
    }

    /// An id for this name, the same one if the same machine asks again; `None` where too many ask.
    pub(crate) fn reserve(&mut self, name: Option<&Name>, peer: IpAddr) -> Option<WorkerId> {
        let now = clock::instant();
        self.by_id.retain(|_, reserved| reserved.until > now);
        let until = now + RESERVED_FOR;
        let again = self.by_id.iter_mut().find(|(_, reserved)| reserved.is_of(name, peer));
        if let Some((id, reserved)) = again {
            reserved.until = until;
            return Some(*id);
        }
        if self.by_id.len() >= RESERVATIONS_MAX {
            return None;
        }
        let id = clock::new_worker_id();
        self.by_id.insert(id, Reserved { name: name.cloned(), peer, until });
        Some(id)
    }

    /// Whether the id is reserved; it is not any more afterwards.
    pub(crate) fn redeem(&mut self, id: WorkerId) -> bool {
        self.by_id.remove(&id).is_some_and(|reserved| reserved.until > clock::instant())
    }

    /// A registration that failed for another reason may be tried again.
    pub(crate) fn give_back(&mut self, id: WorkerId, peer: IpAddr) {
        self.by_id.insert(id, Reserved { name: None, peer, until: clock::instant() + RESERVED_FOR });
    }
}

impl Reserved {
    fn is_of(&self, name: Option<&Name>, peer: IpAddr) -> bool {
        name.is_some() && self.name.as_ref() == name && self.peer == peer
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 7));

    #[test]
    fn an_id_is_reserved_by_name_and_redeemed_once() {
        let mut reservations = Reservations::default();
        let name: Name = "attic".parse().expect("a name");
        let id = reservations.reserve(Some(&name), PEER).expect("there is room");
        assert_eq!(reservations.reserve(Some(&name), PEER), Some(id));
        assert_ne!(reservations.reserve(Some(&name), IpAddr::V4(Ipv4Addr::LOCALHOST)), Some(id), "another machine has the same name");
        assert_ne!(reservations.reserve(None, PEER), reservations.reserve(None, PEER));
        assert!(reservations.redeem(id));
        assert!(!reservations.redeem(id));
    }

    #[test]
    fn strangers_of_one_network_take_nobody_elses_place() {
        let mut reservations = Reservations::default();
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 8));
        let name: Name = "attic".parse().expect("a name");
        let own = reservations.reserve_for_stranger(Some(&name), PEER).expect("there is room");
        for _ in 1..STRANGERS_MAX {
            let id = reservations.reserve_for_stranger(None, PEER).expect("there is room");
            assert!(reservations.redeem(id));
        }
        assert_eq!(reservations.reserve_for_stranger(None, PEER), None, "redeemed or not, they have asked");
        assert_eq!(reservations.reserve_for_stranger(Some(&name), PEER), Some(own), "who asks again asks for nothing new");
        assert!(reservations.reserve_for_stranger(None, elsewhere).is_some());
        assert!(reservations.reserve(None, PEER).is_some(), "who brings a token is no stranger");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut reservations = Reservations::default();
        for _ in 0..RESERVATIONS_MAX {
            assert!(reservations.reserve(None, PEER).is_some());
        }
        assert!(reservations.reserve(None, PEER).is_none());
    }
}
