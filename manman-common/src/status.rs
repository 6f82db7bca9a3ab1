//! What a server and a worker are, as somebody saw them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Generation, InstanceId, ServerId, Timestamp};

/// Where a server stands in its life. Only the host says [`Phase::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Asked for; its worker has not begun.
    Pending,
    Installing,
    Stopped,
    Starting,
    /// The game's process runs; its ready rule is not yet met.
    Running,
    Ready,
    /// Was Ready and no longer answers.
    Unready,
    Stopping,
    Crashed,
    /// Waits before it is started again.
    Backoff,
    /// Given up; a new wish tries again.
    Failed,
    /// The stop ladder is at its end and something of the game still lives.
    StopStuck,
    /// Runs here, though no wish of the host mentions it.
    Orphaned,
    /// Its worker has not been heard of.
    Unknown,
    Deleted,
}

impl Phase {
    /// Whether an instance of the game is alive in this phase.
    #[must_use]
    pub const fn is_live(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Ready | Self::Unready | Self::Stopping | Self::StopStuck | Self::Orphaned => true,
            Self::Pending
            | Self::Installing
            | Self::Stopped
            | Self::Crashed
            | Self::Backoff
            | Self::Failed
            | Self::Unknown
            | Self::Deleted => false,
        }
    }
}

/// How an instance ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExitRecord {
    /// The exit code; `None` when a signal ended it or nobody saw the end.
    pub code: Option<i32>,
    /// The signal's number.
    pub signal: Option<i32>,
    pub oom: bool,
    /// Why, in words for a person: `out of memory`, `port 27960/udp is in use`, …
    pub reason: Option<String>,
    pub at: Option<Timestamp>,
}

/// Something about a server that a person should know, for as long as it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Condition {
    /// `ImagePull`, `ImageBuild`, `PortInUse`, `Ready`, `Backoff`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, what was tried, what to do; one or two sentences.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub since: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Players {
    pub online: u32,
    /// 0 where nothing tells.
    pub max: u32,
    /// As far as they are known, and short and plain enough to be shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

impl std::fmt::Display for Players {
    /// `3/8`, or `3` where nobody knows how many fit in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.max {
            0 => write!(f, "{}", self.online),
            max => write!(f, "{}/{max}", self.online),
        }
    }
}

/// How far an install is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// 0 to 100, where it is known.
    #[serde(default)]
    pub percent: Option<u8>,
    /// What is being done: `pulling layer 3 of 7`, `Step 4/9 : RUN apt-get …`.
    pub step: String,
}

/// What an instance uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    pub memory_bytes: u64,
    /// Thousandths of a core, over the last sample.
    pub cpu_millis: u32,
    /// Since the instance began; absent where nobody counts, as for games that share the machine's
    /// network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_received_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_sent_bytes: Option<u64>,
}

/// A server as its worker last saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerStatus {
    pub id: ServerId,
    /// The newest generation that the worker has stored.
    pub generation: Generation,
    /// The generation that what runs (or rests) now corresponds to.
    pub applied_generation: Generation,
    pub phase: Phase,
    #[serde(default)]
    pub pending_restart: bool,
    #[serde(default)]
    pub instance: Option<InstanceId>,
    /// Starts after crashes, since a person last asked for a start.
    #[serde(default)]
    pub restarts: u32,
    #[serde(default)]
    pub exit: Option<ExitRecord>,
    #[serde(default)]
    pub players: Option<Players>,
    #[serde(default)]
    pub progress: Option<Progress>,
    /// With `Backoff`: when the next start is due.
    #[serde(default)]
    pub backoff_until: Option<Timestamp>,
    #[serde(default)]
    pub usage: Option<Usage>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Whatever the game's own query tells: `map`, `version`, …
    #[serde(default)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// A worker as the host sees it. Only the host says `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum WorkerStatus {
    /// Asks to join; a person has not accepted it yet.
    Pending,
    Alive,
    /// Cordoned: what runs goes on, nothing new starts.
    Frozen,
    /// Said goodbye.
    Shutdown,
    /// Not heard of for too long.
    Unknown,
}

impl WorkerStatus {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Alive => "alive",
            Self::Frozen => "frozen",
            Self::Shutdown => "shutdown",
            Self::Unknown => "unknown",
        }
    }
}
