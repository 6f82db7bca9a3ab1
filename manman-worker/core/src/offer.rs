//! How a wish gets into a record: from the host, or from a person at this machine.

use std::collections::BTreeMap;

use manman_common::link::spec_hash;
use manman_common::spec::StopMode;
use manman_common::{DesiredState, ServerId, ServerSpec};

use crate::{Origin, Record, Tried};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offer {
    Accepted,
    /// The very same spec: nothing happens, however often it comes.
    Unchanged,
    /// Older than what is stored, by generation or by the assignment (epoch) that it is of: refused.
    Stale,
    /// Another content under the generation that is stored: refused, since one of the two is lost.
    ConflictingSameGeneration,
    /// The server was created at this machine: the host has no say in it.
    OwnedHere,
}

/// Takes the host's wish into the records.
pub fn offer(records: &mut BTreeMap<ServerId, Record>, spec: ServerSpec) -> Offer {
    let offered_hash = spec_hash(&spec);
    let Some(record) = records.get_mut(&spec.id) else {
        let fresh = Record { spec, origin: Origin::Host, offered_hash, changed_here: false, tried: Tried::default() };
        records.insert(fresh.spec.id, fresh);
        return Offer::Accepted;
    };
    if record.origin == Origin::Here {
        return Offer::OwnedHere;
    }
    // The server has been given elsewhere since: this record, tombstone or not, remembers it for ever.
    if spec.epoch < record.spec.epoch {
        return Offer::Stale;
    }
    match spec.generation.cmp(&record.spec.generation) {
        std::cmp::Ordering::Less => Offer::Stale,
        std::cmp::Ordering::Equal if record.offered_hash == offered_hash => Offer::Unchanged,
        std::cmp::Ordering::Equal => Offer::ConflictingSameGeneration,
        std::cmp::Ordering::Greater => {
            let asks_for_a_start = spec.desired == DesiredState::Running
                && (record.spec.desired != DesiredState::Running
                    || spec.restart_seq > record.spec.restart_seq
                    || record.tried.instance.is_none());
            if asks_for_a_start {
                record.tried.restarts = 0;
            }
            record.spec = spec;
            record.offered_hash = offered_hash;
            record.changed_here = false;
            try_again(&mut record.tried);
            Offer::Accepted
        }
    }
}

/// What a person at this machine may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalChange {
    Start,
    Stop(StopMode),
    Delete { purge: bool },
}

/// Changes the wish at this machine. The host's generation stays, so its next newer one wins.
/// Answers whether anything changed.
pub fn change_here(record: &mut Record, change: LocalChange) -> bool {
    // What is deleted stays deleted; its data may be gone already.
    if record.spec.desired == DesiredState::Deleted && !matches!(change, LocalChange::Delete { .. }) {
        return false;
    }
    let before = (record.spec.desired, record.spec.stop_mode, record.spec.purge);
    let was_idle = record.tried.instance.is_none();
    match change {
        LocalChange::Start => {
            record.spec.desired = DesiredState::Running;
            record.spec.stop_mode = StopMode::Graceful;
            record.spec.purge = false;
        }
        LocalChange::Stop(mode) => {
            record.spec.desired = DesiredState::Stopped;
            record.spec.stop_mode = mode;
        }
        LocalChange::Delete { purge } => {
            record.spec.desired = DesiredState::Deleted;
            record.spec.purge = purge;
        }
    }
    let changed = before != (record.spec.desired, record.spec.stop_mode, record.spec.purge);
    if changed {
        match record.origin {
            Origin::Host => record.changed_here = true,
            Origin::Here => record.spec.generation = record.spec.generation.next(),
        }
    }
    // A start that is asked again while nothing runs is a new try.
    if changed || (change == LocalChange::Start && was_idle) {
        try_again(&mut record.tried);
    }
    if change == LocalChange::Start && was_idle {
        record.tried.restarts = 0;
    }
    changed
}

/// Forgets what went wrong, so that it is tried again at once.
pub fn retry(record: &mut Record) {
    try_again(&mut record.tried);
}

