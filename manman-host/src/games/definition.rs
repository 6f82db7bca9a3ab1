//! A game's definition as its YAML file has it, checked as a whole when it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use manman_common::game_id::{GameId, InstallMethod};
use manman_common::spec::{
    ActionSpec, Builtin, ConsoleKind, DataSpec, DockerSpec, FileFormat, InputSpec, Platform, Protocol, RestartPolicy, SteamLogin, StopRung,
    StopStep, UpdatePolicy,
};
use manman_common::wire::{GamePort, GameView, Proven};
use serde::Deserialize;

use super::at::Outline;
use super::check;
use super::fault::{Fault, Faults};
use super::values::{SetValue, duration, in_order, number_or_text, optional_duration, optional_size, proven};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What people type for it: its file's name. Empty where it came from no file.
    #[serde(skip)]
    pub short: String,
    pub game: GameId,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub platform: Platform,
    #[serde(default)]
    pub steam: Option<Steam>,
    #[serde(default)]
    pub variables: BTreeMap<String, InputSpec>,
    #[serde(default)]
    pub ports: BTreeMap<String, DefinitionPort>,
    #[serde(default)]
    pub start: Start,
    #[serde(default)]
    pub docker: Option<DockerSpec>,
    #[serde(default)]
    pub files: Vec<File>,
    #[serde(default)]
    pub ready: Ready,
    #[serde(default)]
    pub console: Console,
    #[serde(default)]
    pub stop: Vec<Rung>,
    #[serde(default)]
    pub query: Option<Query>,
    #[serde(default)]
    pub players: Option<Players>,
    #[serde(default)]
    pub hang: Option<Hang>,
    /// What a player opens, such as `ddnet://{{server.ip}}:{{ports.game}}`; address and port where it is absent.
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub actions: BTreeMap<String, Action>,
    #[serde(default)]
    pub restart: Option<RestartPolicy>,
    /// Which files hold what is worth keeping.
    #[serde(default)]
    pub data: DataSpec,
    #[serde(default)]
    pub update: Update,
    #[serde(default, deserialize_with = "proven")]
    pub proven: Option<Proven>,
    #[serde(default)]
    pub resources: Resources,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefinitionPort {
    pub protocol: PortProtocol,
    #[serde(deserialize_with = "number_or_text")]
    pub default: String,
    /// The number inside the container, for games that can not be told another.
    #[serde(default)]
    pub container: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    Udp,
    Tcp,
    Both,
}

