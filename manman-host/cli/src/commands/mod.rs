//! One file per command.

pub(crate) mod account;
pub(crate) mod action;
pub(crate) mod completion;
pub(crate) mod console;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod game;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod send;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod worker;

use std::path::PathBuf;

use manman_common::client::{Client, ClientError};
use manman_common::{Kind, Problem};

use crate::args::{Cli, Command, Globals};
use crate::context::{self, Environment, Target};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// What every command starts from.
pub(crate) struct App {
    pub(crate) globals: Globals,
    pub(crate) environment: Environment,
    pub(crate) output: Output,
}

impl App {
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        context::target(&self.globals, &self.environment)
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.target()?.client()
    }

    pub(crate) fn data_dir(&self) -> Result<PathBuf, Failure> {
        context::data_dir(&self.globals, &self.environment)
    }
}

pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { globals, command } = cli;
    let output = Output { json: globals.json };
    let app = App { globals, environment: Environment::read(), output };
    // One thread is quicker to start; only `up` has work for more.
    let mut builder = if matches!(command, Command::Up(_)) {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build().map_err(|error| Failure::new("could not start").because(&error))?;
    let ended = runtime.block_on(dispatch(&app, command));
    // A thread that still waits for a line of stdin must not hold the exit.
    runtime.shutdown_background();
    ended
}

async fn dispatch(app: &App, command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(up) => Box::pin(up.run(app)).await,
        Command::Down(down) => Box::pin(down.run(app)).await,
        Command::Status(status) => status.run(app).await,
        Command::Doctor(doctor) => Box::pin(doctor.run(app)).await,
        Command::Login(login) => Box::pin(login.run(app)).await,
        Command::Server(server) => Box::pin(server.run(app)).await,
        Command::Console(console) => Box::pin(console.run(app)).await,
        Command::Logs(logs) => Box::pin(logs.run(app)).await,
        Command::Send(send) => Box::pin(send.run(app)).await,
        Command::Action(action) => Box::pin(action.run(app)).await,
        Command::Worker(worker) => Box::pin(worker.run(app)).await,
        Command::Game(game) => Box::pin(game.run(app)).await,
        Command::Service(service) => Box::pin(service.run(app)).await,
        Command::Account(account) => Box::pin(account.run(app)).await,
        Command::Token(token) => Box::pin(token.run(app)).await,
        Command::Session(session) => Box::pin(session.run(app)).await,
        Command::Events(events) => Box::pin(events.run(app)).await,
        Command::Completion(completion) => completion.run(),
    }
}

/// An error of the client as the person sees it.
pub(crate) fn refused(tried: impl Into<String>, error: ClientError) -> Failure {
    let failure = Failure::new(tried);
    match &error {
        ClientError::Refused(problem) => of_problem(failure, problem),
        ClientError::Unreachable { .. } => Failure { exit: Exit::Unreachable, ..failure }
            .because(&error)
            .hint("is it running? `manman up` starts one here, `manman doctor` looks for what is wrong"),
        ClientError::Status { .. } | ClientError::Answer { .. } => {
            failure.because(&error).hint("is that address a manman host, and of this version? see --host and `manman doctor`")
        }
        ClientError::Socket { .. } | ClientError::Token | ClientError::Setup { .. } | ClientError::Endpoint(_) => failure.because(&error),
    }
}

fn of_problem(failure: Failure, problem: &Problem) -> Failure {
    let failure = failure.why(problem.to_string());
    let hint = problem.hint.clone().or_else(|| match problem.kind {
        Kind::Unauthenticated => Some("sign in with `manman login URL`, or give a token with --token or MANMAN_TOKEN".to_owned()),
        Kind::Forbidden => Some("this token may not do that; one of a wider scope can".to_owned()),
        _ => problem.retry_after.map(|seconds| format!("try again in {seconds} s")),
    });
    Failure { hint, ..failure }
}