fn try_again(tried: &mut Tried) {
    tried.install_failure = None;
    tried.failed = None;
    tried.rest = None;
    tried.trouble = None;
    tried.crashes = 0;
    tried.never_ready = 0;
    tried.crashed = false;
    tried.not_before = None;
    tried.deleted = false;
    tried.purged = false;
    tried.purge_after = None;
}

#[cfg(test)]
mod tests {
    use manman_common::Generation;

    use super::*;
    use crate::sim::fixtures::spec;

    #[test]
    fn only_newer_wishes_are_taken() {
        let mut records = BTreeMap::new();
        let mut wish = spec(1);
        wish.generation = Generation::new(3);
        assert_eq!(offer(&mut records, wish.clone()), Offer::Accepted);
        assert_eq!(offer(&mut records, wish.clone()), Offer::Unchanged);
        let other = ServerSpec { restart_seq: 9, ..wish.clone() };
        assert_eq!(offer(&mut records, other), Offer::ConflictingSameGeneration);
        let older = ServerSpec { generation: Generation::new(2), ..wish.clone() };
        assert_eq!(offer(&mut records, older), Offer::Stale);
        assert_eq!(records[&wish.id].spec, wish);
    }

    #[test]
    fn an_assignment_that_is_over_never_comes_back() {
        let mut records = BTreeMap::new();
        let wish = spec(1);
        assert_eq!(offer(&mut records, wish.clone()), Offer::Accepted);
        let generation = |n| Generation::new(n);
        let released = ServerSpec { epoch: 2, generation: generation(2), desired: DesiredState::Deleted, ..wish.clone() };
        assert_eq!(offer(&mut records, released.clone()), Offer::Accepted);
        let old = ServerSpec { epoch: 1, generation: generation(99), ..wish.clone() };
        assert_eq!(offer(&mut records, old), Offer::Stale, "whatever its generation says");
        assert_eq!(records[&wish.id].spec, released);
        let back = ServerSpec { epoch: 3, generation: generation(3), ..wish.clone() };
        assert_eq!(offer(&mut records, back.clone()), Offer::Accepted);
        assert_eq!(records[&wish.id].spec, back);
    }

    #[test]
    fn a_local_change_holds_until_the_host_says_something_newer() {
        let mut records = BTreeMap::new();
        let wish = spec(1);
        assert_eq!(offer(&mut records, wish.clone()), Offer::Accepted);
        let record = records.get_mut(&wish.id).expect("just offered");
        assert!(change_here(record, LocalChange::Stop(StopMode::Graceful)));
        assert!(!change_here(record, LocalChange::Stop(StopMode::Graceful)));
        assert_eq!((record.spec.desired, record.changed_here, record.spec.generation), (DesiredState::Stopped, true, wish.generation));
        assert_eq!(offer(&mut records, wish.clone()), Offer::Unchanged, "the host repeats itself: not a new wish");
        assert_eq!(records[&wish.id].spec.desired, DesiredState::Stopped);
        assert_eq!(offer(&mut records, ServerSpec { generation: wish.generation.next(), ..wish.clone() }), Offer::Accepted);
        assert_eq!((records[&wish.id].spec.desired, records[&wish.id].changed_here), (DesiredState::Running, false));
    }

    #[test]
    fn what_is_deleted_is_not_started_again_here() {
        let mut records = BTreeMap::new();
        let wish = ServerSpec { desired: DesiredState::Deleted, ..spec(1) };
        assert_eq!(offer(&mut records, wish.clone()), Offer::Accepted);
        let record = records.get_mut(&wish.id).expect("just offered");
        assert!(!change_here(record, LocalChange::Start));
        assert_eq!(record.spec, wish);
    }

    #[test]
    fn the_host_never_touches_what_was_created_here() {
        let mut records = BTreeMap::new();
        let wish = spec(1);
        assert_eq!(offer(&mut records, wish.clone()), Offer::Accepted);
        records.get_mut(&wish.id).expect("just offered").origin = Origin::Here;
        let delete = ServerSpec { generation: Generation::new(99), desired: DesiredState::Deleted, ..wish.clone() };
        assert_eq!(offer(&mut records, delete), Offer::OwnedHere);
        assert_eq!(records[&wish.id].spec, wish);
    }
}
