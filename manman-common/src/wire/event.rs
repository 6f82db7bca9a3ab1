//! Who or what did what to what, and when.

use serde::{Deserialize, Serialize};

use crate::{ServerId, Timestamp, WorkerId};

/// An event as the host keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Grows with each event; the cursor of a stream.
    pub id: i64,
    pub at: Timestamp,
    /// `admin`, a token's label, `worker attic`, `host`.
    pub actor: String,
    /// `server.created`, `server.crashed`, `worker.kill_attempt`, …
    pub kind: String,
    pub worker_id: Option<WorkerId>,
    pub server_id: Option<ServerId>,
    /// A sentence for people.
    pub message: String,
    #[serde(default)]
    pub data: serde_json::Value,
}

/// An event in a worker's outbox, on its way to the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerEvent {
    /// Contiguous per worker.
    pub seq: u64,
    pub at: Timestamp,
    pub kind: String,
    pub server_id: Option<ServerId>,
    pub message: String,
    #[serde(default)]
    pub data: serde_json::Value,
}
