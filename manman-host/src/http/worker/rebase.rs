use axum::extract::State;
use manman_common::wire::{RebaseEffect, RebaseRequest, RebaseServer, RebaseView, RebaseWish};
use manman_common::{DesiredState, Kind, Phase, Problem, WorkerId};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{conflict, find_worker};
use crate::app::{App, AppRef};
use crate::clock;
use crate::db::server::{revision_bump, server_keep};
use crate::db::violated;
use crate::db::worker::WorkerRow;
use crate::db::worker::trust::{HostSide, worker_host_side};
use crate::fleet::machine::Machine;
use crate::http::auth::{Caller, Permission};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Json, Path};

/// Servers that a refusal names; the view has all.
const NAMED_MAX: usize = 20;

/// What would happen if a worker did as this host says: to be read before it is told to.
///
/// A worker whose database went back in time, or whose host's did, stops and deletes nothing until
/// then.
#[utoipa::path(
    get,
    path = "/worker/{id}/rebase",
    tag = "worker",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = RebaseView), (status = 403, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn look(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>) -> ApiResult<axum::Json<RebaseView>> {
    caller.require(Permission::ManageWorkers)?;
    let mut conn = app.db.acquire().await?;
    let worker = find_worker(&mut conn, &key).await?;
    Ok(axum::Json(view_of(&app, &mut conn, &worker).await?))
}

/// Has a worker follow this host again without reserve.
///
/// Where something would be stopped or deleted, `confirm` has to be the worker's name; with `keep`
/// the host wishes for what runs instead. The worker hears of it with its next beat.
#[utoipa::path(
    post,
    path = "/worker/{id}/rebase",
    tag = "worker",
    params(("id" = String, Path, description = "id or name")),
    request_body = RebaseRequest,
    responses(
        (status = 200, body = RebaseView, description = "what is left to happen"), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem, description = "something would be stopped, and `confirm` is not the name")
    )
)]
pub(super) async fn rebase(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    request: Json<RebaseRequest>,
) -> ApiResult<axum::Json<RebaseView>> {
    caller.require(Permission::ManageWorkers)?;
    let RebaseRequest { confirm, keep } = request.read()?;
    let mut tx = app.db.begin().await?;
    let worker = find_worker(&mut tx, &key).await?;
    let machine = app.fleet.machine(worker.id).ok_or_else(|| Problem::not_found("worker", &key))?;
    let before = view_of(&app, &mut tx, &worker).await?;
    if before.rebase_needed && machine.lock().standing.inventory.is_none() {
        return Err(conflict(format!("`{}` has not said yet what runs there", worker.name))
            .hint("it says so once it is linked again; a machine that is off for good is fenced: manman worker fence")
            .retry_after(2)
            .into());
    }
    let kept = if keep { keep_running(&mut tx, worker.id, &before).await? } else { Vec::new() };
    let after = view_of(&app, &mut tx, &worker).await?;
    let grave: Vec<&RebaseServer> = after.servers.iter().filter(|server| server.effect.is_grave()).collect();
    if !grave.is_empty() && confirm.as_deref() != Some(worker.name.as_str()) {
        return Err(refusal(&worker, &grave).into());
    }
    if before.reason.is_none() && kept.is_empty() {
        return Ok(axum::Json(after));
    }
    tx.commit().await?;
    let timeline = app.fleet.timeline();
    let data = caller.audit(
        json!({ "quarantine": before.quarantine, "rebase_needed": before.rebase_needed, "servers": before.servers }),
        json!({ "timeline": timeline, "keep": keep, "kept": kept, "servers": after.servers }),
    );
    app.fleet.rebase(&app, &machine, Some(timeline), caller.actor(), data).await?;
    if !kept.is_empty() {
        app.fleet.desired_changed(&app, worker.id);
        for server in kept {
            app.fleet.server_changed(manman_common::ServerId::from_uuid(server));
        }
    }
    let mut conn = app.db.acquire().await?;
    let worker = find_worker(&mut conn, &worker.id.to_string()).await?;
    Ok(axum::Json(view_of(&app, &mut conn, &worker).await?))
}

