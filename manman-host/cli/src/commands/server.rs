//! Servers: made, looked at, started and stopped, changed, deleted.

mod create;
mod power;
mod view;

use clap::{Args, Subcommand};
use manman_common::client::{DeleteServer, ListServers};
use manman_common::wire::{PatchLimits, PatchServer};
use manman_common::{Generation, Kind, Name};

pub(crate) use view::table;

use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::{self, Guess};
use crate::output;
use crate::parse;

/// Game servers
#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    Create(create::Create),
    /// List the servers
    #[command(after_help = "Examples:\n  manman server list\n  manman server list --worker attic --json")]
    List {
        /// Only those on this worker
        #[arg(long, value_name = "WORKER")]
        worker: Option<String>,
        /// Only those of this game
        #[arg(long, value_name = "GAME")]
        game: Option<String>,
    },
    /// Show a server: state, address, settings
    #[command(after_help = "Example:\n  manman server show oa")]
    Show {
        /// Name, id, or the beginning of the name
        server: String,
    },
    /// Start a server; one that runs stays as it is
    #[command(after_help = "Example:\n  manman server start oa --wait")]
    Start(power::Ask),
    /// Stop a server in good order, by its game's own stop plan
    #[command(after_help = "Example:\n  manman server stop oa --wait=2m")]
    Stop(power::Ask),
    /// Stop a server in good order and start it again
    #[command(after_help = "Example:\n  manman server restart oa --wait")]
    Restart(power::Ask),
    /// End a server at once; what the game has not saved is lost
    #[command(after_help = "Example:\n  manman server kill oa")]
    Kill(power::Ask),
    Set(Set),
    /// Move a server to another worker; its files stay where they are
    ///
    /// Only where the worker that it is on has let go of it: it is stopped there, or that worker is
    /// fenced, or has been silent for longer than the server's lease.
    #[command(
        after_help = "Examples:\n  manman server stop oa --wait && manman server move oa cellar\n  manman worker fence attic && manman server move oa cellar"
    )]
    Move {
        /// The whole name, or the id
        server: String,
        /// Name, id, or the beginning of the name
        worker: String,
    },
    /// Delete a server; its files stay unless --purge is given
    #[command(after_help = "Examples:\n  manman server delete oa\n  manman server delete oa --force --purge")]
    Delete {
        /// The whole name, or the id
        server: String,
        /// Stop it first if it runs
        #[arg(long)]
        force: bool,
        /// Its files go, too: worlds, settings, everything
        #[arg(long)]
        purge: bool,
    },
}

/// Change a server; a running game takes it over with its next start
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  manman server set oa MAX_PLAYERS=16 MAP=oa_dm2\n  manman server set oa --memory 1GiB\n  manman server set oa MAP=   (the default again)"
)]
pub(crate) struct Set {
    /// Name, id, or the beginning of the name
    server: String,
    /// Settings of the game; with nothing after the `=` the default again
    #[arg(value_parser = parse::key_value, value_name = "KEY=VALUE")]
    variables: Vec<(String, String)>,
    /// An environment variable; with nothing after the `=` it goes
    #[arg(long, value_parser = parse::key_value, value_name = "KEY=VALUE")]
    env: Vec<(String, String)>,
    /// Another name
    #[arg(long)]
    name: Option<Name>,
    /// The most memory, such as 512MiB
    #[arg(long, value_parser = parse::size, value_name = "SIZE")]
    memory: Option<u64>,
    /// The most cores, such as 1.5
    #[arg(long, value_parser = parse::cpu, value_name = "CORES")]
    cpu: Option<u32>,
    /// Stop it after so many seconds without the host, so that it may be started elsewhere; 0 takes that away
    #[arg(long, value_name = "SECONDS")]
    lease: Option<u32>,
    /// Only if nobody has changed it since this generation
    #[arg(long, value_name = "N")]
    if_generation: Option<u64>,
}

