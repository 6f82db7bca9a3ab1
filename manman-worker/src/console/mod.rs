//! Commands to a running game: lines given to its console, and the lines that it answers with.

mod action;
mod answer;
mod rcon;
mod read;
mod remote;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use manman_common::logs::LogLine;
use manman_common::spec::{ConsoleKind, StopStep};
use manman_common::wire::{CommandAnswer, CommandRequest, Done};
use manman_common::{Kind, LogSeq, Problem, ServerSpec};
use manman_worker_core::{Instance, InstanceState};
use tokio::time::Instant;

use crate::driver::{Driver, DriverError, DriverErrorKind};
use crate::logs::{LogBook, LogBooks};
use crate::reconcile::signals::{Climbed, Observed, Signal, SignalSender};
pub(crate) use action::checked as checked_inputs;
use answer::Window;
pub(crate) use rcon::Fault;
use read::{Typed, is_stop, read, read_action};

/// Longest line for a console, in bytes: what a terminal takes in one go.
pub const LINE_MAX: usize = 4096;

/// Lines in one command.
pub const LINES_MAX: usize = 64;

/// For a whole command. Whoever asks through the host is answered within ten seconds.
const COMMAND_WITHIN: Duration = Duration::from_millis(8500);

/// For a line that ends a game: it may say no more.
const STOP_LINE_WITHIN: Duration = Duration::from_secs(6);

/// What an action on stdin is given where nothing tells its end.
const ACTION_SETTLES: Duration = Duration::from_secs(1);

/// Sends commands to games; cheap to clone.
#[derive(Clone)]
pub struct Console {
    books: LogBooks,
    signals: SignalSender,
    remotes: rcon::Remotes,
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
        Self { books, signals, remotes: rcon::Remotes::default() }
    }

    /// Types the command and collects the answer. At most once: a line of which nobody knows
    /// whether it arrived is not typed again.
    pub async fn send(&self, target: &Target<'_>, request: &CommandRequest) -> Result<CommandAnswer, Problem> {
        let typed = read(target.spec, request)?;
        self.run(target, &typed, COMMAND_WITHIN).await
    }

    /// Climbs a rung of the stop plan that only a console can: a line over the network, an action.
    /// An error means that it was not climbed.
    pub async fn climb(&self, target: &Target<'_>, step: &StopStep, within: Duration) -> Result<Climbed, Problem> {
        match step {
            StopStep::Console(line) => {
                self.run(target, &Typed::stop_line(line), within.min(STOP_LINE_WITHIN)).await?;
                Ok(Climbed::Told)
            }
            StopStep::Action(name) => {
                let mut typed = read_action(target.spec, name, &BTreeMap::new())?;
                if target.spec.run.console == ConsoleKind::Stdin {
                    typed.window = Some(Window::Exactly(ACTION_SETTLES));
                }
                let answer = self.run(target, &typed, within).await?;
                Ok(if answer.done == Some(Done::Unseen) { Climbed::Unanswered } else { Climbed::Done })
            }
            StopStep::Signal(_) => Err(Problem::new(Kind::Internal, "a signal is no line for a console")),
        }
    }

    async fn run(&self, target: &Target<'_>, typed: &Typed, within: Duration) -> Result<CommandAnswer, Problem> {
        if target.spec.run.console == ConsoleKind::None {
            return Err(Problem::new(Kind::Conflict, "this game reads no console"));
        }
        match &target.instance.state {
            InstanceState::Running { .. } => {}
            InstanceState::Created | InstanceState::Exited(_) => return Err(Problem::new(Kind::NotAlive, "the game does not run")),
        }
        let deadline = Instant::now() + within;
        let book = self.open_book(target.spec).await?;
        let before = book.last_seq();
        match rcon::Protocol::of(target.spec.run.console) {
            Some(protocol) => self.run_remote(target, typed, protocol, &book, before, deadline).await,
            None => self.run_stdin(target, typed, &book, before, deadline).await,
        }
    }

    async fn run_stdin(
        &self,
        target: &Target<'_>,
        typed: &Typed,
        book: &LogBook,
        before: LogSeq,
        deadline: Instant,
    ) -> Result<CommandAnswer, Problem> {
        for line in &typed.lines {
            if is_stop(target.spec, line) {
                self.tell_stop(target).await;
            }
            target.driver.write_line(target.instance, line).await.map_err(|error| console_problem(&error))?;
        }
        let failed = |error: std::io::Error| log_problem(target.spec, &error);
        let mut told = CommandAnswer { sent: typed.shown.clone(), ..CommandAnswer::default() };
        if let Some(pattern) = &typed.answer {
            let found = answer::wait_for(book, before, pattern, deadline).await.map_err(failed)?;
            told.answer = found.lines.into();
            told.done = Some(if found.seen { Done::Log } else { Done::Unseen });
        } else if let Some(window) = typed.window {
            told.answer = answer::collect(book, before, window).await.map_err(failed)?;
        }
        Ok(told)
    }

    /// The end that follows is a person's wish; told before the line is.
    async fn tell_stop(&self, target: &Target<'_>) {
        let typed_stop = Signal { server: target.spec.id, instance: target.instance.id, observed: Observed::TypedStop };
        // A loop that is gone counts nothing any more.
        let _ = self.signals.send(typed_stop).await;
    }

    async fn open_book(&self, spec: &ServerSpec) -> Result<LogBook, Problem> {
        let (books, server) = (self.books.clone(), spec.id);
        let opened = tokio::task::spawn_blocking(move || books.open(server)).await;
        opened.map_err(std::io::Error::other).and_then(|opened| opened).map_err(|error| log_problem(spec, &error))
    }
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
