//! What a worker knows of its own place: with which host's timeline it goes, whether its memory is
//! trusted, on which machine it was set up. Kept in its database, so that it holds without a host.

pub use manman_common::session::Machine;
use manman_common::session::{Quarantine, SessionTerms};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trust {
    /// To be shown at the next registration.
    pub resume_token: Option<String>,
    /// The timeline that the worker goes with.
    pub timeline: Option<Uuid>,
    /// Another one on which the host was met, and which nobody has confirmed yet.
    pub foreign: Option<Uuid>,
    pub quarantine: Option<Quarantine>,
    /// Where the worker belongs.
    pub machine: Option<Machine>,
    /// Where it was started last; told to the host, which knows where it was before.
    pub here: Option<Machine>,
    /// The host has begun a session since then.
    pub met: bool,
    /// The host's timeline when it did so.
    pub greeted: Option<Uuid>,
}

/// What a worker may do of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caution {
    None,
    /// The host forgot something: what should run is started and kept, nothing is stopped, removed
    /// or installed anew.
    Regressed,
    /// Nothing is started and nothing is stopped.
    Quarantined,
}

impl Trust {
    #[must_use]
    pub fn caution(&self) -> Caution {
        match (self.quarantine, self.foreign) {
            (Some(_), _) => Caution::Quarantined,
            (None, Some(_)) => Caution::Regressed,
            (None, None) => Caution::None,
        }
    }

    /// The worker starts on `machine`. On another than it belongs to it starts nothing before its
    /// host has said so: a copied disk that boots beside the original would run every world twice.
    pub fn started_on(&mut self, machine: Machine) {
        (self.met, self.greeted) = (false, None);
        match &self.machine {
            Some(known) if !known.is_same(&machine) => self.quarantine = Some(Quarantine::OtherMachine),
            None | Some(_) => self.machine = Some(machine.clone()),
        }
        self.here = Some(machine);
    }

    /// The host has begun a session.
    pub fn welcomed(&mut self, resume_token: Option<String>, terms: &SessionTerms, machine: Machine) {
        if resume_token.is_some() {
            self.resume_token = resume_token;
        }
        self.here = Some(machine);
        self.met = true;
        self.greeted = terms.timeline;
        self.told(terms, false);
    }

    /// The host's terms, with a registration and with each beat; `knows_all` where every wish of the
    /// host's is stored here. A memory that was not trusted does not become right by being trusted: it
    /// stays in quarantine until it is what the host has now.
    pub fn told(&mut self, terms: &SessionTerms, knows_all: bool) {
        let lifts = match self.quarantine {
            // A beat in a session of before the start says nothing of this machine.
            Some(Quarantine::OtherMachine) => self.met && knows_all && !self.is_of_another_life(terms),
            Some(_) => knows_all && !self.is_of_another_life(terms),
            None => true,
        };
        if lifts || terms.quarantine.is_some() {
            self.quarantine = terms.quarantine;
        }
        if self.met && self.quarantine.is_none() {
            self.machine.clone_from(&self.here);
        }
        let Some(theirs) = terms.timeline else { return };
        if self.timeline.is_none() || terms.rebased {
            self.timeline = Some(theirs);
        }
        self.foreign = self.timeline.filter(|mine| *mine != theirs).map(|_| theirs);
    }

    /// Whether these are the terms of a host that went back in time since it began the session: it has
    /// given the session's number twice, and may mean another process. Registering again helps.
    #[must_use]
    pub fn is_of_another_life(&self, terms: &SessionTerms) -> bool {
        matches!((self.greeted, terms.timeline), (Some(greeted), Some(theirs)) if greeted != theirs)
    }

    /// A person at this machine says that it is the one, and that what it remembers holds.
    pub fn rebased_here(&mut self) {
        self.quarantine = None;
        self.machine.clone_from(&self.here);
    }
}

#[cfg(test)]
mod tests;
