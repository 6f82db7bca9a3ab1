//! `manman-worker plan`: what a worker would do next on this directory, from its own database and a
//! look at the drivers. Nothing is done and nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use manman_common::{InstallMethod, Phase, ServerId};
use manman_worker_core::{Observation, Plan, Record, Step, StepKind, World};
use serde::Serialize;

use crate::app::RunError;
use crate::app::label;
use crate::config::{Config, DockerMode};
use crate::driver::Driver;
use crate::driver::docker::{DockerConfig, DockerDriver};
use crate::report::Report;
use crate::standing::Standing;
use crate::store::{Loaded, Store};
use crate::{api, clock, identity, room};

const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// What would be done, server by server.
#[derive(Debug, Serialize)]
pub struct Outlook {
    frozen: bool,
    /// Why the worker does not simply do as it is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    attention: Option<Attention>,
    /// The worker that runs on this directory now, and does the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_pid: Option<u32>,
    servers: Vec<Prospect>,
}

#[derive(Debug, Serialize)]
struct Attention {
    text: String,
    hint: String,
}

impl From<(String, String)> for Attention {
    fn from((text, hint): (String, String)) -> Self {
        Self { text, hint }
    }
}

#[derive(Debug, Serialize)]
struct Prospect {
    id: ServerId,
    name: Option<String>,
    phase: Option<Phase>,
    /// `start`, `stop`, `install`, …; none where nothing is to be done.
    step: Option<&'static str>,
    /// Why not, where a driver could not look.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
}

impl Report for Outlook {
    fn to_lines(&self) -> String {
        let mut text = String::new();
        // Writing into a String can not fail.
        if let Some(pid) = self.worker_pid {
            let _ = writeln!(text, "a worker runs on this directory, pid {pid}; it does what follows by itself");
        }
        if let Some(Attention { text: what, hint }) = &self.attention {
            let _ = writeln!(text, "{what}\n    hint: {hint}");
        }
        if self.frozen {
            let _ = writeln!(text, "frozen: nothing new starts");
        }
        if self.servers.is_empty() {
            let _ = writeln!(text, "no servers");
        }
        for server in &self.servers {
            let name = server.name.clone().unwrap_or_else(|| server.id.to_string());
            let phase = server.phase.map_or_else(|| "not seen".to_owned(), |phase| format!("{phase:?}"));
            let _ = match (&server.unknown, server.step) {
                (Some(reason), _) => writeln!(text, "{name}: {phase}, left alone: {reason}"),
                (None, Some(step)) => writeln!(text, "{name}: {phase}, next: {step}"),
                (None, None) => writeln!(text, "{name}: {phase}, nothing to do"),
            };
        }
        text
    }
}

/// Reads the directory's database and looks at the drivers.
pub async fn plan(config: &Config) -> Result<Outlook, RunError> {
    let directory = &config.data_dir;
    let worker_pid = identity::locked_by(directory);
    if !directory.join("worker.sqlite").exists() {
        return Ok(Outlook { frozen: false, attention: None, worker_pid, servers: Vec::new() });
    }
    let loaded = Store::open(directory)?.store.load().await?;
    let driver = label::read(&directory.join(label::FILE))
        .filter(|_| config.docker != DockerMode::Off)
        .map(|label| Arc::new(DockerDriver::new(DockerConfig::new(label, directory.join("servers")))) as Arc<dyn Driver>);
    Ok(outlook(loaded, driver.as_deref(), worker_pid, room::has_room(directory)).await)
}

async fn outlook(loaded: Loaded, driver: Option<&dyn Driver>, worker_pid: Option<u32>, has_room: bool) -> Outlook {
    let Loaded { meta, mut records, statuses, .. } = loaded;
    let standing = Standing::of(&meta);
    let mode = standing.mode();
    let now = clock::now();
    let observed = observe(&records, driver).await;
    for (server, observation) in &observed {
        if let (Some(record), Observation::Known(instances)) = (records.get_mut(server), observation) {
            // What would be told of it is for the worker to tell.
            let _ = manman_worker_core::seen(*server, record, instances, mode, now, true);
        }
    }
    let key = |record: &Record| driver.filter(|driver| driver.method() == method(record)).map(|driver| driver.install_key(&record.spec));
    let install_keys = records.iter().filter_map(|(server, record)| Some((*server, key(record)?))).collect();
    let in_flight: BTreeMap<ServerId, StepKind> = BTreeMap::new();
    let plan = manman_worker_core::plan(World {
        now,
        mode,
        records: &records,
        observed: &observed,
        in_flight: &in_flight,
        install_keys: &install_keys,
        last: &statuses,
        // It has met no host in this look, and without one it would start none of these.
        leased: &BTreeSet::new(),
        has_room,
    });
    let servers = observed.iter().map(|(server, observation)| prospect(*server, observation, &records, &plan)).collect();
    let name = meta.name.map_or_else(|| "WORKER".to_owned(), |name| name.to_string());
    Outlook { frozen: meta.frozen, attention: standing.attention(&name).map(Attention::from), worker_pid, servers }
}

fn method(record: &Record) -> InstallMethod {
    record.spec.run.game_id.method()
}

async fn observe(records: &BTreeMap<ServerId, Record>, driver: Option<&dyn Driver>) -> BTreeMap<ServerId, Observation> {
    let seen = match driver {
        None => Err("there is no driver for it here".to_owned()),
        Some(driver) => match tokio::time::timeout(LOOK_WITHIN, driver.list()).await {
            Ok(Ok(instances)) => Ok(instances),
            Ok(Err(error)) => Err(api::error_chain(&error)),
            Err(_) => Err("the driver did not answer in time".to_owned()),
        },
    };
    let mut observed: BTreeMap<ServerId, Observation> = records
        .keys()
        .map(|server| {
            let observation = match &seen {
                Ok(_) => Observation::Known(Vec::new()),
                Err(reason) => Observation::Unknown { reason: reason.clone() },
            };
            (*server, observation)
        })
        .collect();
    for instance in seen.unwrap_or_default() {
        let entry = observed.entry(instance.server).or_insert_with(|| Observation::Known(Vec::new()));
        if let Observation::Known(instances) = entry {
            instances.push(instance);
        }
    }
    observed
}

fn prospect(server: ServerId, observation: &Observation, records: &BTreeMap<ServerId, Record>, plan: &Plan) -> Prospect {
    let step = plan.steps.iter().find(|step| step.server() == server).map(|step| match step {
        Step::Install { .. } => "install",
        Step::Start { .. } => "start",
        Step::Stop { .. } => "stop",
        Step::Remove { .. } => "clear away the dead instance",
        Step::Purge { .. } => "delete its data",
    });
    let unknown = match observation {
        Observation::Unknown { reason } => Some(reason.clone()),
        Observation::Known(_) => None,
    };
    Prospect {
        id: server,
        name: records.get(&server).map(|record| record.spec.name.to_string()),
        phase: plan.statuses.get(&server).map(|status| status.phase),
        step,
        unknown,
    }
}
