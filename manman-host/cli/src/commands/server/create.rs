use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use manman_common::spec::Limits;
use manman_common::wire::{CreateServer, PortRequest, StartRequest};
use manman_common::{DesiredState, Name};

use crate::commands::server::power;
use crate::commands::{App, game, refused};
use crate::failure::Failure;
use crate::find::{self, Guess};
use crate::parse;
use crate::wait::{self, Goal, Wait};

/// Make a game server: install, start, and with --wait stay until it is Ready
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  manman server create openarena --name oa --wait\n  manman server create docker:manman/teeworlds --set MAX_PLAYERS=12 --memory 256MiB\n  manman server create docker:nginx --port web=8081:80/tcp"
)]
pub(crate) struct Create {
    /// A game of the catalogue (openarena), or a game_id (docker:IMAGE, steamcmd:APP_ID)
    game: String,
    /// Its name; made from the game's otherwise
    #[arg(long)]
    name: Option<Name>,
    /// The machine to run on; the host chooses otherwise
    #[arg(long, value_name = "WORKER")]
    worker: Option<String>,
    /// A setting of the game; may be given again
    #[arg(long = "set", value_parser = parse::key_value, value_name = "KEY=VALUE")]
    variables: Vec<(String, String)>,
    /// A port by name, or for a bare image NAME=PORT:INSIDE/PROTOCOL; may be given again
    #[arg(long = "port", value_parser = parse::port, value_name = "NAME=PORT")]
    ports: Vec<parse::Port>,
    /// An environment variable; may be given again
    #[arg(long, value_parser = parse::key_value, value_name = "KEY=VALUE")]
    env: Vec<(String, String)>,
    /// The most memory, such as 512MiB
    #[arg(long, value_parser = parse::size, value_name = "SIZE")]
    memory: Option<u64>,
    /// The most cores, such as 1.5
    #[arg(long, value_parser = parse::cpu, value_name = "CORES")]
    cpu: Option<u32>,
    /// Stop it after so many seconds without the host, so that it may be started elsewhere; it runs for ever otherwise
    #[arg(long, value_name = "SECONDS")]
    lease: Option<u32>,
    /// Install it, but do not start it
    #[arg(long, conflicts_with = "wait")]
    stopped: bool,
    /// Wait until it is Ready, this long at most [15m where no time is given]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = power::PATIENCE, value_parser = parse::duration, value_name = "TIME")]
    wait: Option<Duration>,
    /// For a game without a definition: what to run inside
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
}

impl Create {
    pub(super) async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { game, name, worker, variables, ports, env, memory, cpu, lease, stopped, wait, argv } = self;
        let client = app.client()?;
        let game_id = game::resolve(&client, &game).await?;
        let worker_id = match worker {
            Some(worker) => Some(find::worker(&client, &worker, Guess::Prefix).await?.id.to_string()),
            None => None,
        };
        let create = CreateServer {
            game_id,
            worker_id,
            name,
            variables: unique("--set", variables)?,
            env: unique("--env", env)?,
            ports: ports.into_iter().map(request).collect(),
            limits: Limits { memory_bytes: memory, cpu_millis: cpu, pids: None },
            restart: None,
            start: (!argv.is_empty()).then_some(StartRequest { argv }),
            docker: None,
            actions: Default::default(),
            desired: stopped.then_some(DesiredState::Stopped),
            lease_seconds: lease,
        };
        let created = client.server_create(&create, None).await;
        let server = created.map_err(|error| refused(format!("could not create a server of `{game}`"), error))?;
        match wait {
            None => app.output.done(&server, &format!("{} is created on {}", server.name, server.worker_name)),
            Some(within) => {
                let generation = server.generation;
                let ready = wait::wait(Wait { client: &client, server, goal: Goal::Ready, generation, within }).await?;
                app.output.done(&ready, &power::ready_line(&ready))
            }
        }
    }
}

fn request(port: parse::Port) -> PortRequest {
    let parse::Port { name, port, inside, protocol } = port;
    PortRequest { name, protocol, port, container_port: inside }
}

/// Given twice, one of the two would silently lose.
fn unique(option: &str, pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value).is_some() {
            return Err(Failure::usage(format!("`{option} {key}=…` is given twice")));
        }
    }
    Ok(map)
}
