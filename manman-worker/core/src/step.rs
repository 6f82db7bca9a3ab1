//! What a plan may ask of the shell, and what the shell may answer.

use manman_common::spec::StopMode;
use manman_common::status::ExitRecord;
use manman_common::{InstanceId, ServerId};

/// One thing to do for one server. There is nothing left to decide in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Install {
        server: ServerId,
        key: String,
    },
    /// The instance's id is in the record's `tried.starting` once the step has [begun](crate::begin).
    Start {
        server: ServerId,
    },
    Stop {
        server: ServerId,
        instance: InstanceId,
        mode: StopMode,
    },
    /// Clears a dead instance away.
    Remove {
        server: ServerId,
        instance: InstanceId,
    },
    /// Deletes the server's data.
    Purge {
        server: ServerId,
    },
}

impl Step {
    #[must_use]
    pub fn server(&self) -> ServerId {
        match *self {
            Self::Install { server, .. }
            | Self::Start { server }
            | Self::Stop { server, .. }
            | Self::Remove { server, .. }
            | Self::Purge { server } => server,
        }
    }

    #[must_use]
    pub fn kind(&self) -> StepKind {
        match self {
            Self::Install { key, .. } => StepKind::Install { key: key.clone() },
            Self::Start { .. } => StepKind::Start,
            Self::Stop { instance, mode, .. } => StepKind::Stop { instance: *instance, mode: *mode },
            Self::Remove { .. } => StepKind::Remove,
            Self::Purge { .. } => StepKind::Purge,
        }
    }
}

/// A step under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    Install { key: String },
    Start,
    Stop { instance: InstanceId, mode: StopMode },
    Remove,
    Purge,
}

/// How a step ended. A success is a claim: only the next observation is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A stop that saw the end.
    Ended(ExitRecord),
    Failed(Failing),
    /// Ended by the shell because the plan asked for it; says nothing about the effect.
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    pub kind: FailureKind,
    /// The type of the condition that a person sees: `Install`, `Start`, `PortInUse`.
    pub condition: String,
    pub reason: String,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The same again may do better.
    Retry,
    /// Only another wish or a person can help.
    Final,
    /// What the step builds on is not there: an image removed behind our back, an instance long gone.
    Gone,
}
