//! What a worker is told at its start: resolved, checked, and from then on constant.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use manman_common::Name;
use manman_common::client::Endpoint;
use serde::{Deserialize, Serialize};

/// Everything that [`run`](crate::run) needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The host to work for; without one the worker keeps what it has and answers on its listener.
    pub host: Option<Endpoint>,
    /// What to do without one.
    pub find: Find,
    /// An orchestrator to say hello to, which shows the worker at its front door.
    pub orchestrator: Option<Endpoint>,
    /// Admits the worker without a person's word.
    pub join_token: Option<String>,
    /// The worker's own directory: its database, its servers, its lock.
    pub data_dir: PathBuf,
    /// The stable name to register under.
    pub name: Name,
    /// Where the worker's own API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach this machine and its games, where the host can not tell by itself.
    pub advertise: Option<IpAddr>,
    /// A second address, for friends outside.
    pub public_address: Option<IpAddr>,
    pub docker: DockerMode,
    /// SteamCMD of the machine's owner, absolute; without it one is fetched on first use.
    pub steamcmd: Option<PathBuf>,
    /// Ports that games may have.
    pub port_range: Option<PortRange>,
    pub labels: BTreeMap<String, String>,
}

impl Config {
    /// A worker with nothing but a directory, named after the machine.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            host: None,
            find: Find::Off,
            orchestrator: None,
            join_token: None,
            data_dir: data_dir.into(),
            name: crate::identity::machine_name(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: None,
            public_address: None,
            docker: DockerMode::Auto,
            steamcmd: None,
            port_range: None,
            labels: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Where Steam's games come from and go to. `home` is the user's, for what Steam's own client put there.
    #[must_use]
    pub fn steam(&self, home: Option<&Path>) -> manman_steam::SteamConfig {
        let mut config = manman_steam::SteamConfig::new(&self.data_dir);
        config.steamcmd.clone_from(&self.steamcmd);
        config.proton = manman_steam::find_proton(home);
        config
    }
}

/// What a worker does that knows no host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Find {
    #[default]
    Off,
    /// Says once who is on the network.
    Tell,
    /// Joins the only host on the network, which still has to accept it.
    Join,
}

/// Whether this worker runs Docker games.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DockerMode {
    On,
    Off,
    /// If an engine answers.
    #[default]
    Auto,
}

/// `27000-28000`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    #[must_use]
    pub const fn bounds(self) -> (u16, u16) {
        (self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refuse = || ConfigError::PortRange(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(refuse)?;
        let first: u16 = first.trim().parse().map_err(|_| refuse())?;
        let last: u16 = last.trim().parse().map_err(|_| refuse())?;
        if first == 0 || first > last {
            return Err(refuse());
        }
        Ok(Self { first, last })
    }
}

impl TryFrom<String> for PortRange {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        format!("{}-{}", range.first, range.last)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("`{0}` is not a range of ports; write `FIRST-LAST`, such as `27000-28000`")]
    PortRange(String),
    #[error("`{0}` is not a label; write `KEY=VALUE`")]
    Label(String),
    #[error("the configuration file {} can not be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the configuration file {} is not valid", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("there is no home directory to keep the worker's data in")]
    NoHome,
    #[error("`{key}` in {} is not valid: {why}", path.display())]
    Value { path: PathBuf, key: &'static str, why: String },
}

impl ConfigError {
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoHome => Some("name a directory with --data DIR"),
            Self::PortRange(_) | Self::Label(_) | Self::Read { .. } | Self::Parse { .. } | Self::Value { .. } => None,
        }
    }
}

/// The configuration file, TOML. Every key is that of a flag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConfigFile {
    pub host: Option<String>,
    pub find: Option<bool>,
    pub orchestrator: Option<String>,
    pub join_token: Option<String>,
    pub data: Option<PathBuf>,
    pub name: Option<Name>,
    pub listen: Option<SocketAddr>,
    pub advertise: Option<IpAddr>,
    pub public_address: Option<IpAddr>,
    pub docker: Option<DockerMode>,
    pub steamcmd: Option<PathBuf>,
    pub port_range: Option<PortRange>,
    pub labels: BTreeMap<String, String>,
}

impl ConfigFile {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let file: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        if let Some(host) = &file.host {
            host.parse::<Endpoint>().map_err(|why| ConfigError::Value { path: path.to_owned(), key: "host", why: why.to_string() })?;
        }
        Ok(file)
    }
}

/// `KEY=VALUE`.
pub fn parse_label(text: &str) -> Result<(String, String), ConfigError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(ConfigError::Label(text.to_owned())),
    }
}

/// Where a worker that was given no directory keeps its data.
pub fn default_data_dir(var: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let absolute = |name: &str| var(name).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|share| share.join("manman/worker"))
        .ok_or(ConfigError::NoHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_two_ends() {
        assert_eq!("27000-28000".parse::<PortRange>().expect("a range").bounds(), (27000, 28000));
        for bad in ["", "1", "0-5", "5-1", "1-70000", "a-b", "1-2-3"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_key_of_the_file_is_an_error() {
        assert!(toml::from_str::<ConfigFile>("hots = 'http://x'").is_err());
        let file: ConfigFile = toml::from_str("port-range = '1-2'\ndocker = 'off'\n[labels]\nroom = 'attic'").expect("it is valid");
        assert_eq!(file.docker, Some(DockerMode::Off));
        assert_eq!(file.labels["room"], "attic");
    }

    #[test]
    fn a_relative_home_is_no_home() {
        assert!(default_data_dir(|_| Some("here".into())).is_err());
        let found = default_data_dir(|name| (name == "HOME").then(|| "/home/me".into())).expect("there is a home");
        assert_eq!(found, Path::new("/home/me/.local/share/manman/worker"));
    }
}
