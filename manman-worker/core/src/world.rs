//! What the plan sees: what should be, what was tried, and what runs.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::status::{Condition, ExitRecord};
use manman_common::{Generation, InstanceId, ServerId, ServerSpec, Timestamp};
use serde::{Deserialize, Serialize};

/// Everything that a plan is made from. Two equal worlds have equal plans.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    pub now: Timestamp,
    /// Cordoned: what runs goes on, nothing new starts.
    pub frozen: bool,
    pub records: &'a BTreeMap<ServerId, Record>,
    /// One entry per server that any driver could be asked about; a driver that could not look
    /// makes [`Observation::Unknown`] of each of its servers.
    pub observed: &'a BTreeMap<ServerId, Observation>,
    /// Servers with a step under way.
    pub in_flight: &'a BTreeSet<ServerId>,
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

/// A server in SQLite: what the host asked for last, and what was tried. It never says that
/// something runs: that is for the drivers to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub spec: ServerSpec,
    #[serde(default)]
    pub tried: Tried,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tried {
    /// What is installed, as the driver's install key; another key installs again.
    pub installed: Option<String>,
    /// The last install that failed, and when it may be tried again.
    pub install_failure: Option<Failure>,
    /// The instance that was met last, alive or not yet cleared away.
    pub instance: Option<InstanceId>,
    /// When that instance met its ready rule, and whether it still does.
    pub ready_at: Option<Timestamp>,
    pub unready: bool,
    /// The instance whose stop has been asked for, and since when; a typed stop command counts.
    pub stopping: Option<Stopping>,
    /// The instances whose exit has been counted, so that one is never counted twice.
    pub counted_exit: Option<InstanceId>,
    pub exit: Option<ExitRecord>,
    /// Crashes in a row, and the earliest next start.
    pub crashes: u32,
    pub not_before: Option<Timestamp>,
    /// Starts after crashes since a person last asked for one.
    pub restarts: u32,
    /// Given up at this generation and restart counter; a newer wish tries again.
    pub failed: Option<Failure>,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub generation: Generation,
    pub reason: String,
    #[serde(default)]
    pub hint: Option<String>,
    pub at: Timestamp,
    /// Whether the same again may do better; else only a new wish tries again.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    #[serde(default)]
    pub attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    pub instance: InstanceId,
    pub since: Timestamp,
    /// The whole ladder has been climbed and something still lives.
    #[serde(default)]
    pub stuck: bool,
}
