//! A game's definition as its YAML file has it, checked as a whole when it is read.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use manman_common::game_id::{GameId, InstallMethod};
use manman_common::spec::{ActionSpec, ConsoleKind, DockerSpec, InputSpec, Protocol, RestartPolicy, StopRung, StopStep};
use manman_common::wire::{GamePort, GameView, Proven};
use serde::{Deserialize, Deserializer, de};

use crate::domain::template::{PortDefault, port_default};
use crate::domain::variables::whole;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub game: GameId,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub variables: BTreeMap<String, InputSpec>,
    #[serde(default)]
    pub ports: BTreeMap<String, DefinitionPort>,
    #[serde(default)]
    pub start: Start,
    #[serde(default)]
    pub docker: DockerSpec,
    #[serde(default)]
    pub ready: Ready,
    #[serde(default)]
    pub console: Console,
    #[serde(default)]
    pub stop: Vec<Rung>,
    #[serde(default)]
    pub query: Option<Query>,
    /// What a player opens, such as `ddnet://{{server.ip}}:{{ports.game}}`; address and port where it is absent.
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub actions: BTreeMap<String, ActionSpec>,
    #[serde(default)]
    pub restart: Option<RestartPolicy>,
    /// Which files hold what is worth keeping; nothing reads it before there are backups.
    #[serde(default, rename = "data")]
    _data: Option<de::IgnoredAny>,
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
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    #[serde(default)]
    console: Option<String>,
    #[serde(default)]
    signal: Option<String>,
    #[serde(deserialize_with = "duration")]
    wait: Duration,
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

#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The parser's own words name line and column, and show the place.
    #[error(transparent)]
    Yaml(#[from] serde_saphyr::Error),
    #[error("`{field}`: {why}")]
    Field { field: String, why: String },
}

const SIGNALS: [&str; 7] = ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL"];

impl Definition {
    pub fn parse(text: &str) -> Result<Self, DefinitionError> {
        let definition: Self = serde_saphyr::from_str(text)?;
        definition.check()?;
        Ok(definition)
    }

    /// What the shape alone does not tell.
    fn check(&self) -> Result<(), DefinitionError> {
        let refuse = |field: String, why: String| DefinitionError::Field { field, why };
        for (name, port) in &self.ports {
            let default = port_default(&port.default).map_err(|error| refuse(format!("ports.{name}.default"), error.to_string()))?;
            if let PortDefault::Beside { port, .. } = &default
                && !self.ports.contains_key(port)
            {
                return Err(refuse(format!("ports.{name}.default"), format!("there is no port `{port}`")));
            }
        }
        let inputs = self
            .actions
            .iter()
            .flat_map(|(action, spec)| spec.inputs.iter().map(move |(name, input)| (format!("actions.{action}.inputs.{name}"), input)));
        let variables = self.variables.iter().map(|(name, input)| (format!("variables.{name}"), input));
        for (field, input) in variables.chain(inputs) {
            if let Some(pattern) = &input.pattern {
                whole(pattern).map_err(|error| refuse(format!("{field}.pattern"), error.to_string()))?;
            }
        }
        if let Some(pattern) = &self.ready.log {
            regex::Regex::new(pattern).map_err(|error| refuse("ready.log".to_owned(), error.to_string()))?;
        }
        if let Some(query) = &self.query
            && !self.ports.contains_key(&query.port)
        {
            return Err(refuse("query.port".to_owned(), format!("there is no port `{}`", query.port)));
        }
        self.stop_ladder().map(drop)
    }

    pub fn stop_ladder(&self) -> Result<Vec<StopRung>, DefinitionError> {
        let rung = |(at, rung): (usize, &Rung)| {
            let refuse = |why: &str| DefinitionError::Field { field: format!("stop[{at}]"), why: why.to_owned() };
            let step = match (&rung.console, &rung.signal) {
                (Some(line), None) => StopStep::Console(line.clone()),
                (None, Some(signal)) if SIGNALS.contains(&signal.as_str()) => StopStep::Signal(signal.clone()),
                (None, Some(_)) => return Err(refuse("a signal is TERM, INT, QUIT, HUP, USR1, USR2 or KILL")),
                (Some(_), Some(_)) | (None, None) => return Err(refuse("a rung is either a `console` line or a `signal`")),
            };
            Ok(StopRung { step, wait_seconds: u32::try_from(rung.wait.as_secs()).unwrap_or(u32::MAX) })
        };
        self.stop.iter().enumerate().map(rung).collect()
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
            actions: self.actions.clone(),
            console: self.console.input,
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

fn proven<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Proven>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Run(Proven),
        Word(String),
    }
    match Said::deserialize(deserializer)? {
        Said::Run(proven) => Ok(Some(proven)),
        Said::Word(word) if word == "untested" => Ok(None),
        Said::Word(word) => Err(de::Error::custom(format!("`{word}` is neither `untested` nor a build, a date and how it was proven"))),
    }
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Either;
    impl de::Visitor<'_> for Either {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a port's number, or an expression such as \"{{ports.game}} + 1\"")
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }
    deserializer.deserialize_any(Either)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = number_or_text(deserializer)?;
    parse_duration(&text).map_err(de::Error::custom)
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads `90s`, `2m`, `1h`, `500ms`, or seconds without a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let refuse = || format!("`{text}` is not a time such as `90s`, `2m` or `1h`");
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs).ok_or_else(refuse);
    match unit.trim() {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => seconds(1),
        "m" | "min" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => Err(refuse()),
    }
}

fn optional_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = number_or_text(deserializer)?;
    parse_size(&text).map(Some).map_err(de::Error::custom)
}

/// Reads `512MiB`, `4GiB`, `1500MB`, or bytes without a unit.
fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let refuse = || format!("`{text}` is not a size such as `512MiB` or `4GiB`");
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(refuse()),
    };
    number.checked_mul(factor).ok_or_else(refuse)
}
