//! What a server should be. The host writes it, the worker works towards it.
//!
//! A spec is fully resolved: no template, no game definition and no secret's name is left in it, so
//! that a worker can run its servers for ever without the host.

mod action;
mod file;
mod install;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::action::{ActionSpec, Builtin, Does, Exposed, InputKind, InputSpec};
pub use self::file::{DataSpec, FileEntry, FileFormat, FileSpec, FileValue};
pub use self::install::{Platform, SteamLogin, SteamSpec, UpdatePolicy};
use crate::{GameId, Generation, Name, ServerId};

/// What one may ask of a server; a subset of the [phases](crate::Phase) that one may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DesiredState {
    Running,
    Stopped,
    Deleted,
}

/// How to bring about `Stopped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StopMode {
    /// By the server's stop plan.
    #[default]
    Graceful,
    /// At once: SIGKILL.
    Kill,
}

/// One server as its worker should have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerSpec {
    pub id: ServerId,
    pub name: Name,
    pub generation: Generation,
    pub desired: DesiredState,
    #[serde(default)]
    pub stop_mode: StopMode,
    /// +1 asks for a fresh instance; level-triggered, so a restart asked twice while the worker
    /// was away is one restart.
    #[serde(default)]
    pub restart_seq: u64,
    /// With `Deleted`: whether the server's data goes too.
    #[serde(default)]
    pub purge: bool,
    /// Which assignment of the server to a worker this is, from 1; +1 with each move. A worker, and
    /// a data directory, that has seen a higher one refuses it.
    #[serde(default = "first_epoch")]
    pub epoch: u64,
    /// Seconds of its lease: without a word from the host for so long, the server is stopped, so that
    /// it may be started elsewhere. `None` runs for ever without the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
    pub run: RunSpec,
}

fn first_epoch() -> u64 {
    1
}

/// The part of a spec that an instance is made from: a running game keeps the one it started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunSpec {
    pub game_id: GameId,
    #[serde(default)]
    pub argv: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub ports: Vec<PortSpec>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub ready: ReadyRule,
    #[serde(default)]
    pub stop: Vec<StopRung>,
    #[serde(default)]
    pub query: Option<QuerySpec>,
    #[serde(default)]
    pub console: ConsoleKind,
    #[serde(default)]
    pub actions: BTreeMap<String, ActionSpec>,
    #[serde(default)]
    pub restart: RestartPolicy,
    #[serde(default)]
    pub docker: DockerSpec,
    /// How SteamCMD brings the game; with a `steamcmd:` game only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steam: Option<SteamSpec>,
    /// How a game that is no container is started.
    #[serde(default, skip_serializing_if = "ProcessSpec::is_default")]
    pub process: ProcessSpec,
    /// Configuration files, written in this order before each start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// Where a [console](Self::console) that is no stdin is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_access: Option<ConsoleAccess>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub players: Option<PlayersRule>,
    /// Kills a game that no longer answers; absent unless asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hang: Option<HangRule>,
    #[serde(default, skip_serializing_if = "DataSpec::is_default")]
    pub data: DataSpec,
    #[serde(default)]
    pub update: UpdatePolicy,
}

impl RunSpec {
    /// A game of which nothing else is known: started as it is, without ports, ready once it runs.
    #[must_use]
    pub fn new(game_id: GameId) -> Self {
        Self {
            game_id,
            argv: Vec::new(),
            env: BTreeMap::new(),
            ports: Vec::new(),
            limits: Limits::default(),
            ready: ReadyRule::default(),
            stop: Vec::new(),
            query: None,
            console: ConsoleKind::default(),
            actions: BTreeMap::new(),
            restart: RestartPolicy::default(),
            docker: DockerSpec::default(),
            steam: None,
            process: ProcessSpec::default(),
            files: Vec::new(),
            console_access: None,
            players: None,
            hang: None,
            data: DataSpec::default(),
            update: UpdatePolicy::default(),
        }
    }
}

impl RunSpec {
    /// An action of the game's or the server's own, else what a worker can do with every server.
    #[must_use]
    pub fn action(&self, name: &str) -> Option<std::borrow::Cow<'_, ActionSpec>> {
        let own = self.actions.get(name).map(std::borrow::Cow::Borrowed);
        own.or_else(|| Builtin::named(name).map(|builtin| std::borrow::Cow::Owned(builtin.spec())))
    }

    /// The names of all that can be done with the server, its own first.
    #[must_use]
    pub fn action_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.actions.iter().filter(|(_, action)| !action.disabled).map(|(name, _)| name.as_str()).collect();
        for builtin in Builtin::ALL.into_iter().filter(|builtin| !self.actions.contains_key(builtin.name())) {
            names.push(builtin.name());
        }
        names
    }
}

