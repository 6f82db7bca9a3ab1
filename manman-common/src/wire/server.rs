//! Servers as people ask for them and see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::{ActionSpec, DesiredState, DockerSpec, Limits, Protocol, RestartPolicy};
use crate::status::{Condition, ExitRecord, Phase, Players, Progress, Usage};
use crate::{GameId, Generation, InstanceId, Name, ServerId, ServerStatus, Timestamp, WorkerId};

/// `POST /server`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateServer {
    pub game_id: GameId,
    /// An id or a name; without it the host chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// Made from the game's name where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Ports by name override those of the definition; for a game without one they are all there is.
    #[serde(default)]
    pub ports: Vec<PortRequest>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartPolicy>,
    /// For a game without a definition: what to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartRequest>,
    /// For a Docker image without a definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerSpec>,
    /// Actions of this server alone, beside those of its game. An administrator's to give: a script is
    /// code that runs on the machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<String, ActionSpec>,
    /// Whether it is to run at once; `running` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<DesiredState>,
    /// Without a word from the host for so many seconds the server is stopped, so that it may be
    /// started elsewhere. Absent, it runs for ever without the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StartRequest {
    pub argv: Vec<String>,
}

/// A port that somebody wants: by `name` one of the definition's, or a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// 1 to 65535; the host chooses one where it is absent or 0. Wider than a port can be, so that
    /// the answer to 70000 can name the field.
    #[serde(default)]
    pub port: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u32>,
}

/// A server as everybody sees it. Values of secret variables are not in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerView {
    pub id: ServerId,
    pub name: Name,
    pub worker_id: WorkerId,
    pub worker_name: Name,
    pub game_id: GameId,
    pub desired: DesiredState,
    pub phase: Phase,
    /// The worker's last word on the phase, where `phase` is the host's `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_phase: Option<Phase>,
    pub generation: Generation,
    pub applied_generation: Generation,
    pub pending_restart: bool,
    pub instance: Option<InstanceId>,
    pub restarts: u32,
    pub exit: Option<ExitRecord>,
    pub players: Option<Players>,
    pub progress: Option<Progress>,
    #[serde(default)]
    pub backoff_until: Option<Timestamp>,
    pub usage: Option<Usage>,
    /// For players: `steam://connect/192.168.1.10:27015`, or `192.168.1.10:27960`.
    pub url: Option<String>,
    pub conditions: Vec<Condition>,
    pub ports: Vec<PortView>,
    /// Secret ones are there with the value `null`.
    pub variables: BTreeMap<String, Option<String>>,
    pub limits: Limits,
    /// Names of the actions that `command` knows.
    #[serde(default)]
    pub actions: Vec<String>,
    /// Without a word from the host for so many seconds it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
    /// Which assignment to a worker this is; +1 with each move.
    #[serde(default)]
    pub epoch: u64,
    pub extra: BTreeMap<String, serde_json::Value>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortView {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub address: String,
}

/// `PUT`/`PATCH /server/{id}`: a JSON merge patch (RFC 7396) on these fields; `null` in a map
/// brings back the default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PatchServer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Option<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<PatchLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartPolicy>,
    /// Actions of this server alone; `null` takes one away. An administrator's to change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, ActionSpec>))]
    pub actions: BTreeMap<String, Option<ActionSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<DesiredState>,
    /// `null` takes the lease away.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>))]
    pub lease_seconds: Option<Option<u32>>,
    /// Another worker, by id or name: the server moves there, without its files. Only where the one
    /// that it is on has let go of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// A generation may be named, and then must be the present one's successor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// An absent limit stays as it is, a `null` one is lifted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PatchLimits {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub memory_bytes: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub cpu_millis: Option<Option<u32>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub pids: Option<Option<u32>>,
}

fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// The answer to start, stop, restart and kill: what to wait for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PowerAnswer {
    pub generation: Generation,
    /// With `?wait=`: whether it was reached in that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<bool>,
    pub server: ServerView,
}

/// `GET /server/{id}/log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogPointer {
    /// History over plain HTTP.
    pub url: String,
    /// The same and what follows, as a WebSocket.
    pub stream_url: String,
    pub first_seq: crate::LogSeq,
    pub last_seq: crate::LogSeq,
    /// With `?at=TIME`: the first line at or after that time; one after the last where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_seq: Option<crate::LogSeq>,
}

/// `POST /server/{id}/health` and the servers of a worker's beat.
pub type ServerBeat = ServerStatus;