impl Server {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(app).await,
            Self::List { worker, game } => list(app, worker, game).await,
            Self::Show { server } => {
                let client = app.client()?;
                app.output.one(&find::server(&client, &server, Guess::Prefix).await?, view::sheet)
            }
            Self::Start(ask) => ask.run(app, manman_common::client::Power::Start).await,
            Self::Stop(ask) => ask.run(app, manman_common::client::Power::Stop).await,
            Self::Restart(ask) => ask.run(app, manman_common::client::Power::Restart).await,
            Self::Kill(ask) => ask.run(app, manman_common::client::Power::Kill).await,
            Self::Set(set) => set.run(app).await,
            Self::Move { server, worker } => relocate(app, &server, &worker).await,
            Self::Delete { server, force, purge } => delete(app, &server, DeleteServer { force, purge }).await,
        }
    }
}

async fn list(app: &App, worker: Option<String>, game: Option<String>) -> Result<(), Failure> {
    let client = app.client()?;
    let worker_id = match worker {
        Some(worker) => Some(find::worker(&client, &worker, Guess::Prefix).await?.id.to_string()),
        None => None,
    };
    let game_id = match game {
        Some(game) => Some(crate::commands::game::resolve(&client, &game).await?.to_string()),
        None => None,
    };
    let servers = find::servers(&client, &ListServers { worker_id, game_id, ..ListServers::default() }).await?;
    app.output.list(&servers, "no servers; `manman server create openarena --name oa --wait` makes one", table)
}

async fn relocate(app: &App, server: &str, worker: &str) -> Result<(), Failure> {
    let client = app.client()?;
    let server = find::server(&client, server, Guess::Never).await?;
    let worker = find::worker(&client, worker, Guess::Prefix).await?;
    let patch = PatchServer { worker: Some(worker.id.to_string()), ..PatchServer::default() };
    let moved = client.server_patch(&server.id.to_string(), &patch, Some(server.generation)).await;
    let moved = moved.map_err(|error| refused(format!("could not move `{}` to `{}`", server.name, worker.name), error))?;
    app.output.done(&moved, &format!("{} is on {} now; its files are still on {}", moved.name, moved.worker_name, server.worker_name))
}

async fn delete(app: &App, server: &str, how: DeleteServer) -> Result<(), Failure> {
    let client = app.client()?;
    let server = find::server(&client, server, Guess::Never).await?;
    let name = &server.name;
    let deleted = client.server_delete(&server.id.to_string(), how).await;
    let answer = deleted.map_err(|error| {
        // The host's own hint speaks of queries.
        let runs = !how.force && error.problem().is_some_and(|problem| problem.kind == Kind::Conflict);
        let failure = refused(format!("could not delete `{name}`"), error);
        if runs { failure.hint("stop it first, or add --force, which stops it by its stop plan") } else { failure }
    })?;
    let files = if how.purge { "with its files" } else { "its files are kept" };
    app.output.done(&answer, &format!("{name} is deleted, {files}"))
}

impl Set {
    async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { server, variables, env, name, memory, cpu, lease, if_generation } = self;
        if variables.is_empty() && env.is_empty() && name.is_none() && memory.is_none() && cpu.is_none() && lease.is_none() {
            return Err(Failure::usage("there is nothing to set")
                .hint("write KEY=VALUE, --memory, --cpu, --lease or --name; see `manman server set --help`"));
        }
        let client = app.client()?;
        let server = find::server(&client, &server, Guess::Prefix).await?;
        // `KEY=` brings the default back, as `null` does on the wire.
        let or_default = |pairs: Vec<(String, String)>| {
            pairs.into_iter().map(|(key, value)| (key, Some(value).filter(|value| !value.is_empty()))).collect()
        };
        let limits = (memory.is_some() || cpu.is_some()).then(|| PatchLimits {
            memory_bytes: memory.map(Some),
            cpu_millis: cpu.map(Some),
            pids: None,
        });
        let patch = PatchServer {
            name,
            variables: or_default(variables),
            env: or_default(env),
            limits,
            lease_seconds: lease.map(|seconds| Some(seconds).filter(|seconds| *seconds > 0)),
            ..PatchServer::default()
        };
        let patched = client.server_patch(&server.id.to_string(), &patch, if_generation.map(Generation::new)).await;
        let patched = patched.map_err(|error| refused(format!("could not change `{}`", server.name), error))?;
        app.output.done(&patched, &format!("{} is changed (generation {})", patched.name, patched.generation))?;
        if !app.output.json && patched.phase.is_live() && patched.generation > patched.applied_generation {
            output::hint(&format!("it takes effect with `manman server restart {}`", patched.name));
        }
        Ok(())
    }
}
