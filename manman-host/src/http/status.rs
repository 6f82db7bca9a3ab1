//! `GET /status`: the host at a glance.

use std::collections::BTreeMap;

use axum::extract::State;
use manman_common::wire::{HostStatus, PhaseCount, WorkerCount};
use manman_common::{Phase, WorkerStatus};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission};
use super::error::ApiResult;
use crate::app::{App, AppRef};
use crate::db::status::{ServerSight, status_servers};
use crate::db::worker::{Admission, WorkerRow, worker_all};

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(status))
}

/// The host at a glance: workers, servers, and what needs a person.
#[utoipa::path(get, path = "/status", tag = "host", responses((status = 200, body = HostStatus)))]
async fn status(State(app): State<AppRef>, caller: Caller) -> ApiResult<axum::Json<HostStatus>> {
    caller.require(Permission::SeeFleet)?;
    let mut conn = app.db.acquire().await?;
    let mut workers = worker_all(&mut conn).await?;
    for worker in &mut workers {
        worker.status = present_status(&app, worker);
    }
    let servers = status_servers(&mut conn).await?;
    drop(conn);
    let mut worker_counts: BTreeMap<&str, WorkerCount> = BTreeMap::new();
    for worker in &workers {
        worker_counts.entry(worker.status.as_str()).or_insert(WorkerCount { status: worker.status, count: 0 }).count += 1;
    }
    let mut phase_counts: BTreeMap<String, PhaseCount> = BTreeMap::new();
    for server in &servers {
        let phase = present_phase(&app, &workers, server);
        phase_counts.entry(format!("{phase:?}")).or_insert(PhaseCount { phase, count: 0 }).count += 1;
    }
    Ok(axum::Json(HostStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host_id: app.host_id,
        started_at: app.started_at,
        settling_seconds: app.fleet.settling_seconds(),
        database: app.database.clone(),
        workers: worker_counts.into_values().collect(),
        servers: phase_counts.into_values().collect(),
        attention: attention(&app, &workers, &servers),
    }))
}

fn present_status(app: &App, worker: &WorkerRow) -> WorkerStatus {
    match worker.admission {
        Admission::Pending => WorkerStatus::Pending,
        Admission::Accepted | Admission::Deleted => app.fleet.worker_status(worker.id).unwrap_or(worker.status),
    }
}

fn reported_phase(app: &App, server: &ServerSight) -> Phase {
    app.fleet.server_status(server.id).map(|status| status.phase).or(server.phase).unwrap_or(Phase::Pending)
}

fn present_phase(app: &App, workers: &[WorkerRow], server: &ServerSight) -> Phase {
    let worker_unknown = workers.iter().any(|worker| worker.id == server.worker_id && worker.status == WorkerStatus::Unknown);
    if worker_unknown || app.fleet.server_is_silent(server.id) { Phase::Unknown } else { reported_phase(app, server) }
}

/// How many of a kind are named before the rest is only counted.
const NAMED: usize = 5;

fn attention(app: &App, workers: &[WorkerRow], servers: &[ServerSight]) -> Vec<String> {
    let workers_that = |status: WorkerStatus| -> Vec<&str> {
        workers.iter().filter(|worker| worker.status == status).map(|worker| worker.name.as_str()).collect()
    };
    let servers_in = |phase: Phase| -> Vec<&str> {
        servers.iter().filter(|server| reported_phase(app, server) == phase).map(|server| server.name.as_str()).collect()
    };
    let sentences = [
        sentence(&workers_that(WorkerStatus::Pending), "asks to join", "ask to join"),
        sentence(&workers_that(WorkerStatus::Unknown), "has not been heard of", "have not been heard of"),
        sentence(&servers_in(Phase::Failed), "has failed and is not tried again", "have failed and are not tried again"),
        sentence(&servers_in(Phase::StopStuck), "can not be stopped", "can not be stopped"),
    ];
    let games = app.games.left_out().iter().take(NAMED).map(|why| format!("a game's definition is left out: {}", crate::run::chain(why)));
    sentences.into_iter().flatten().chain(games).collect()
}

fn sentence(names: &[&str], one: &str, many: &str) -> Option<String> {
    match names {
        [] => None,
        [name] => Some(format!("`{name}` {one}")),
        names => {
            let listed: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
            let rest = names.len().saturating_sub(NAMED);
            let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
            Some(format!("{}{more} {many}", listed.join(", ")))
        }
    }
}
