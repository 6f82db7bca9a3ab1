//! Workers: joining, beating, being looked at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::session::{Memory, Quarantine, SessionTerms};
use crate::{Name, Revision, RunId, ServerStatus, SessionEpoch, Timestamp, WorkerId, WorkerStatus};

/// `POST /worker`; an empty body is fine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReserveWorker {
    /// The stable name under which the worker wants to register.
    #[serde(alias = "worker-name", skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

/// What a worker needs to register.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reservation {
    /// `POST /worker/{id}` within 60 s.
    pub id: WorkerId,
    /// The fields which that request must have.
    pub required: Vec<String>,
    pub heartbeat_seconds: u32,
    /// Seconds without a beat until the worker is shown as unknown.
    pub unknown_after: u32,
    /// Seconds without a beat until the host tries to kill the worker.
    pub kill_after: u32,
    pub api_version: String,
    /// The host's own identity; another one is another host.
    pub host_id: uuid::Uuid,
}

/// `POST /worker/{id}`. Written with dashes, as the routes' author has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterWorker {
    pub worker_name: Name,
    /// Where others reach the worker and its games; where it is absent, the socket's peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// The worker's own HTTP listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// Its port alone, joined with the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_port: Option<u16>,
    /// The token that this worker wants the host to show when it calls `api-url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_token: Option<String>,
    #[serde(default)]
    pub capabilities: Capabilities,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Absent only for a registration by hand, which runs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessIdentity>,
    /// The token that a worker which joins wants to be known by, `mm_worker_` and 43 random characters
    /// of base64url; without it the host makes one. It stores it before it asks, so that it is still
    /// the same worker if it is killed before it has stored the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_token: Option<String>,
    /// What it remembers of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// Which process, of which boot, of which machine, from which data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessIdentity {
    pub run_id: RunId,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: with pid and boot it names a process for ever.
    pub start_ticks: u64,
    /// Tells one data directory from a copy of it.
    pub home: String,
}

/// What a machine can run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Capabilities {
    pub drivers: Vec<DriverReport>,
    /// Cores.
    pub cpus: u32,
    pub memory_bytes: u64,
    pub disk_free_bytes: u64,
    /// Ports that games may have, first and last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range: Option<(u16, u16)>,
    /// `v1`, `v2` or `none`.
    pub cgroup: String,
    pub version: String,
    pub os: String,
    /// The Proton that Windows builds are started with; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proton: Option<String>,
    /// A second address, for friends outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address: Option<String>,
}

/// A driver, and whether it works here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DriverReport {
    pub method: crate::InstallMethod,
    pub ready: bool,
    /// `20.10.24`, where it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why it does not, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The answer to a registration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Registered {
    pub id: WorkerId,
    /// `pending` until a person accepts.
    pub status: WorkerStatus,
    pub session_epoch: SessionEpoch,
    /// The worker's own token, handed over once, at its first registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    pub host_id: uuid::Uuid,
    pub heartbeat_seconds: u32,
    /// To be shown at the next registration, and stored before the first beat: a beat in this
    /// session says that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_token: Option<String>,
    #[serde(default)]
    pub terms: SessionTerms,
}

/// `POST /worker/{id}/health`; an empty body is a beat, too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Beat {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_epoch: Option<SessionEpoch>,
    pub observed_revision: Revision,
    /// The worker's own transactions so far.
    pub state_seq: u64,
    pub servers: Vec<ServerStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<MachineUsage>,
    /// The worker says goodbye with `shutdown`, or that it is `frozen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<WorkerStatus>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MachineUsage {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    pub memory_used_bytes: u64,
    pub disk_free_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BeatAnswer {
    pub desired_revision: Revision,
    pub next_seconds: u32,
    pub status: WorkerStatus,
    #[serde(default)]
    pub terms: SessionTerms,
}

/// A worker as everybody sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerView {
    pub id: WorkerId,
    pub name: Name,
    pub status: WorkerStatus,
    pub status_since: Timestamp,
    pub frozen: bool,
    pub address: String,
    pub api_url: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub capabilities: Capabilities,
    pub usage: Option<MachineUsage>,
    pub session_epoch: SessionEpoch,
    pub desired_revision: Revision,
    pub observed_revision: Revision,
    /// Whether its link is open.
    pub linked: bool,
    /// It keeps what runs and does nothing else, until somebody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// It follows this host with reserve: the host's database went back in time, and nobody has
    /// confirmed yet that what it says still holds.
    #[serde(default)]
    pub rebase_needed: bool,
    /// When it was last heard of, since the host's own start.
    pub last_seen: Option<Timestamp>,
    pub servers: u32,
    pub created_at: Timestamp,
}

/// `PUT`/`PATCH /worker/{id}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PatchWorker {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
}

/// The worker's own `GET /status`, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerSelf {
    pub worker_id: Option<WorkerId>,
    pub name: Name,
    pub status: WorkerStatus,
    pub version: String,
    pub session_epoch: SessionEpoch,
    pub observed_revision: Revision,
    pub linked: bool,
    /// Its memory is not trusted: it keeps what runs and does nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    /// Its host went back in time: nothing is stopped, removed or restarted on its word.
    #[serde(default)]
    pub rebase_needed: bool,
    /// Why it does not simply do as it is told, and what ends that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<String>,
    pub usage: Option<MachineUsage>,
    pub servers: Vec<ServerStatus>,
}
