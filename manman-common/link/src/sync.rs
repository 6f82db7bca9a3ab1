//! How the worker's specs come to equal the host's: which frames are taken, what is asked next.
//! Pure; the link does what it says.
//!
//! A spec is good whenever it comes, since an older generation is refused by the store. A revision
//! is not: it says that everything up to it is there, so it moves only once that is so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use manman_common::{Revision, ServerId, ServerSpec};

/// Specs asked for at once. A spec has some kilobytes, a frame at most four mebibytes.
const PULL_MAX: usize = 100;

#[derive(Debug)]
pub struct Sync {
    have: Revision,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// A Hello is on its way, and the index that answers it.
    Greeting,
    Pulling(Pulling),
    Following,
}

#[derive(Debug)]
struct Pulling {
    revision: Revision,
    /// What of the newest pull has not come yet.
    asked: BTreeSet<ServerId>,
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
    /// With each Hello.
    #[must_use]
    pub fn new(have: Revision) -> Self {
        Self { have, stage: Stage::Greeting }
    }

    #[must_use]
    pub fn have(&self) -> Revision {
        self.have
    }

    /// The index says what there is; `differing` are those of it that the store has not.
    pub fn index(&mut self, revision: Revision, differing: Vec<ServerId>) -> Next {
        // One that was overtaken moves nothing back.
        let revision = revision.max(self.have);
        let mut waiting: VecDeque<Vec<ServerId>> = differing.chunks(PULL_MAX).map(<[ServerId]>::to_vec).collect();
        match waiting.pop_front() {
            None => {
                self.stage = Stage::Following;
                Next::Store { specs: Vec::new(), revision }
            }
            Some(first) => {
                let asked = first.iter().copied().collect();
                self.stage = Stage::Pulling(Pulling { revision, asked, waiting, collected: BTreeMap::new() });
                Next::Pull(first)
            }
        }
    }

    /// Specs have come: an answer to a pull, which moves no revision, or news, which do.
    pub fn specs(&mut self, from_revision: Revision, revision: Revision, specs: Vec<ServerSpec>) -> Next {
        match &mut self.stage {
            // The index to come says all that this does.
            Stage::Greeting if from_revision > self.have => Next::Store { specs, revision: self.have },
            // What overlaps is no gap.
            Stage::Greeting | Stage::Following if from_revision <= self.have => Next::Store { specs, revision: revision.max(self.have) },
            Stage::Pulling(pulling) if from_revision <= pulling.revision => match pulling.take(from_revision, revision, specs) {
                Taken::Ask(more) => Next::Pull(more),
                Taken::Beside(specs) => Next::Store { specs, revision: self.have },
                Taken::All { specs, revision } => {
                    self.stage = Stage::Following;
                    Next::Store { specs, revision: revision.max(self.have) }
                }
            },
            Stage::Greeting | Stage::Following | Stage::Pulling(_) => Next::Resync,
        }
    }

    /// All up to this revision is in the store.
    pub fn stored(&mut self, revision: Revision) {
        self.have = revision;
    }
}

enum Taken {
    Ask(Vec<ServerId>),
    /// News while the answer is still on its way.
    Beside(Vec<ServerSpec>),
    All {
        specs: Vec<ServerSpec>,
        revision: Revision,
    },
}

impl Pulling {
    fn take(&mut self, from_revision: Revision, revision: Revision, specs: Vec<ServerSpec>) -> Taken {
        // On a way that reorders: older than the index, so it is no answer.
        if revision < self.revision {
            return Taken::Beside(specs);
        }
        let before = self.asked.len();
        for spec in &specs {
            self.asked.remove(&spec.id);
        }
        self.revision = self.revision.max(revision);
        let progress = self.asked.len() < before;
        // Of what is not there any more the answer is empty. One that brings something else is news, a
        // part of long news, or the answer to an earlier pull.
        let is_gone = from_revision == revision && specs.is_empty();
        if !self.asked.is_empty() && !progress && !is_gone {
            return Taken::Beside(specs);
        }
        for spec in specs {
            let newer = self.collected.get(&spec.id).is_none_or(|known| known.generation <= spec.generation);
            if newer {
                self.collected.insert(spec.id, spec);
            }
        }
        // A long answer comes in parts. What is asked for once more and still does not come is not
        // there any more: the host has let go of it since its index.
        if !self.asked.is_empty() && progress {
            return Taken::Ask(self.asked.iter().copied().collect());
        }
        match self.waiting.pop_front() {
            Some(next) => {
                self.asked = next.iter().copied().collect();
                Taken::Ask(next)
            }
            None => Taken::All { specs: std::mem::take(&mut self.collected).into_values().collect(), revision: self.revision },
        }
    }
}

#[cfg(test)]
mod tests;
