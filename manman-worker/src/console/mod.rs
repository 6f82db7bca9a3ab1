//! Commands to a running game: lines typed into its console, and the lines that it answers with.

mod action;
mod answer;

#[cfg(test)]
mod tests;

use manman_common::logs::LogLine;
use manman_common::message::{Envelope, MessageType, forbidden_character};
use manman_common::spec::{ConsoleKind, StopStep};
use manman_common::wire::{ActionCommand, CommandAnswer, CommandRequest, LineCommand, LinesCommand};
use manman_common::{Kind, Problem, ServerSpec};
use manman_worker_core::{Instance, InstanceState};

use crate::driver::{Driver, DriverError, DriverErrorKind};
use crate::logs::{LogBook, LogBooks};
use crate::reconcile::signals::{Observed, Signal, SignalSender};
use answer::Window;

/// Longest line for a console, in bytes: what a terminal takes in one go.
pub const LINE_MAX: usize = 4096;

/// Lines in one command.
pub const LINES_MAX: usize = 64;

/// Sends commands to games; cheap to clone.
#[derive(Clone)]
pub struct Console {
    books: LogBooks,
    signals: SignalSender,
}

/// A running game, as the reconcile loop last saw it.
pub struct Target<'a> {
    pub spec: &'a ServerSpec,
    pub instance: &'a Instance,
    pub driver: &'a dyn Driver,
}

impl Console {
    #[must_use]
    pub fn new(books: LogBooks, signals: SignalSender) -> Self {
        Self { books, signals }
    }

    /// Types the command and collects the answer. At most once: a line of which nobody knows
    /// whether it arrived is not typed again.
    pub async fn send(&self, target: &Target<'_>, request: &CommandRequest) -> Result<CommandAnswer, Problem> {
        let typed = read(target.spec, request)?;
        match target.spec.run.console {
            ConsoleKind::Stdin => {}
            ConsoleKind::SourceRcon | ConsoleKind::MinecraftRcon | ConsoleKind::Quake3Rcon | ConsoleKind::Telnet | ConsoleKind::WebRcon => {
                return Err(Problem::new(Kind::Conflict, "this worker can not reach such a console yet"));
            }
            ConsoleKind::None => return Err(Problem::new(Kind::Conflict, "this game reads no console")),
        }
        match &target.instance.state {
            InstanceState::Running { .. } => {}
            InstanceState::Created | InstanceState::Exited(_) => return Err(Problem::new(Kind::NotAlive, "the game does not run")),
        }
        let book = self.open_book(target).await?;
        let before = book.last_seq();
        for line in &typed.lines {
            if is_stop(target.spec, line) {
                let typed_stop = Signal { server: target.spec.id, instance: target.instance.id, observed: Observed::TypedStop };
                // A loop that is gone counts nothing any more.
                let _ = self.signals.send(typed_stop).await;
            }
            target.driver.write_line(target.instance, line).await.map_err(|error| console_problem(&error))?;
        }
        let answer = match typed.window {
            Some(window) => answer::collect(&book, before, window).await.map_err(|error| log_problem(target.spec, &error))?,
            None => Vec::new(),
        };
        Ok(CommandAnswer { sent: typed.shown, answer })
    }

    async fn open_book(&self, target: &Target<'_>) -> Result<LogBook, Problem> {
        let (books, server) = (self.books.clone(), target.spec.id);
        let opened = tokio::task::spawn_blocking(move || books.open(server)).await;
        opened.map_err(std::io::Error::other).and_then(|opened| opened).map_err(|error| log_problem(target.spec, &error))
    }
}

/// A command, resolved.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    lines: Vec<String>,
    /// The lines without what must not be shown.
    shown: Vec<String>,
    /// `None` where no answer is asked for.
    window: Option<Window>,
}

fn read(spec: &ServerSpec, request: &CommandRequest) -> Result<Typed, Problem> {
    match request {
        CommandRequest::Line(LineCommand { command, answer_ms }) => {
            check_line("command", command)?;
            Ok(Typed { lines: vec![command.clone()], shown: vec![command.clone()], window: Window::of(*answer_ms) })
        }
        CommandRequest::Lines(LinesCommand { commands, answer_ms }) => {
            if commands.is_empty() || commands.len() > LINES_MAX {
                return Err(Problem::invalid("commands", format!("it has {} lines; 1 to {LINES_MAX} are taken at once", commands.len())));
            }
            for (index, line) in commands.iter().enumerate() {
                check_line(&format!("commands[{index}]"), line)?;
            }
            Ok(Typed { lines: commands.clone(), shown: commands.clone(), window: Window::of(*answer_ms) })
        }
        CommandRequest::Action(ActionCommand { action, inputs }) => {
            let rendered = action::render(spec, action, inputs)?;
            check_line("action", &rendered.line)?;
            Ok(Typed { lines: vec![rendered.line], shown: vec![rendered.shown], window: Window::of(None) })
        }
        CommandRequest::Envelope(envelope) => read_envelope(spec, envelope),
    }
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
        None => std::collections::BTreeMap::new(),
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
fn is_stop(spec: &ServerSpec, line: &str) -> bool {
    spec.run.stop.iter().any(|rung| match &rung.step {
        StopStep::Console(stop) => stop.trim() == line.trim(),
        StopStep::Signal(_) | StopStep::Action(_) => false,
    })
}

fn console_problem(error: &DriverError) -> Problem {
    let kind = match error.kind {
        DriverErrorKind::Gone => Kind::NotAlive,
        DriverErrorKind::Retry => Kind::Unavailable,
        DriverErrorKind::Final => Kind::Conflict,
    };
    let problem = Problem::new(kind, error.what.clone());
    match &error.hint {
        Some(hint) => problem.hint(hint.clone()),
        None => problem,
    }
}

fn log_problem(spec: &ServerSpec, error: &std::io::Error) -> Problem {
    tracing::error!(server.id = %spec.id, %error, "a server's log can not be read");
    Problem::new(Kind::Internal, "the server's log can not be read; the worker's own log says why")
}
