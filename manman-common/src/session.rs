//! What host and worker show each other at the beginning of a session, so that neither believes a
//! memory that has gone back in time: a worker's database restored or cloned, a host's restored.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Revision, SessionEpoch};

/// What a worker remembers of its host. Absent in a registration by hand, which runs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Memory {
    /// As the host handed it over for the session before; it is another after each session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_token: Option<String>,
    /// The epoch of the session before.
    pub session_epoch: SessionEpoch,
    /// Counts the worker's own transactions: it only grows, unless its database went back in time.
    pub state_seq: u64,
    pub have_revision: Revision,
    /// The last event that the host has said it has.
    pub events_stored: u64,
    /// The timeline of the host whose word the worker takes without reserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Uuid>,
    /// The database is new: lost, or set aside as damaged. It remembers nothing, and nothing wrong.
    pub blank: bool,
    /// The machine that it runs on now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

/// Identities of a machine, each as a hash; empty where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// What the host makes of it; repeated with every beat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionTerms {
    /// Another than the worker's: the host's database went back in time or was replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Uuid>,
    /// A person has confirmed that this worker follows the host on this timeline.
    pub rebased: bool,
    /// The worker keeps what runs, and neither starts nor stops anything, until a person has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
}

/// Why a worker's memory is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Quarantine {
    /// It showed a resume token of an earlier session: its database is a copy or was restored.
    OldToken,
    /// It has counted fewer transactions than it had told of.
    StateBehind,
    /// Two machines work under its identity.
    Rival,
    /// It woke up on another machine than the one that it worked on, and nobody has said that it may:
    /// the first may still run its games, out of the host's sight.
    OtherMachine,
}

impl Quarantine {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OldToken => "old_token",
            Self::StateBehind => "state_behind",
            Self::Rival => "rival",
            Self::OtherMachine => "other_machine",
        }
    }

    /// What has happened, for a person.
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::OldToken => "the worker's database is a copy, or was restored from a backup: it remembers an earlier session",
            Self::StateBehind => "the worker's database went back in time: it has forgotten transactions that it had told of",
            Self::Rival => "two machines work under this worker's identity: one of them is a copy",
            Self::OtherMachine => "the worker woke up on another machine than it was set up on",
        }
    }
}
