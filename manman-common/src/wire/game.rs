//! The catalogue as people see it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::GameId;
use crate::spec::{ActionSpec, ConsoleKind, InputSpec, Platform, SteamLogin};

/// A game of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GameView {
    pub game_id: GameId,
    pub name: String,
    pub description: Option<String>,
    pub tags: Vec<String>,
    pub variables: BTreeMap<String, InputSpec>,
    pub ports: Vec<GamePort>,
    pub actions: BTreeMap<String, ActionSpec>,
    pub console: ConsoleKind,
    /// A word that is enough to name it: `valheim`.
    #[serde(default)]
    pub short: String,
    #[serde(default)]
    pub platform: Platform,
    /// For a game of SteamCMD: whether it needs an account that owns it.
    #[serde(default)]
    pub steam_login: Option<SteamLogin>,
    /// The protocol by which the game is asked about its players.
    #[serde(default)]
    pub query: Option<String>,
    /// Whether somebody has run it, how, and when; absent where nobody has.
    pub proven: Option<Proven>,
    pub memory_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GamePort {
    pub name: String,
    /// `udp`, `tcp` or `both`.
    pub protocol: String,
    /// A number, or an expression such as `{{ports.game}} + 1`.
    pub default: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Proven {
    pub build: String,
    pub date: String,
    pub how: String,
}
