//! How the worker's specs come to equal the host's: which frames are taken, what is asked next.
//! Pure; the link does what it says.

use std::collections::{BTreeMap, VecDeque};

use manman_common::{Revision, ServerId, ServerSpec};

/// Specs asked for at once. A spec has some kilobytes, a frame at most four mebibytes.
const PULL_MAX: usize = 100;

#[derive(Debug)]
pub struct Sync {
    have: Revision,
    pulling: Option<Pulling>,
}

#[derive(Debug)]
struct Pulling {
    revision: Revision,
    waiting: VecDeque<Vec<ServerId>>,
    collected: BTreeMap<ServerId, ServerSpec>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Pull(Vec<ServerId>),
    /// Store these and the revision in one transaction, then say so.
    Store {
        specs: Vec<ServerSpec>,
        revision: Revision,
    },
    /// Something is missing in between: begin again with a Hello.
    Resync,
}

impl Sync {
    pub fn new(have: Revision) -> Self {
        Self { have, pulling: None }
    }

    pub fn have(&self) -> Revision {
        self.have
    }

    /// The index says what there is; `differing` are those of it that the store has not.
    pub fn index(&mut self, revision: Revision, differing: Vec<ServerId>) -> Next {
        let mut waiting: VecDeque<Vec<ServerId>> = differing.chunks(PULL_MAX).map(<[ServerId]>::to_vec).collect();
        match waiting.pop_front() {
            None => {
                self.pulling = None;
                Next::Store { specs: Vec::new(), revision }
            }
            Some(first) => {
                self.pulling = Some(Pulling { revision, waiting, collected: BTreeMap::new() });
                Next::Pull(first)
            }
        }
    }

    /// Specs have come: an answer to a pull, or news. While a pull is under way both are collected;
    /// they come in order, so the newest of a server is the last.
    pub fn specs(&mut self, from_revision: Revision, revision: Revision, specs: Vec<ServerSpec>) -> Next {
        let Some(pulling) = &mut self.pulling else {
            // What overlaps is no gap: an older spec is refused by the store, an equal one is none.
            if from_revision > self.have {
                return Next::Resync;
            }
            return Next::Store { specs, revision: revision.max(self.have) };
        };
        for spec in specs {
            let newer = pulling.collected.get(&spec.id).is_none_or(|known| known.generation <= spec.generation);
            if newer {
                pulling.collected.insert(spec.id, spec);
            }
        }
        pulling.revision = pulling.revision.max(revision);
        if let Some(next) = pulling.waiting.pop_front() {
            return Next::Pull(next);
        }
        let specs = std::mem::take(&mut pulling.collected).into_values().collect();
        let revision = pulling.revision;
        self.pulling = None;
        Next::Store { specs, revision }
    }

    /// All up to this revision is in the store.
    pub fn stored(&mut self, revision: Revision) {
        self.have = revision;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> ServerId {
        ServerId::from_uuid(uuid::Uuid::from_u128(n))
    }

    fn spec(n: u128, generation: u64) -> ServerSpec {
        let json = serde_json::json!({
            "id": id(n), "name": "s", "generation": generation, "desired": "running", "run": {"game_id": "docker:a"},
        });
        serde_json::from_value(json).expect("it is a spec")
    }

    fn at(n: u64) -> Revision {
        Revision::new(n)
    }

    #[test]
    fn nothing_to_pull_is_stored_at_once() {
        let mut sync = Sync::new(at(3));
        assert_eq!(sync.index(at(9), vec![]), Next::Store { specs: vec![], revision: at(9) });
        sync.stored(at(9));
        assert_eq!(sync.have(), at(9));
    }

    #[test]
    fn pulls_in_parts_and_stores_once() {
        let mut sync = Sync::new(at(0));
        let all: Vec<ServerId> = (0..150).map(id).collect();
        assert_eq!(sync.index(at(5), all.clone()), Next::Pull(all[..100].to_vec()));
        let first = (0..100).map(|n| spec(n, 1)).collect();
        assert_eq!(sync.specs(at(5), at(5), first), Next::Pull(all[100..].to_vec()));
        // The host has gone on in between; its news carries the newer generation.
        let mut second: Vec<ServerSpec> = (100..150).map(|n| spec(n, 1)).collect();
        second.push(spec(7, 2));
        let Next::Store { specs, revision } = sync.specs(at(5), at(6), second) else { panic!("all is there") };
        assert_eq!((specs.len(), revision), (150, at(6)));
        assert_eq!(specs[7].generation.get(), 2);
    }

    #[test]
    fn a_gap_begins_again_and_an_overlap_does_not() {
        let mut sync = Sync::new(at(5));
        assert_eq!(sync.specs(at(6), at(7), vec![spec(1, 1)]), Next::Resync);
        assert_eq!(sync.specs(at(5), at(6), vec![spec(1, 1)]), Next::Store { specs: vec![spec(1, 1)], revision: at(6) });
        sync.stored(at(6));
        assert_eq!(sync.specs(at(4), at(5), vec![]), Next::Store { specs: vec![], revision: at(6) });
    }
}
