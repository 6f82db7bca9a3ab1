//! How a host is to run: what flags, environment and file come to.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use manman_front_door::orchestrator::{Target, Webhook};
use manman_front_door::proxy::Network;

/// Seconds between two beats of a worker.
pub const HEARTBEAT_SECONDS: u32 = 5;

/// The one fixed port of manman: a home's machines look for the host there.
pub const INTERNAL_PORT: u16 = 12000;
pub const PUBLIC_PORT: u16 = 8080;
/// The front door where it is open to the home network.
pub const LAN_PORT: u16 = 8443;

/// A host's whole configuration. The database's URL holds a password: it is never printed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Front door: console, API, workers' join and link.
    pub public: SocketAddr,
    /// The same API, and what is for this machine alone.
    pub internal: SocketAddr,
    pub tls: Tls,
    /// Where the host keeps its own files; without one it writes none.
    pub data: Option<PathBuf>,
    pub database: Database,
    pub front_door: FrontDoorConfig,
    /// Whether the host announces itself on the network that its front door is open to.
    pub mdns: bool,
    /// Folders with definitions of games, beside the data directory's own; later ones win.
    pub games: Vec<PathBuf>,
    /// After its own start the host calls nobody stale for so long.
    pub settle: Duration,
    /// Without a beat for so long a worker is shown as unknown.
    pub unknown_after: Duration,
    /// Without a beat for so long the host attempts to kill it.
    pub kill_after: Duration,
    /// A server's own freshness, see POST /server/{id}/health.
    pub server_unknown_after: Duration,
    /// A worker whose database went back in time on its own machine is trusted again by itself after
    /// so long without a rival.
    pub rebase_after: Duration,
}

/// The orchestrator and its public side.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FrontDoorConfig {
    /// `*`, or the host under which waifus are shown below their names.
    pub main_domain: Option<String>,
    /// Proxies in front of us, whose word on the client is believed.
    pub trusted_proxies: Vec<Network>,
    /// Certificates as `HOST.crt` and `HOST.key`, for the hosts of additional binds.
    pub tls_dir: Option<PathBuf>,
    /// A role that may make roles and databases, for those that waifus ask for; the embedded cluster
    /// has one of its own.
    pub provision_url: Option<String>,
    /// What waifus are told of the cluster's place, where that is not what the URL says.
    pub database_address: Option<(String, u16)>,
    /// Bytes that each waifu's database may have.
    pub database_quota: Option<u64>,
    /// Who is told of incidents.
    pub incident_webhook: Option<Webhook>,
    /// The admin API of a Caddy that stands before us.
    pub caddy: Option<Target>,
    /// Another orchestrator, to which this host says hello.
    pub orchestrator: Option<String>,
}

impl std::fmt::Debug for FrontDoorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontDoorConfig")
            .field("main_domain", &self.main_domain)
            .field("orchestrator", &self.orchestrator)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP, for loopback or a proxy in front.
    Off,
    /// A certificate of our own in the data directory, made where there is none.
    Own,
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
}

#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A private Postgres in the data directory.
    Embedded {
        pg_bin: Option<PathBuf>,
    },
    External {
        url: String,
    },
    /// Asked for at an orchestrator elsewhere.
    Asked {
        orchestrator: String,
    },
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded { pg_bin } => f.debug_struct("Embedded").field("pg_bin", pg_bin).finish(),
            Self::External { .. } => f.write_str("External(<secret>)"),
            Self::Asked { orchestrator } => f.debug_struct("Asked").field("orchestrator", orchestrator).finish(),
        }
    }
}

impl Config {
    /// Where definitions of games are looked for; later ones win.
    #[must_use]
    pub fn game_folders(&self) -> Vec<PathBuf> {
        let own = self.data.as_ref().map(|data| data.join("games"));
        own.into_iter().chain(self.games.iter().cloned()).collect()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public: SocketAddr::from((Ipv4Addr::LOCALHOST, PUBLIC_PORT)),
            internal: SocketAddr::from((Ipv4Addr::LOCALHOST, INTERNAL_PORT)),
            tls: Tls::Off,
            data: None,
            database: Database::Embedded { pg_bin: None },
            front_door: FrontDoorConfig::default(),
            mdns: false,
            games: Vec::new(),
            settle: Duration::from_secs(90),
            unknown_after: Duration::from_secs(15),
            kill_after: Duration::from_secs(60),
            server_unknown_after: Duration::from_secs(30),
            rebase_after: Duration::from_secs(600),
        }
    }
}
