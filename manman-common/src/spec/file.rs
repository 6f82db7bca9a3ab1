//! The files of a server: which are written before a start, and which are worth keeping.

use serde::{Deserialize, Serialize};

/// A configuration file of the game, changed key by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileSpec {
    /// Relative to the server's data directory; never out of it.
    pub path: String,
    pub format: FileFormat,
    /// In the order in which they are set.
    pub set: Vec<FileEntry>,
    /// Make the file where it is absent; without this an absent file is left to the game.
    #[serde(default)]
    pub create: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FileFormat {
    Properties,
    Ini,
    Json,
    Yaml,
    Toml,
    Xml,
    Line,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileEntry {
    pub key: String,
    /// A text takes the type that the file has at this key; a number or truth value keeps its own.
    pub value: FileValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FileValue {
    Truth(bool),
    Integer(i64),
    Text(String),
}

/// Which files are worth keeping, as globs relative to the server's data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DataSpec {
    pub save: Vec<String>,
    pub logs: Vec<String>,
}

impl DataSpec {
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
