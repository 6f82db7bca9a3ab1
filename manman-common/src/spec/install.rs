//! Where the files of a game come from, and when newer ones are fetched.

use serde::{Deserialize, Serialize};

/// What SteamCMD has to fetch for a game.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SteamSpec {
    pub platform: Platform,
    /// The public branch where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    pub login: SteamLogin,
    /// Compare every file on each update, not only on the first install and after a failure.
    pub app_validate: bool,
    /// Files and folders that must be there once it is installed, relative to the install.
    pub expect: Vec<String>,
}

/// For which system the game's build is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Platform {
    #[default]
    Linux,
    /// A Windows build, started through Proton. Where a worker has none, the install is refused.
    WindowsProton,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SteamLogin {
    #[default]
    Anonymous,
    /// An account that owns the game, signed in once per machine with `manman-worker steam login`.
    Account,
}

/// When a newer build is fetched; never on a crash restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum UpdatePolicy {
    /// While the server is stopped or nobody plays.
    #[default]
    Idle,
    /// Before each start that a person asked for.
    Start,
    Manual,
}
