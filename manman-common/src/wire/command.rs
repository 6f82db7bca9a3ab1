//! Commands to a running game.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::logs::LogLine;
use crate::message::Envelope;
use crate::spec::{ActionSpec, Builtin, Does, InputSpec, RunSpec};
use crate::status::Progress;
use crate::{CommandId, Kind, Problem, ServerId, Timestamp};

/// `POST /server/{id}/command`: one of these shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CommandRequest {
    Line(LineCommand),
    Lines(LinesCommand),
    Action(ActionCommand),
    Envelope(Envelope),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LineCommand {
    pub command: String,
    /// Milliseconds to collect the answer for; 0 asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LinesCommand {
    pub commands: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActionCommand {
    pub action: String,
    #[serde(default)]
    pub inputs: BTreeMap<String, serde_json::Value>,
}

/// What came of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandAnswer {
    /// The lines that the game was given.
    pub sent: Vec<String>,
    /// The lines that it printed afterwards, within the window; a busy game's other lines may be
    /// among them. A console over the network answers with its own reply.
    pub answer: Vec<LogLine>,
    /// Whether an action that knows its own end has come to it, and where that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
    /// With an action that is no console line: how far it is, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Box<ActionRun>>,
}

impl CommandAnswer {
    /// The answer to whoever asked for an action and waited; a failure is that of the request.
    pub fn of_run(run: ActionRun) -> Result<Self, Problem> {
        match run.state {
            ActionState::Failed => {
                Err(run.problem.unwrap_or_else(|| Problem::new(Kind::BadGateway, "the action failed, and nothing says why")))
            }
            ActionState::Running | ActionState::Done | ActionState::Unknown => Ok(Self { action: Some(Box::new(run)), ..Self::default() }),
        }
    }
}

/// One run of an action that is no console line. It goes on whoever waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActionRun {
    /// `GET /server/{id}/action/{action_id}` tells of it.
    pub id: CommandId,
    pub server_id: ServerId,
    pub action: String,
    pub actor: String,
    /// Secret ones are there as `***`.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    pub state: ActionState,
    /// The last that it said of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What it answered: JSON where it is some, else text.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub answer: serde_json::Value,
    /// Why it failed, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ActionFailure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    pub began_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ActionState {
    Running,
    Done,
    Failed,
    /// The link broke when it was asked for: its worker knows whether it was begun, once it is back.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ActionFailure {
    /// The worker ended while it ran. It is not begun again.
    Interrupted,
    /// It took longer than it may; it has been ended.
    Timeout,
    /// Its process could not be started.
    Spawn,
    /// Its process ended without success and without an answer.
    Exit,
    /// It said itself that it failed.
    Error,
    /// It was refused, and has changed nothing.
    Refused,
}

/// The host's `PUT /server/{id}/action/{action_id}` to a worker: the same id is begun once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartAction {
    pub action: String,
    #[serde(default)]
    pub inputs: BTreeMap<String, serde_json::Value>,
    pub actor: String,
}

/// An action of a server, as `GET /server/{id}/action` lists it. A script's text is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActionView {
    pub name: String,
    pub label: String,
    pub kind: ActionKind,
    pub inputs: BTreeMap<String, InputSpec>,
    pub disabled: bool,
    /// Whoever asks a person for it asks twice: it can not be undone.
    pub confirm: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ActionKind {
    /// A line for the game's console: the game has to run.
    Console,
    Script,
    Builtin,
}

impl ActionView {
    /// All that can be done with a server, by name; what a worker can do with every one comes last.
    #[must_use]
    pub fn all(run: &RunSpec) -> Vec<Self> {
        let own = run.actions.iter().map(|(name, spec)| Self::new(name, spec));
        let builtins = Builtin::ALL.into_iter().filter(|builtin| !run.actions.contains_key(builtin.name()));
        own.chain(builtins.map(|builtin| Self::new(builtin.name(), &builtin.spec()))).collect()
    }

    #[must_use]
    pub fn new(name: &str, spec: &ActionSpec) -> Self {
        let kind = match spec.does() {
            Does::Console(_) => ActionKind::Console,
            Does::Argv(_) | Does::Script(_) => ActionKind::Script,
            Does::Builtin(_) => ActionKind::Builtin,
        };
        Self {
            name: name.to_owned(),
            label: spec.label.clone(),
            kind,
            inputs: spec.inputs.clone(),
            disabled: spec.disabled,
            confirm: spec.confirm,
        }
    }
}

/// Where an action's [answer](crate::spec::ActionSpec::answer) was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Done {
    /// In the console's reply.
    Reply,
    /// In a line of the game's log after it.
    Log,
    /// Not within the time there was: it may still come.
    Unseen,
}
