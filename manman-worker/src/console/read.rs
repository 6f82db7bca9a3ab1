//! What a request wants typed, checked before anything of it is.

use std::collections::BTreeMap;

use manman_common::message::{Envelope, MessageType, forbidden_character};
use manman_common::spec::StopStep;
use manman_common::wire::{ActionCommand, CommandRequest, LineCommand, LinesCommand};
use manman_common::{Kind, Problem, ServerSpec};
use regex::bytes::{Regex, RegexBuilder};

use super::action;
use super::answer::Window;
use super::{LINE_MAX, LINES_MAX};

/// Size of a compiled answer.
const PATTERN_SIZE: usize = 1 << 20;

/// A command, resolved.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) lines: Vec<String>,
    /// The lines without what must not be shown.
    pub(super) shown: Vec<String>,
    /// `None` where no answer is asked for.
    pub(super) window: Option<Window>,
    /// Seen in a reply or in the log, it is done.
    pub(super) answer: Option<Regex>,
}

impl Typed {
    fn new(lines: Vec<String>, answer_ms: Option<u32>) -> Self {
        Self { shown: lines.clone(), lines, window: Window::of(answer_ms), answer: None }
    }

    /// A line of the stop plan's.
    pub(super) fn stop_line(line: &str) -> Self {
        Self::new(vec![line.to_owned()], None)
    }
}

pub(super) fn read(spec: &ServerSpec, request: &CommandRequest) -> Result<Typed, Problem> {
    match request {
        CommandRequest::Line(LineCommand { command, answer_ms }) => {
            check_line("command", command)?;
            Ok(Typed::new(vec![command.clone()], *answer_ms))
        }
        CommandRequest::Lines(LinesCommand { commands, answer_ms }) => {
            if commands.is_empty() || commands.len() > LINES_MAX {
                return Err(Problem::invalid("commands", format!("it has {} lines; 1 to {LINES_MAX} are taken at once", commands.len())));
            }
            for (index, line) in commands.iter().enumerate() {
                check_line(&format!("commands[{index}]"), line)?;
            }
            Ok(Typed::new(commands.clone(), *answer_ms))
        }
        CommandRequest::Action(ActionCommand { action, inputs }) => read_action(spec, action, inputs),
        CommandRequest::Envelope(envelope) => read_envelope(spec, envelope),
    }
}

pub(super) fn read_action(spec: &ServerSpec, name: &str, inputs: &BTreeMap<String, serde_json::Value>) -> Result<Typed, Problem> {
    let rendered = action::render(spec, name, inputs)?;
    check_line("action", &rendered.line)?;
    let answer = spec.run.actions.get(name).and_then(|action| action.answer.as_deref());
    let answer = answer.map(|pattern| RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).build()).transpose().map_err(|_| {
        Problem::new(Kind::Conflict, format!("the action `{name}` is broken: the answer that it waits for is no regular expression"))
    })?;
    Ok(Typed { lines: vec![rendered.line], shown: vec![rendered.shown], window: Window::of(None), answer })
}

/// `COMMAND` is a raw line, `COMMAND_n` the n-th action in the order of their names.
fn read_envelope(spec: &ServerSpec, envelope: &Envelope) -> Result<Typed, Problem> {
    let index = match envelope.kind {
        MessageType::Command(index) => index,
        kind @ (MessageType::Health | MessageType::Start | MessageType::Stop | MessageType::Kill) => {
            return Err(Problem::invalid("type", format!("`{kind}` is no command to the game's console")));
        }
    };
    let Some(action) = usize::from(index).checked_sub(1) else {
        let body = match &envelope.body {
            serde_json::Value::String(line) => serde_json::json!({ "command": line }),
            body => body.clone(),
        };
        let request = serde_json::from_value::<LinesOrLine>(body)
            .map_err(|_| Problem::invalid("body", "a command's body is `{\"command\": …}` or `{\"commands\": […]}`"))?;
        return read(spec, &request.into());
    };
    let Some(name) = spec.run.actions.keys().nth(action) else {
        return Err(Problem::invalid(
            "type",
            format!("this game has {} actions, and `{}` is none of them", spec.run.actions.len(), envelope.kind),
        ));
    };
    let inputs = match envelope.body.get("inputs") {
        Some(inputs) => serde_json::from_value(inputs.clone()).map_err(|_| Problem::invalid("body.inputs", "inputs are an object"))?,
        None => BTreeMap::new(),
    };
    read(spec, &CommandRequest::Action(ActionCommand { action: name.clone(), inputs }))
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum LinesOrLine {
    Line(LineCommand),
    Lines(LinesCommand),
}

impl From<LinesOrLine> for CommandRequest {
    fn from(request: LinesOrLine) -> Self {
        match request {
            LinesOrLine::Line(line) => Self::Line(line),
            LinesOrLine::Lines(lines) => Self::Lines(lines),
        }
    }
}

fn check_line(field: &str, line: &str) -> Result<(), Problem> {
    if line.trim().is_empty() {
        return Err(Problem::invalid(field, "the line is empty"));
    }
    if line.len() > LINE_MAX {
        return Err(Problem::invalid(field, format!("the line has {} bytes; a console takes {LINE_MAX}", line.len())));
    }
    match forbidden_character(line) {
        Some(character) => Err(Problem::invalid(field, format!("the line has the control character U+{:04X}", u32::from(character)))
            .hint("send several lines as `commands`")),
        None => Ok(()),
    }
}

/// Whether a person typed what the stop plan types.
pub(super) fn is_stop(spec: &ServerSpec, line: &str) -> bool {
    spec.run.stop.iter().any(|rung| match &rung.step {
        StopStep::Console(stop) => stop.trim() == line.trim(),
        StopStep::Signal(_) | StopStep::Action(_) => false,
    })
}
