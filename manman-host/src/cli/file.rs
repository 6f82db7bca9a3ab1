//! The configuration's file.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manman_front_door::orchestrator::{Target, Webhook};
use manman_front_door::proxy::Network;
use serde::{Deserialize, Deserializer, de};

use super::orchestrator::size as parse_size;
use crate::games::parse_duration;

/// `host.toml`: the flags' names with underscores.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    pub data: Option<PathBuf>,
    pub public: Option<SocketAddr>,
    pub internal: Option<SocketAddr>,
    pub database_url: Option<String>,
    pub pg_bin: Option<PathBuf>,
    pub orchestrator: Option<String>,
    pub provision_url: Option<String>,
    pub main_domain: Option<String>,
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<Network>,
    pub tls_dir: Option<PathBuf>,
    #[serde(deserialize_with = "size")]
    pub database_quota: Option<u64>,
    #[serde(deserialize_with = "webhook")]
    pub incident_webhook: Option<Webhook>,
    #[serde(deserialize_with = "target")]
    pub caddy: Option<Target>,
    pub games: Vec<PathBuf>,
    pub lan: Option<bool>,
    pub mdns: Option<bool>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    #[serde(deserialize_with = "duration")]
    pub settle: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub rebase_after: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("could not read the configuration `{}`", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// The parser's words name the line and show it, so the place says no more than the file.
    #[error("the configuration `{}` is not valid", .0.display())]
    Parse(PathBuf, #[source] Box<toml::de::Error>),
}

impl FileConfig {
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError::Read(path.to_owned(), error))?;
        toml::from_str(&text).map_err(|error| FileError::Parse(path.to_owned(), Box::new(error)))
    }

    /// No file is an empty one.
    pub fn read_if_there(path: &Path) -> Result<Self, FileError> {
        match Self::read(path) {
            Err(FileError::Read(_, error)) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            read => read,
        }
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Network>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(de::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    parse_size(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

fn webhook<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Webhook>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}

fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Target>, D::Error> {
    Target::parse(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}
