//! What the plan sees: what should be, what was tried, and what runs.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::spec::StopMode;
use manman_common::status::{Condition, ExitRecord};
use manman_common::{Generation, InstanceId, ServerId, ServerSpec, ServerStatus, Timestamp};
use serde::{Deserialize, Serialize};

use crate::StepKind;

/// Everything that a plan is made from. Two equal worlds have equal plans.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    pub now: Timestamp,
    pub mode: Mode,
    pub records: &'a BTreeMap<ServerId, Record>,
    /// What the drivers found. A server without an entry is not looked at in this round and keeps
    /// its status; a driver that could not look makes [`Observation::Unknown`] of each of its servers.
    pub observed: &'a BTreeMap<ServerId, Observation>,
    /// Servers with a step under way.
    pub in_flight: &'a BTreeMap<ServerId, StepKind>,
    /// What each server's driver would have to install; a server without a driver has none.
    pub install_keys: &'a BTreeMap<ServerId, String>,
    /// The statuses of the round before: what a blind round goes on saying.
    pub last: &'a BTreeMap<ServerId, ServerStatus>,
    /// Servers that need a lease and have one that is live; one that needs none is not asked for it.
    pub leased: &'a BTreeSet<ServerId>,
    /// Whether the disk takes what a start or an install writes.
    pub has_room: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Normal,
    /// Cordoned: what runs goes on, stops go on, nothing new starts.
    Frozen,
    /// Everything is stopped, and nobody's wish is changed by it.
    Draining,
    /// The host has forgotten something, so that its wishes may be old ones: what should run is
    /// started and kept; nothing is stopped, removed, installed anew or restarted on its word.
    Regressed,
    /// This worker's own memory is not trusted: what runs is kept and shown, nothing is done.
    Quarantined,
}

impl Mode {
    /// Whether what should run is started.
    #[must_use]
    pub(crate) const fn starts(self) -> bool {
        match self {
            Self::Normal | Self::Regressed => true,
            Self::Frozen | Self::Draining | Self::Quarantined => false,
        }
    }
}

/// "Could not look" is never "nothing there".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    Unknown { reason: String },
    Known(Vec<Instance>),
}

/// An instance as its driver found it on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub server: ServerId,
    pub id: InstanceId,
    pub reference: InstanceRef,
    pub state: InstanceState,
    /// The generation whose spec it was started with.
    pub generation: Generation,
    /// The restart counter that it was started with.
    pub restart_seq: u64,
    /// [`run_hash`](crate::run_hash) of what it was started with.
    pub run_hash: u64,
    /// It runs without what was to hold it, a shim that was killed: it can be spoken to and stopped,
    /// and how it ends may stay unknown.
    pub degraded: bool,
}

impl Instance {
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self.state {
            InstanceState::Running { .. } => true,
            InstanceState::Created | InstanceState::Exited(_) => false,
        }
    }
}

/// Where an instance is found. A stop names one, so a late stop can not hit its successor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceRef {
    Container(String),
    Process { boot_id: String, pid: u32, start_ticks: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Made, not started: a crash between the two.
    Created,
    Running {
        since: Timestamp,
    },
    Exited(ExitRecord),
}

/// A server in SQLite: what was asked for last, and what was tried. It never says that something
/// runs: that is for the drivers to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub spec: ServerSpec,
    #[serde(default)]
    pub origin: Origin,
    /// Hash of the spec as it was offered; the spec itself may have been [changed here](crate::change_here) since.
    #[serde(default)]
    pub offered_hash: u64,
    /// A person at this machine changed the wish; the host's next generation overrides it.
    #[serde(default)]
    pub changed_here: bool,
    #[serde(default)]
    pub tried: Tried,
}

