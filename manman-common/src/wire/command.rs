//! Commands to a running game.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::logs::LogLine;
use crate::message::Envelope;

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
