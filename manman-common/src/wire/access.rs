//! Tokens and the host's own state.

use serde::{Deserialize, Serialize};

use crate::{AccountId, ServerId, Timestamp, TokenId, WorkerId};

/// What a token's holder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Scope {
    /// Everything.
    Admin,
    /// Run servers; not tokens, not workers.
    Operator,
    /// Look.
    Viewer,
    /// One worker's own: its beat, its link, its servers.
    Worker,
    /// Admits new workers; nothing else.
    Join,
}

/// `POST /token`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateToken {
    pub scope: Scope,
    /// Whose or what for; shown in lists and events.
    #[serde(default)]
    pub label: String,
    /// Seconds until it expires; never where it is absent. A join token lives an hour then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// Confines an operator or viewer to one server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<ServerId>,
}

/// A token just made: the only time that its secret is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedToken {
    pub token: String,
    #[serde(flatten)]
    pub view: TokenView,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    pub id: TokenId,
    pub scope: Scope,
    pub label: String,
    pub server_id: Option<ServerId>,
    pub worker_id: Option<WorkerId>,
    /// Whose it is: it ends with the account.
    #[serde(default)]
    pub account_id: Option<AccountId>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// Within a minute; a worker's within an hour.
    pub last_used_at: Option<Timestamp>,
}

/// `POST /login-link`: a link that signs a browser in, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoginLink {
    pub url: String,
    pub expires_at: Timestamp,
}

/// `GET /status`: the host at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostStatus {
    pub version: String,
    pub host_id: uuid::Uuid,
    pub started_at: Timestamp,
    /// Seconds left in which the host distrusts its own sight and calls nobody stale.
    pub settling_seconds: u32,
    /// `embedded` or `external`, and the server's version.
    pub database: String,
    pub workers: Vec<WorkerCount>,
    pub servers: Vec<PhaseCount>,
    /// What needs a person, in sentences.
    pub attention: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerCount {
    pub status: crate::WorkerStatus,
    pub count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PhaseCount {
    pub phase: crate::Phase,
    pub count: u32,
}
