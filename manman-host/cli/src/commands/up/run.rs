//! Host and worker as tasks of one process: up in order, down in order, one line for each part.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use manman_common::WorkerId;
use manman_common::client::Client;
use manman_common::wire::LoginLink;
use manman_host::HostError;
use manman_host::app::Bound;
use manman_worker::machine;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::Up;
use super::host::{self, Started};
use super::lock::Lock;
use super::worker::{self, Happened};
use crate::commands::worker::driver_line;
use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::output::Output;
use crate::parse::show_size;

/// The worker hands over what is under way; then it is left to itself.
const WORKER_PATIENCE: Duration = Duration::from_secs(70);

#[derive(Serialize)]
struct Report<'a> {
    ready: bool,
    url: &'a str,
    internal_url: &'a str,
    login_url: Option<&'a str>,
    worker_id: Option<WorkerId>,
    data: String,
}

pub(super) async fn run(up: Up, app: &App, data: &Path, lock: &mut Lock) -> Result<(), Failure> {
    let Wish { stop, leave } = signals()?;
    tokio::select! {
        ended = up_and_down(up, app, data, lock, &stop) => ended,
        // Whatever is left is dropped; Postgres goes with its host, games run on.
        () = leave.cancelled() => Err(Failure::new("left without waiting for the end").hint("`manman up` finds everything as it is")),
    }
}

async fn up_and_down(up: Up, app: &App, data: &Path, lock: &mut Lock, stop: &CancellationToken) -> Result<(), Failure> {
    let lines = Lines { output: app.output };
    let started = tokio::select! {
        started = Box::pin(host::start(host::config(&up, data))) => started?,
        // What has begun is dropped; Postgres goes with its host.
        () = stop.cancelled() => return Ok(()),
    };
    let Started { host, bound, database, client, join_line } = started;
    lines.part("database", &database);
    lines.part("host", &format!("{} (this machine alone: {})", bound.public_url, bound.internal_url));
    if let Some(line) = join_line {
        lines.part("join", &format!("on another machine: {line}"));
    }

    // Stops after the worker, so that the worker can say goodbye.
    let stop_host = CancellationToken::new();
    let mut hosting = tokio::spawn(host.run(stop_host.clone()));
    let with_worker = Box::pin(with_worker(up, &lines, data, lock, &client, &bound, stop));
    let ended = tokio::select! {
        ended = with_worker => ended,
        hosted = &mut hosting => {
            stop.cancel();
            return Err(host_ended(hosted));
        }
    };
    stop_host.cancel();
    let hosted = hosting.await;
    ended?;
    match hosted {
        Ok(Ok(())) => Ok(()),
        other => Err(host_ended(other)),
    }
}

fn host_ended(hosted: Result<Result<(), HostError>, JoinError>) -> Failure {
    let failure = Failure::new("the host ended");
    match hosted {
        Ok(Ok(())) => failure.why("it was told to"),
        Ok(Err(error)) => {
            let hint = error.hint();
            Failure { hint, ..failure.because(&error) }
        }
        Err(error) => failure.because(&error).hint("this is a bug; games run on, and `manman up` starts it again"),
    }
}

/// Everything that happens while the host is up.
async fn with_worker(
    up: Up,
    lines: &Lines,
    data: &Path,
    lock: &mut Lock,
    client: &Client,
    bound: &Bound,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let Up { worker_name, docker, steamcmd, .. } = up;
    let mut config = worker::config(data, worker_name, docker, client);
    config.steamcmd = steamcmd.filter(|path| !path.as_os_str().is_empty()).map(|path| std::path::absolute(&path).unwrap_or(path));
    let name = config.name.clone();
    let (happened, mut happening) = mpsc::channel(4);
    let supervised = tokio::spawn(worker::supervise(config, client.clone(), happened, stop.clone()));
    let mut said = false;
    let mut ended = Ok(());
    loop {
        let event = tokio::select! {
            event = happening.recv() => event,
            () = stop.cancelled() => {
                lines.talk("stopping; games run on (`manman down` stops them, too)");
                break;
            }
        };
        match event {
            None => break,
            // Started again after a fault: nothing new for the person.
            Some(Happened::Up(_)) if said => {}
            Some(Happened::Up(ready)) => {
                said = true;
                let id = worker::linked(&ready, client).await;
                lock.write(id.map(|id| id.to_string()).as_deref())?;
                match id {
                    Some(_) => lines.part("worker", &format!("{name} (its own API: http://{})", ready.api_address)),
                    None => lines.part("worker", &format!("{name} has not joined yet; it goes on trying (see `manman worker list`)")),
                }
                machine_lines(lines, client, id, data).await;
                let link = login_link(client).await;
                lines.ready(bound, link.as_ref(), id, data)?;
            }
            Some(Happened::Refused(error)) => {
                let hint = error.hint().map(str::to_owned);
                ended = Err(Failure { hint, ..Failure::new("could not start the worker").because(&error) });
                break;
            }
            Some(Happened::Drained) => {
                lines.part("worker", "stopped with all its games; the host is still up");
                stop.cancelled().await;
                break;
            }
        }
    }
    stop.cancel();
    if tokio::time::timeout(WORKER_PATIENCE, supervised).await.is_err() {
        lines.talk("the worker does not end; its games run on");
    }
    ended
}

