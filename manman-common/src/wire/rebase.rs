//! A worker that is to follow its host again without reserve, or that is off for good.

use serde::{Deserialize, Serialize};

use crate::session::Quarantine;
use crate::{Name, Phase, ServerId, WorkerId};

/// `GET /worker/{id}/rebase`: what would happen if the worker did as the host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebaseView {
    pub id: WorkerId,
    pub name: Name,
    /// Why the worker does not do as the host says; absent where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Quarantine>,
    #[serde(default)]
    pub rebase_needed: bool,
    pub servers: Vec<RebaseServer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebaseServer {
    pub id: ServerId,
    /// Absent where the host knows nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    pub host: RebaseWish,
    /// The worker's last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Phase>,
    pub effect: RebaseEffect,
}

/// What the host says of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RebaseWish {
    Running,
    Stopped,
    Deleted,
    /// It was moved to another worker, and is to be let go of here; its data stays.
    Moved,
    UnknownHere,
}

/// What would happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RebaseEffect {
    None,
    Starts,
    Stops,
    IsDeleted,
    /// It runs on, and nobody looks after it.
    IsForgotten,
}

impl RebaseEffect {
    /// Whether a person has to say so with the worker's name.
    #[must_use]
    pub const fn is_grave(self) -> bool {
        match self {
            Self::Stops | Self::IsDeleted => true,
            Self::None | Self::Starts | Self::IsForgotten => false,
        }
    }
}

/// `POST /worker/{id}/rebase`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebaseRequest {
    /// The worker's name, where something would be stopped or deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
    /// Wishes for what runs instead, so that nothing is stopped.
    pub keep: bool,
}

/// `POST /worker/{id}/fence`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FenceRequest {
    /// The worker's name.
    pub confirm: String,
}