/// A port of the game on its machine; inside a container the number is `container_port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortSpec {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    /// The number inside the container; the same as `port` where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Protocol {
    Udp,
    Tcp,
}

impl Protocol {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Ceilings of one instance; `None` is the machine's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Bytes of memory, swap included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// When a running server counts as Ready. With neither log nor query it is Ready once its ports
/// are bound inside its own network namespace, or, without ports, once it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReadyRule {
    /// A regular expression looked for in each line of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Whether the server's [query](RunSpec::query) must answer, too.
    pub query: bool,
    /// How long it may take, in seconds; extended while the log grows.
    pub within_seconds: u32,
}

impl Default for ReadyRule {
    fn default() -> Self {
        // Ten minutes: the slowest first start measured in the catalogue is a modded world's six.
        Self { log: None, query: false, within_seconds: 600 }
    }
}

/// One rung of the stop ladder; when the last has been waited for, SIGKILL follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StopRung {
    #[serde(flatten)]
    pub step: StopStep,
    /// Seconds to wait for the game to end before the next rung.
    pub wait_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StopStep {
    /// A line typed into the game's console.
    Console(String),
    /// A signal by its short name: `TERM`, `INT`, `QUIT`, `HUP`, `USR1`, `USR2`, `KILL`.
    Signal(String),
    /// One of the server's [actions](RunSpec::actions), without inputs; its answer ends the rung's
    /// wait. Such rungs, and console rungs of a game whose console is no stdin, are climbed by the
    /// worker and come before all others; the rest is the shim's.
    Action(String),
}

/// How to ask a running game about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QuerySpec {
    /// A protocol's name: `quake3`, `valve`, `minecraft`, …
    pub protocol: String,
    /// The port on the machine.
    pub port: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConsoleKind {
    /// The game reads no console; lines are refused.
    None,
    #[default]
    Stdin,
    /// Valve's RCON over TCP.
    SourceRcon,
    /// The same wire format with Minecraft's differences.
    MinecraftRcon,
    /// Quake 3's out-of-band packets over UDP.
    Quake3Rcon,
    /// 7 Days to Die and its like: lines over TCP, after a password where there is one.
    Telnet,
    /// Rust's JSON over a WebSocket.
    WebRcon,
}

impl ConsoleKind {
    /// Whether it is reached over the network instead of the game's own stdin.
    #[must_use]
    pub const fn is_remote(self) -> bool {
        match self {
            Self::None | Self::Stdin => false,
            Self::SourceRcon | Self::MinecraftRcon | Self::Quake3Rcon | Self::Telnet | Self::WebRcon => true,
        }
    }
}

/// Where a console over the network listens: a port of the server, reached on the loopback of its
/// machine (in Docker as it is published there), and the password it asks for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsoleAccess {
    /// The port on the machine.
    pub port: u16,
    /// Absent where the game asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl std::fmt::Debug for ConsoleAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsoleAccess").field("port", &self.port).finish_non_exhaustive()
    }
}

/// How a game is started that is a process of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessSpec {
    /// Working directory, relative to the server's data directory, which is also its HOME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// A pseudo terminal instead of pipes.
    pub tty: bool,
}

impl ProcessSpec {
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who comes and goes, read from the log: regular expressions with a group `player`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlayersRule {
    pub join: String,
    pub leave: String,
}

/// When a running game counts as hung: it was Ready, and its [query](RunSpec::query) or remote
/// console has not answered for this long. It is killed, and the crash policy follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HangRule {
    pub silent_seconds: u32,
}

/// What to do when the game ends though nobody asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RestartPolicy {
    Always,
    /// Start it again unless it ended with exit code 0.
    #[default]
    OnFailure,
    Never,
}

/// What only Docker needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DockerSpec {
    /// Where in the container the server's data directory appears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Further paths in the container that keep their content, each below the server's directory.
    pub mounts: Vec<String>,
    /// `uid:gid` or a name in the image; the image's own where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub entrypoint: Vec<String>,
    pub tty: bool,
    /// Puts Docker's small init in front, for images whose program must not be process 1.
    pub init: bool,
    /// Our shim in front of the entrypoint: log, stdin, stop and exit go its way. For images proven
    /// with it; others keep the followed log.
    pub shim: bool,
    /// For an image of ours: the folder of its Dockerfile among those in the binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
}

impl PortSpec {
    /// The port's number as the game in its container sees it.
    #[must_use]
    pub fn inner_port(&self) -> u16 {
        self.container_port.unwrap_or(self.port)
    }
}