/// What this machine can run, in one line each, and how to fix what it can not.
async fn machine_lines(lines: &Lines, client: &Client, id: Option<WorkerId>, data: &Path) {
    let drivers = match id {
        Some(id) => client.worker_show(&id.to_string()).await.map(|worker| worker.capabilities.drivers).unwrap_or_default(),
        None => Vec::new(),
    };
    for driver in &drivers {
        lines.part("runs", &driver_line(driver));
    }
    lines.part(
        "limits",
        &match machine::cgroup_version() {
            "none" => "no cgroup ✗ limits of memory and processor do not hold: boot a kernel with cgroups".to_owned(),
            version => format!("cgroup {version} ✓"),
        },
    );
    if let Some(free) = machine::disk_free(data) {
        lines.part("disk", &format!("{} free", show_size(free)));
    }
}

async fn login_link(client: &Client) -> Option<LoginLink> {
    match client.login_link().await {
        Ok(link) => Some(link),
        Err(error) => {
            let failure = refused("could not make a login link", error);
            tracing::warn!(error = failure.causes.join(": "), "could not make a login link; `manman login` tries again");
            None
        }
    }
}

/// What the person wants of a running `up`.
struct Wish {
    /// Ctrl-C, SIGTERM, or the end of the terminal.
    stop: CancellationToken,
    /// The same once more: out of here, without waiting for anything.
    leave: CancellationToken,
}

fn signals() -> Result<Wish, Failure> {
    let failed = |error: std::io::Error| Failure::new("could not listen for signals").because(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let wish = Wish { stop: CancellationToken::new(), leave: CancellationToken::new() };
    let (stop, leave) = (wish.stop.clone(), wish.leave.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                // A terminal that goes away may say so more than once.
                _ = hangup.recv() => { stop.cancel(); continue; }
            }
            if stop.is_cancelled() {
                leave.cancel();
            }
            stop.cancel();
        }
    });
    Ok(wish)
}

/// One line per part, on stdout; for programs one object at the end, and the talk on stderr.
struct Lines {
    output: Output,
}

impl Lines {
    fn part(&self, name: &str, text: &str) {
        let line = format!("{name:<9} {text}");
        if self.output.json {
            crate::output::talk(&line);
            return;
        }
        // Whoever reads this may leave; what runs here goes on.
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{}", crate::style::printable(&line));
        let _ = stdout.flush();
    }

    #[expect(clippy::unused_self, reason = "it belongs to the lines")]
    fn talk(&self, text: &str) {
        crate::output::talk(text);
    }

    fn ready(&self, bound: &Bound, link: Option<&LoginLink>, worker_id: Option<WorkerId>, data: &Path) -> Result<(), Failure> {
        let login_url = link.map(|link| link.url.as_str());
        if self.output.json {
            let Bound { public_url, internal_url, .. } = bound;
            let data = data.display().to_string();
            return self.output.object(&Report { ready: true, url: public_url, internal_url, login_url, worker_id, data });
        }
        if let Some(url) = login_url {
            self.part("login", &format!("{url} (works once; `manman login` makes another)"));
        }
        self.part("ready", &bound.public_url);
        Ok(())
    }
}
