//! What a worker knows of its own place: with which host's timeline it goes, whether its memory is
//! trusted, on which machine it was set up. Kept in its database, so that it holds without a host.

use manman_common::session::{Quarantine, SessionTerms};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identities of a machine; empty where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// DMI's uuid of the board, the first physical network card's address.
    pub hardware: Vec<String>,
    /// `/etc/machine-id`, the uuid of the file system that the data is on.
    pub software: Vec<String>,
}

impl Machine {
    /// Whether this is the machine that `other` describes: one of each half must be the same, where
    /// both have that half at all.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let half = |a: &[String], b: &[String]| a.is_empty() || b.is_empty() || a.iter().any(|one| b.contains(one));
        half(&self.hardware, &other.hardware) && half(&self.software, &other.software)
    }
}

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
    /// Where the worker was set up, or last met its host.
    pub machine: Option<Machine>,
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

    /// The worker starts on `machine`. On another than it knows it starts nothing before it has met
    /// its host: a copied disk that boots beside the original would run every world twice.
    pub fn started_on(&mut self, machine: Machine) {
        match &self.machine {
            None => self.machine = Some(machine),
            Some(known) if known.is_same(&machine) => self.machine = Some(machine),
            Some(_) => self.quarantine = self.quarantine.or(Some(Quarantine::OtherMachine)),
        }
    }

    /// The host has begun a session. It would not have, were the original still there, so this
    /// machine is the worker's now.
    pub fn welcomed(&mut self, resume_token: Option<String>, terms: &SessionTerms, machine: Machine) {
        if resume_token.is_some() {
            self.resume_token = resume_token;
        }
        self.machine = Some(machine);
        self.told(terms);
    }

    /// The host's terms, with a registration and with each beat.
    pub fn told(&mut self, terms: &SessionTerms) {
        self.quarantine = terms.quarantine;
        let Some(theirs) = terms.timeline else { return };
        if self.timeline.is_none() || terms.rebased {
            self.timeline = Some(theirs);
        }
        self.foreign = self.timeline.filter(|mine| *mine != theirs).map(|_| theirs);
    }
}