async fn keep_running(conn: &mut PgConnection, worker: WorkerId, view: &RebaseView) -> ApiResult<Vec<Uuid>> {
    let runs =
        |server: &&RebaseServer| server.effect.is_grave() && server.host != RebaseWish::Moved && server.machine.is_some_and(Phase::is_live);
    let kept: Vec<Uuid> = view.servers.iter().filter(runs).map(|server| server.id.as_uuid()).collect();
    if kept.is_empty() {
        return Ok(kept);
    }
    let revision = revision_bump(conn, worker).await?;
    server_keep(conn, worker, &kept, revision, clock::now()).await.map_err(|error| match violated(&error) {
        Some("server_name_key") => {
            conflict("a server that runs there was deleted here, and another has its name by now").hint("rename that one first").into()
        }
        _ => ApiError::from(error),
    })?;
    Ok(kept)
}

fn refusal(worker: &WorkerRow, grave: &[&RebaseServer]) -> Problem {
    let named: Vec<String> = grave
        .iter()
        .take(NAMED_MAX)
        .map(|server| {
            let name = server.name.as_ref().map_or_else(|| server.id.to_string(), ToString::to_string);
            format!("`{name}` {}", if server.effect == RebaseEffect::Stops { "would be stopped" } else { "would be deleted" })
        })
        .collect();
    let more = if grave.len() > NAMED_MAX { format!(", and {} more", grave.len() - NAMED_MAX) } else { String::new() };
    Problem::new(Kind::Conflict, format!("{}{more}", named.join(", ")))
        .field("confirm")
        .hint(format!("look at it with `manman worker rebase {0}`; confirm with the worker's name, or keep what runs", worker.name))
}

async fn view_of(app: &App, conn: &mut PgConnection, worker: &WorkerRow) -> ApiResult<RebaseView> {
    let machine = app.fleet.machine(worker.id).ok_or_else(|| Problem::not_found("worker", worker.id))?;
    let sides = worker_host_side(conn, worker.id).await?;
    let (quarantine, rebase_needed) = {
        let state = machine.lock();
        (state.standing.quarantine, state.standing.rebase_needed(app.fleet.timeline()))
    };
    let reason = match (quarantine, rebase_needed) {
        (Some(why), _) => Some(why.explain().to_owned()),
        (None, true) => Some("the host's database went back in time: it may wish for what was, and not for what is".to_owned()),
        (None, false) => None,
    };
    let servers = servers_of(app, &machine, sides);
    Ok(RebaseView { id: worker.id, name: worker.name.clone(), reason, quarantine, rebase_needed, servers })
}

fn servers_of(app: &App, machine: &Machine, sides: Vec<HostSide>) -> Vec<RebaseServer> {
    let inventory = machine.lock().standing.inventory.clone().unwrap_or_default();
    let told = |id| inventory.iter().find(|item| item.server == id).map(|item| item.phase);
    let mut servers: Vec<RebaseServer> = sides
        .into_iter()
        .map(|side| {
            let heard = if side.moved { None } else { app.fleet.server_word(side.id).map(|status| status.phase) };
            // The newest word first; the inventory is as old as the link, and the table may be of yesterday.
            let phase = heard.or_else(|| told(side.id)).or(side.phase);
            let host = match side.desired {
                _ if side.moved => RebaseWish::Moved,
                DesiredState::Running => RebaseWish::Running,
                DesiredState::Stopped => RebaseWish::Stopped,
                DesiredState::Deleted => RebaseWish::Deleted,
            };
            RebaseServer { id: side.id, name: Some(side.name), host, machine: phase, effect: effect(host, phase) }
        })
        .collect();
    for item in &inventory {
        if item.phase != Phase::Deleted && servers.iter().all(|server| server.id != item.server) {
            let host = RebaseWish::UnknownHere;
            servers.push(RebaseServer {
                id: item.server,
                name: None,
                host,
                machine: Some(item.phase),
                effect: effect(host, Some(item.phase)),
            });
        }
    }
    servers
}

fn effect(host: RebaseWish, machine: Option<Phase>) -> RebaseEffect {
    let live = machine.is_some_and(Phase::is_live);
    match host {
        RebaseWish::Running if live => RebaseEffect::None,
        RebaseWish::Running => RebaseEffect::Starts,
        RebaseWish::Stopped | RebaseWish::Moved if live => RebaseEffect::Stops,
        RebaseWish::Stopped | RebaseWish::Moved => RebaseEffect::None,
        RebaseWish::Deleted if machine.is_none_or(|phase| phase == Phase::Deleted) => RebaseEffect::None,
        RebaseWish::Deleted => RebaseEffect::IsDeleted,
        RebaseWish::UnknownHere => RebaseEffect::IsForgotten,
    }
}
