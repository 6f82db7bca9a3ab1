//! `manman-worker`: runs game servers on this machine for a manman host.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use manman_worker::announce::Announcement;
use manman_worker::config::Config;
use manman_worker::rebase_cmd::{self, Word};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command, SayArgs, Steam};

/// Two threads: one for whatever blocks a moment, one for the rest. Games do not run in here.
const THREADS: usize = 2;

fn main() -> ExitCode {
    if let Some(code) = manman_worker::asked_as_tool() {
        return code;
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("TLS can not be set up", None);
    }
    // No crash leaves a core with tokens in it, and no game that runs as this very user reads them
    // out of this process. What is started from here is as it always was.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!("warning: a crash could leave a core with secrets in it: {error}");
    }
    match Cli::parse().command {
        Command::Run(args) => {
            set_up_log();
            match args.resolve() {
                Ok(config) => in_runtime(run(config)),
                Err(error) => fail(&chain(&error), error.hint()),
            }
        }
        Command::Plan { worker, json } => match worker.resolve() {
            Ok(config) => in_runtime(async { report(manman_worker::plan_cmd::plan(&config).await, json) }),
            Err(error) => fail(&chain(&error), error.hint()),
        },
        Command::Rebase(args) => say(args, Word::Rebase),
        Command::Fence(args) => say(args, Word::Fence),
        Command::Doctor { worker, json } => match worker.resolve() {
            Ok(config) => in_runtime(async { report(Ok(manman_worker::doctor::doctor(&config).await), json) }),
            Err(error) => fail(&chain(&error), error.hint()),
        },
        Command::Steam(command) => {
            set_up_log();
            steam(command)
        }
        Command::Announce(args) => {
            set_up_log();
            match args.resolve() {
                Ok(announcement) => in_runtime(announce(announcement)),
                Err(error) => fail(&chain(&error), error.hint()),
            }
        }
        // These two bring what they need: a runtime of its own for the one, none for the other.
        Command::Stage(args) => manman_stage::run_stage(args),
        Command::Reply(args) => manman_stage::run_reply(args),
    }
}

/// A world may be lost by it: who says it types the worker's name.
fn say(args: SayArgs, word: Word) -> ExitCode {
    let config = match args.worker.resolve() {
        Ok(config) => config,
        Err(error) => return fail(&chain(&error), error.hint()),
    };
    in_runtime(async move {
        let asked = match rebase_cmd::ask(&config, word).await {
            Ok(asked) => asked,
            Err(error) => return fail(&chain(&error), error.hint()),
        };
        eprint!("{}", asked.before);
        let typed = args.yes.unwrap_or_else(|| {
            eprint!("type the worker's name ({}) to confirm: ", asked.name);
            let mut line = String::new();
            // Nothing typed confirms nothing.
            let _ = std::io::stdin().read_line(&mut line);
            line.trim().to_owned()
        });
        if typed != asked.name {
            return fail("not confirmed; nothing has been changed", None);
        }
        report(asked.confirmed().await, false)
    })
}

fn steam(command: Steam) -> ExitCode {
    let refused = |error: manman_steam::SteamError| fail(&chain(&error), error.hint.as_deref());
    match command {
        Steam::Login { account, worker } => match worker.resolve() {
            Ok(config) => in_runtime(async move {
                match manman_worker::steam_cmd::login(&config, &account).await {
                    Ok(signed_in) => report(Ok(signed_in), false),
                    Err(error) => refused(error),
                }
            }),
            Err(error) => fail(&chain(&error), error.hint()),
        },
        Steam::Status { worker, json } => match worker.resolve() {
            Ok(config) => match manman_worker::steam_cmd::status(&config) {
                Ok(status) => report(Ok(status), json),
                Err(error) => refused(error),
            },
            Err(error) => fail(&chain(&error), error.hint()),
        },
        Steam::Install { app, branch, account, windows, worker } => match worker.resolve() {
            Ok(config) => in_runtime(async move {
                let wanted = app.map(|app| manman_worker::steam_cmd::Wanted { app, branch, account, windows });
                match manman_worker::steam_cmd::install(&config, wanted).await {
                    Ok(installed) => report(Ok(installed), false),
                    Err(error) => refused(error),
                }
            }),
            Err(error) => fail(&chain(&error), error.hint()),
        },
    }
}

fn in_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(&format!("the runtime can not be set up: {error}"), None),
    }
}

async fn asked_to_end() {
    // A process that can not hear of signals is ended by them, and games go on all the same.
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    // Cancel-safe: signals are levels.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The program's own end is ours.
async fn announce(announcement: Announcement) -> ExitCode {
    match manman_worker::announce::announce(announcement, asked_to_end()).await {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => fail(&chain(&error), None),
    }
}

async fn run(config: Config) -> ExitCode {
    match manman_worker::run(config, asked_to_end()).await {
        Ok(reason) => ExitCode::from(reason.exit_code()),
        Err(error) => fail(&chain(&error), error.hint()),
    }
}

/// Prints what a command found: JSON for programs, lines for people.
fn report<R: manman_worker::Report>(result: Result<R, manman_worker::RunError>, json: bool) -> ExitCode {
    use std::io::Write as _;

    let report = match result {
        Ok(report) => report,
        Err(error) => return fail(&chain(&error), error.hint()),
    };
    let text = if json { serde_json::to_string_pretty(&report).map(|json| json + "\n").unwrap_or_default() } else { report.to_lines() };
    // A reader that has gone, as `head` does, is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Libraries that write what they carry, passwords of games and tokens among it, where they are asked
/// to tell much. Whoever wants to hear that names the very library after these words.
const QUIET: &str = "tungstenite=info,tokio_tungstenite=info,bollard=info,hyper=info,hyper_util=info,h2=info,reqwest=info,rustls=info";

fn set_up_log() {
    let asked = std::env::var("MANMAN_LOG").ok().and_then(|words| EnvFilter::try_new(format!("{QUIET},{words}")).ok());
    let filter = asked.unwrap_or_else(|| EnvFilter::new("info"));
    let to_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(to_terminal).init();
}

fn fail(text: &str, hint: Option<&str>) -> ExitCode {
    eprintln!("error: {text}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
