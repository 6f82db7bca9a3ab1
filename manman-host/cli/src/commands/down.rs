//! `manman down`: games stop by their stop plans, then what runs them.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use manman_common::client::{Client, ListServers};
use manman_common::wire::ServerView;
use manman_common::{Phase, WorkerId, WorkerStatus};
use serde::Serialize;

use crate::clock;
use crate::commands::up::lock::{self, Holder};
use crate::commands::up::service;
use crate::commands::{App, refused};
use crate::context::{Context, Target};
use crate::failure::Failure;
use crate::find;
use crate::output::{self, talk};
use crate::parse::{self, show_duration};

/// The host and its database close within a second; a slow disk takes some.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// A few writes and a goodbye.
const WORKER_PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(250);

/// Stop everything on this machine: games by their stop plans, then worker, host and database
///
/// What should run is remembered: the next `manman up` starts the games again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  manman down\n  manman down --keep-games     end the manager alone; games run on")]
pub(crate) struct Down {
    /// Let the games run on, as Ctrl-C does
    #[arg(long)]
    keep_games: bool,
    /// How long the games may take to stop
    #[arg(long, value_parser = parse::duration, default_value = "5m", value_name = "TIME")]
    within: Duration,
}

#[derive(Serialize)]
struct Stopped {
    data: String,
    servers_stopped: u32,
    was_running: bool,
}

impl Down {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let dir = app.data_dir()?;
        let data = dir.display().to_string();
        let Some(holder) = lock::holder(&dir) else {
            let answer = Stopped { data, servers_stopped: 0, was_running: false };
            return app.output.done(&answer, &format!("nothing is running on {}", answer.data));
        };
        let servers_stopped = if self.keep_games { 0 } else { drain(&dir, &holder, self.within).await? };
        end(&dir, &holder).await?;
        let answer = Stopped { data, servers_stopped, was_running: true };
        let games = match (self.keep_games, servers_stopped) {
            (true, _) => "games run on".to_owned(),
            (false, 0) => "no game was running".to_owned(),
            (false, 1) => "1 game stopped".to_owned(),
            (false, count) => format!("{count} games stopped"),
        };
        app.output.done(&answer, &format!("everything is down ({games})"))
    }
}

/// Stops the games of this machine's worker, and that worker. How many they were.
async fn drain(dir: &Path, holder: &Holder, within: Duration) -> Result<u32, Failure> {
    let without = |failure: Failure| failure.hint("end the manager alone with `manman down --keep-games`; its games run on");
    let context = Context::read(dir)?.ok_or_else(|| without(Failure::new("could not stop the games").why("the host is still starting")))?;
    // The inner listener is plain and on this machine.
    let url = context.internal_url.unwrap_or(context.url);
    let client = Target { url, token: context.token, said_by: Context::path(dir).display().to_string() }.client()?;
    let Some(name) = &holder.worker else { return Ok(0) };
    let worker =
        client.worker_show(name).await.map_err(|error| without(refused(format!("could not look up the worker `{name}`"), error)))?;
    let running = live_servers(&client, worker.id).await?;
    let stopping: Vec<String> = running.iter().map(|server| server.name.to_string()).collect();
    if !stopping.is_empty() {
        talk(&format!("stopping {}", stopping.join(", ")));
    }
    let drained = client.worker_drain(&worker.id.to_string()).await;
    drained.map_err(|error| without(refused(format!("could not ask the worker `{name}` to stop its games"), error)))?;
    let start = clock::instant();
    let mut left = running;
    while !left.is_empty() {
        if start.elapsed() >= within {
            let names: Vec<String> = left.iter().map(|server| server.name.to_string()).collect();
            return Err(Failure::new(format!("{} still running after {}", names.join(", "), show_duration(within)))
                .hint("end them at once with `manman server kill NAME`, or wait longer with --within"));
        }
        tokio::time::sleep(POLL).await;
        let now = live_servers(&client, worker.id).await?;
        for server in left.iter().filter(|server| now.iter().all(|other| other.id != server.id)) {
            talk(&format!("{} is stopped", server.name));
        }
        left = now;
    }
    worker_ends(&client, worker.id).await;
    Ok(u32::try_from(stopping.len()).unwrap_or(u32::MAX))
}

/// A worker whose servers are stopped writes that down, says goodbye and ends. Nothing is lost where it
/// takes too long: it is ended with the rest then.
async fn worker_ends(client: &Client, worker: WorkerId) {
    let start = clock::instant();
    while start.elapsed() < WORKER_PATIENCE {
        match client.worker_show(&worker.to_string()).await {
            Ok(worker) if worker.status != WorkerStatus::Shutdown => {}
            Ok(_) | Err(_) => return,
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn live_servers(client: &Client, worker: WorkerId) -> Result<Vec<ServerView>, Failure> {
    let list = ListServers { worker_id: Some(worker.to_string()), ..ListServers::default() };
    let mut servers = find::servers(client, &list).await?;
    // A worker that has gone on leave is shown as silent; its last word counts.
    let phase =
        |server: &ServerView| if server.phase == Phase::Unknown { server.last_phase.unwrap_or(Phase::Unknown) } else { server.phase };
    servers.retain(|server| phase(server).is_live());
    Ok(servers)
}

/// Ends the `up` that holds the lock, by its own service manager where it has one.
async fn end(dir: &Path, holder: &Holder) -> Result<(), Failure> {
    if let Some((manager, unit)) = service::unit_of(holder.pid) {
        talk(&format!("stopping the service {unit}"));
        // Else it would start it again at once.
        return manager.systemctl(&["stop", &unit]);
    }
    let failed = |why: String| Failure::new(format!("could not end `manman up` (pid {})", holder.pid)).why(why);
    signal(holder).map_err(|error| failed(error.to_string()))?;
    let start = clock::instant();
    while lock::holder(dir).is_some_and(|now| now == *holder) {
        if start.elapsed() >= END_PATIENCE {
            return Err(failed(format!("it is still there after {}", show_duration(END_PATIENCE)))
                .hint(format!("end it with `kill -9 {}`; games run on", holder.pid)));
        }
        tokio::time::sleep(POLL).await;
    }
    output::talk("host, worker and database are stopped");
    Ok(())
}

/// By pidfd, so that a pid that has become somebody else's is never hit.
fn signal(holder: &Holder) -> rustix::io::Result<()> {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    // Asked after the descriptor is open: from then on it can not change any more.
    if !holder.is_alive() {
        return Err(rustix::io::Errno::SRCH);
    }
    pidfd_send_signal(&process, Signal::TERM)
}