impl PortProtocol {
    #[must_use]
    pub fn protocols(self) -> Vec<Protocol> {
        match self {
            Self::Udp => vec![Protocol::Udp],
            Self::Tcp => vec![Protocol::Tcp],
            Self::Both => vec![Protocol::Udp, Protocol::Tcp],
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Both => "both",
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Start {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Working directory below the server's own.
    pub dir: Option<String>,
    /// A pseudo terminal; an image has `docker.tty`.
    pub tty: bool,
    /// What must be there once the game is installed.
    pub expect: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steam {
    #[serde(default)]
    pub branch: Option<String>,
    pub login: SteamLogin,
    #[serde(default)]
    pub app_validate: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub path: String,
    pub format: FileFormat,
    #[serde(deserialize_with = "in_order")]
    pub set: Vec<(String, SetValue)>,
    #[serde(default)]
    pub create: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ready {
    pub log: Option<String>,
    /// A protocol's name.
    pub query: Option<String>,
    #[serde(deserialize_with = "optional_duration")]
    pub within: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    pub input: ConsoleKind,
    /// The name of one of the ports, for a console over the network.
    pub port: Option<String>,
    /// The name of the secret variable with its password.
    pub secret: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Players {
    pub join: String,
    pub leave: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hang {
    #[serde(deserialize_with = "duration")]
    pub silent: Duration,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Update {
    pub on: UpdatePolicy,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    pub label: String,
    #[serde(default)]
    pub console: Option<String>,
    #[serde(default)]
    pub argv: Vec<String>,
    #[serde(default)]
    pub script: Option<String>,
    #[serde(default)]
    pub builtin: Option<Builtin>,
    #[serde(default)]
    pub inputs: BTreeMap<String, InputSpec>,
    #[serde(default)]
    pub answer: Option<String>,
    #[serde(default)]
    pub disabled: bool,
    #[serde(default, deserialize_with = "optional_duration")]
    pub timeout: Option<Duration>,
    #[serde(default)]
    pub confirm: bool,
}

impl Action {
    pub(super) fn spec(&self) -> ActionSpec {
        let Self { label, console, argv, script, builtin, inputs, answer, disabled, timeout, confirm } = self;
        let builtin_spec = builtin.map(Builtin::spec).unwrap_or_default();
        ActionSpec {
            label: label.clone(),
            console: console.clone().unwrap_or_default(),
            argv: argv.clone(),
            script: script.clone(),
            builtin: *builtin,
            inputs: if builtin.is_some() && inputs.is_empty() { builtin_spec.inputs } else { inputs.clone() },
            answer: answer.clone(),
            disabled: *disabled,
            timeout_seconds: timeout.map(whole_seconds),
            confirm: *confirm || builtin_spec.confirm,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    #[serde(default)]
    pub console: Option<String>,
    #[serde(default)]
    pub signal: Option<String>,
    #[serde(default)]
    pub action: Option<String>,
    #[serde(deserialize_with = "duration")]
    pub wait: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    pub protocol: String,
    /// The name of one of the ports.
    pub port: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    #[serde(deserialize_with = "optional_size")]
    pub memory: Option<u64>,
    #[serde(deserialize_with = "optional_size")]
    pub disk: Option<u64>,
}

const SIGNALS: [&str; 7] = ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL"];

/// As YAML 1.2 has it: `on` and `no` are words.
macro_rules! yaml {
    () => {
        serde_saphyr::options! { strict_booleans: true, with_snippet: false }
    };
}

impl Definition {
    /// Reads a definition and looks at all that its shape alone does not tell.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        let definition = Self::read(text)?;
        let found = check::faults(&definition);
        if found.is_empty() {
            return Ok(definition);
        }
        // Read once more for the places alone, which a sound definition never needs.
        let outline: Option<Outline> = serde_saphyr::from_str_with_options(text, yaml!()).ok();
        let mut faults: Vec<Fault> = found.into_iter().map(|(at, why)| Fault::of_field(text, outline.as_ref(), &at, why)).collect();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup();
        Err(Faults(faults))
    }

    /// Reads one that is known to be sound, such as those in the binary, which a test looks at.
    pub(super) fn read(text: &str) -> Result<Self, Faults> {
        serde_saphyr::from_str_with_options(text, yaml!()).map_err(|error| Faults(vec![Fault::of_parser(text, &error)]))
    }

    /// The stop plan; empty where the definition has none.
    #[must_use]
    pub fn stop_ladder(&self) -> Vec<StopRung> {
        let rung = |rung: &Rung| {
            let step = rung.step().ok()?;
            Some(StopRung { step, wait_seconds: whole_seconds(rung.wait) })
        };
        self.stop.iter().filter_map(rung).collect()
    }

    #[must_use]
    pub fn action_specs(&self) -> BTreeMap<String, ActionSpec> {
        self.actions.iter().map(|(name, action)| (name.clone(), action.spec())).collect()
    }

    #[must_use]
    pub fn view(&self) -> GameView {
        let port = |(name, port): (&String, &DefinitionPort)| GamePort {
            name: name.clone(),
            protocol: port.protocol.as_str().to_owned(),
            default: port.default.clone(),
        };
        GameView {
            game_id: self.game.clone(),
            name: self.name.clone(),
            description: self.description.clone(),
            tags: self.tags.clone(),
            variables: self.variables.clone(),
            ports: self.ports.iter().map(port).collect(),
            actions: self.action_specs(),
            console: self.console.input,
            short: self.short.clone(),
            platform: self.platform,
            steam_login: self.steam.as_ref().map(|steam| steam.login),
            query: self.query.as_ref().map(|query| query.protocol.clone()),
            proven: self.proven.clone(),
            memory_bytes: self.resources.memory,
            disk_bytes: self.resources.disk,
        }
    }

    #[must_use]
    pub fn method(&self) -> InstallMethod {
        self.game.method()
    }
}

impl Rung {
    pub(super) fn step(&self) -> Result<StopStep, &'static str> {
        match (&self.console, &self.signal, &self.action) {
            (Some(line), None, None) => Ok(StopStep::Console(line.clone())),
            (None, Some(signal), None) if SIGNALS.contains(&signal.as_str()) => Ok(StopStep::Signal(signal.clone())),
            (None, Some(_), None) => Err("a signal is TERM, INT, QUIT, HUP, USR1, USR2 or KILL"),
            (None, None, Some(action)) => Ok(StopStep::Action(action.clone())),
            _ => Err("a rung is one of a `console` line, a `signal` and an `action`"),
        }
    }
}

pub(super) fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