impl Record {
    /// The wish is that of a person at this machine, not the host's.
    #[must_use]
    pub fn is_said_here(&self) -> bool {
        self.changed_here || self.origin == Origin::Here
    }

    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.spec.lease_seconds.is_some()
    }
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    #[default]
    Host,
    /// Created at this machine without the host: reported to it, never removed by it.
    Here,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tried {
    /// What is installed, as the driver's install key; another key installs again.
    pub installed: Option<String>,
    /// The last install that failed, and when it may be tried again.
    pub install_failure: Option<Failure>,
    /// The id given to a start that has not been seen to run or end. The next try uses it again,
    /// so an effect that comes late meets its own name and not a second instance.
    pub starting: Option<InstanceId>,
    /// The instance that was met last and has not been seen to end.
    pub instance: Option<InstanceId>,
    /// An instance of which it was told that it is degraded.
    pub degraded: Option<InstanceId>,
    /// When that instance met its ready rule, and whether it still does.
    pub ready_at: Option<Timestamp>,
    pub unready: bool,
    /// Instances whose stop has been asked for; a typed stop command counts.
    pub stopping: BTreeMap<InstanceId, Stopping>,
    /// Instances on the machine whose end has been counted, so that none is counted twice.
    pub counted: BTreeSet<InstanceId>,
    /// Dead instances that could not be removed, and when to try again.
    pub remove_after: BTreeMap<InstanceId, Timestamp>,
    /// How the last instance ended.
    pub exit: Option<ExitRecord>,
    /// Failed starts and crashes in a row, and the earliest next start.
    pub crashes: u32,
    pub not_before: Option<Timestamp>,
    /// Of those, how many without having been Ready.
    pub never_ready: u32,
    /// The last instance crashed: the next start is a restart.
    pub crashed: bool,
    /// Starts after crashes since a person last asked for one.
    pub restarts: u32,
    /// Why the last start or run went wrong.
    pub trouble: Option<Trouble>,
    /// A stop that was begun and is no longer meant: the game may have heard of it all the same, and
    /// its end then is no wish of its own.
    pub withdrawn: Option<Withdrawn>,
    /// It runs and no longer answers: to be killed, and its end is a crash.
    pub hung: Option<Hung>,
    /// Ended, and by policy not started again until there is a newer wish.
    pub rest: Option<Rest>,
    /// Given up; a newer wish tries again.
    pub failed: Option<Failure>,
    pub purged: bool,
    pub purge_after: Option<Timestamp>,
    /// The wish `deleted` is fulfilled; the record stays as a tombstone.
    pub deleted: bool,
    /// What the supervision says of the current instance.
    pub conditions: Vec<Condition>,
    /// Its files are worked on: it is stopped, and neither installed nor started until that is over.
    /// Of this run of the worker alone.
    #[serde(skip)]
    pub held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    pub instance: InstanceId,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hung {
    pub instance: InstanceId,
    pub silent_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// Ended by itself with exit code 0.
    Completed,
    /// A person typed its stop command.
    Typed,
    /// Crashed, and its policy is to leave it.
    Crashed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The condition's type: `PortInUse`, `Start`, `Crash`.
    pub kind: String,
    pub reason: String,
    #[serde(default)]
    pub hint: Option<String>,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub generation: Generation,
    /// The condition's type.
    pub kind: String,
    pub reason: String,
    #[serde(default)]
    pub hint: Option<String>,
    pub at: Timestamp,
    /// When the same again may do better; without it only a new wish tries again.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    #[serde(default)]
    pub attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    pub since: Timestamp,
    pub mode: StopMode,
    /// By a line in its console, not by a wish.
    #[serde(default)]
    pub typed: bool,
    /// Because it hung, which is nobody's wish either.
    #[serde(default)]
    pub hung: bool,
    /// The whole ladder has been climbed and something still lives.
    #[serde(default)]
    pub stuck: bool,
    #[serde(default)]
    pub attempts: u32,
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    /// What the stop said of the end, for an instance that vanishes before it is seen dead.
    #[serde(default)]
    pub exit: Option<ExitRecord>,
    #[serde(default)]
    pub error: Option<String>,
}
