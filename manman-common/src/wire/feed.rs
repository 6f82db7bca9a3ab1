//! What the console hears over its one WebSocket, `GET /feed`.

use serde::{Deserialize, Serialize};

use super::{Event, ServerView, WorkerView};
use crate::{ServerId, WorkerId};

/// One text message of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FeedMessage {
    /// The first one. `epoch` and the newest `seq` that was heard resume later on, with
    /// `/feed?epoch=E&since=N`.
    Hello { epoch: uuid::Uuid, seq: u64 },
    /// All that the caller may see, in place of whatever was heard before.
    Snapshot { seq: u64, servers: Vec<ServerView>, workers: Vec<WorkerView>, services: Vec<ServiceView>, events: Vec<Event> },
    /// What has changed since the message before. Numbers may be left out.
    Delta { seq: u64, changes: Vec<FeedChange> },
    /// Each 15 s: the line lives.
    Ping,
}

/// The whole new value of one thing; `null` where it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FeedChange {
    Server { id: ServerId, value: Option<Box<ServerView>> },
    Worker { id: WorkerId, value: Option<Box<WorkerView>> },
    Service { id: String, value: Option<ServiceView> },
    Event { value: Event },
}

/// Who is found in the house under a name, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceView {
    pub name: String,
    pub kind: ServiceKind,
    pub ip: String,
    pub port: u16,
    /// Of a service `unknown`, `passing` or `critical`; of a waifu what its checks say.
    pub status: String,
    /// Whole seconds that its lease has left, as of this message; `null` never lapses.
    pub expires_in: Option<u32>,
    /// Where the front door shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Hosts of its own at the front door.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ServiceKind {
    /// Of the registry.
    Service,
    /// Of the front door.
    Waifu,
}
