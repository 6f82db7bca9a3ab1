//! Start, stop, restart, kill: sugar over the wish.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use manman_common::spec::StopMode;
use manman_common::wire::PowerAnswer;
use manman_common::{DesiredState, Kind, Phase, Problem, WorkerStatus};

use super::wait::{Goal, WaitQuery, wait_for};
use super::{find_server, view};
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::server::{Server, Wish, revision_bump, server_change};
use crate::db::worker::worker_find;
use crate::http::auth::{Caller, Permission};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Path, Query};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Start,
    Stop,
    Restart,
    Kill,
}

/// Starts the server; 200 if it is so already.
#[utoipa::path(
    post, path = "/server/{id}/start", tag = "server",
    params(("id" = String, Path, description = "id or name"), WaitQuery),
    responses((status = 202, body = PowerAnswer, description = "the generation to wait for"), (status = 200, body = PowerAnswer), (status = 409, body = Problem))
)]
pub(super) async fn start(app: State<AppRef>, caller: Caller, key: Path<String>, wait: Query<WaitQuery>) -> ApiResult<Response> {
    power(app, caller, key, wait, Power::Start).await
}

/// Stops the server by its stop plan; 200 if it is so already.
#[utoipa::path(
    post, path = "/server/{id}/stop", tag = "server",
    params(("id" = String, Path, description = "id or name"), WaitQuery),
    responses((status = 202, body = PowerAnswer, description = "the generation to wait for"), (status = 200, body = PowerAnswer), (status = 409, body = Problem))
)]
pub(super) async fn stop(app: State<AppRef>, caller: Caller, key: Path<String>, wait: Query<WaitQuery>) -> ApiResult<Response> {
    power(app, caller, key, wait, Power::Stop).await
}

/// Stops the server by its stop plan and starts a fresh instance. A restart that the worker has not
/// heard of within a minute expires, and is told of as `server.restart_expired`.
#[utoipa::path(
    post, path = "/server/{id}/restart", tag = "server",
    params(("id" = String, Path, description = "id or name"), WaitQuery),
    responses((status = 202, body = PowerAnswer, description = "the generation to wait for"), (status = 409, body = Problem))
)]
pub(super) async fn restart(app: State<AppRef>, caller: Caller, key: Path<String>, wait: Query<WaitQuery>) -> ApiResult<Response> {
    power(app, caller, key, wait, Power::Restart).await
}

/// Stops the server with no grace: what the game has not saved is lost.
#[utoipa::path(
    post, path = "/server/{id}/kill", tag = "server",
    params(("id" = String, Path, description = "id or name"), WaitQuery),
    responses((status = 202, body = PowerAnswer, description = "the generation to wait for"), (status = 200, body = PowerAnswer), (status = 409, body = Problem))
)]
pub(super) async fn kill(app: State<AppRef>, caller: Caller, key: Path<String>, wait: Query<WaitQuery>) -> ApiResult<Response> {
    power(app, caller, key, wait, Power::Kill).await
}

async fn power(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    Query(query): Query<WaitQuery>,
    power: Power,
) -> ApiResult<Response> {
    let wait = query.duration()?;
    let before = find_server(&app, &mut *app.db.acquire().await?, &caller, &key).await?;
    caller.require(Permission::RunServer { server: before.id })?;
    let goal = match power {
        Power::Start => Goal::Ready { but_not: None },
        Power::Restart => Goal::Ready { but_not: before.status.as_ref().and_then(|status| status.instance) },
        Power::Stop | Power::Kill => Goal::Stopped,
    };
    let id = before.id;
    let (status, server) = match change(&app, &caller, before, power).await? {
        Some(server) => (StatusCode::ACCEPTED, server),
        None => (StatusCode::OK, find_server(&app, &mut *app.db.acquire().await?, &caller, &id.to_string()).await?),
    };
    let (server, reached) = match wait {
        Some(wait) => waited(&app, server, goal, wait).await?,
        None => (server, None),
    };
    let generation = server.generation;
    Ok((status, axum::Json(PowerAnswer { generation, reached, server: view(&app, server) })).into_response())
}

async fn waited(app: &AppRef, server: Server, goal: Goal, wait: Duration) -> ApiResult<(Server, Option<bool>)> {
    let generation = server.generation;
    let Some((after, reached)) = wait_for(app, server.id, goal, wait).await? else { return Ok((server, Some(false))) };
    // Somebody else's newer wish is not this one.
    let reached = reached && after.generation >= generation;
    Ok((after, Some(reached)))
}

/// What the wish becomes; `None` if it is that already.
pub(super) fn wish(server: &Server, power: Power) -> Option<Wish> {
    let phase = server.reported_phase();
    // Above every one there was, those included that were withdrawn.
    let fresh = server.generation.next().get();
    let (desired, stop_mode, restart_seq) = match power {
        Power::Start => {
            let wished = server.desired == DesiredState::Running;
            // A new wish is how a person says "try again" of what was given up or waits.
            let try_again = matches!(phase, Phase::Failed | Phase::Backoff | Phase::Crashed | Phase::Stopped) && server.status.is_some();
            match (wished, try_again) {
                (true, false) => return None,
                // Asked for, and not begun yet: the worker has not heard of it.
                (true, true) if server.status.as_ref().is_some_and(|status| status.generation < server.generation) => return None,
                // No restart: it may have come up by itself by the time that its worker hears of this.
                (true, true) => (DesiredState::Running, StopMode::Graceful, server.restart_seq),
                (false, _) => (DesiredState::Running, StopMode::Graceful, server.restart_seq),
            }
        }
        Power::Restart => (DesiredState::Running, StopMode::Graceful, fresh),
        Power::Stop if server.desired == DesiredState::Stopped => return None,
        Power::Stop => (DesiredState::Stopped, StopMode::Graceful, server.restart_seq),
        Power::Kill if server.desired == DesiredState::Stopped && (server.stop_mode == StopMode::Kill || phase == Phase::Stopped) => {
            return None;
        }
        Power::Kill => (DesiredState::Stopped, StopMode::Kill, server.restart_seq),
    };
    Some(Wish {
        name: server.name.clone(),
        request: server.request.clone(),
        run: server.run.clone(),
        run_changed: false,
        desired,
        stop_mode,
        restart_seq,
        purge: server.purge,
    })
}

/// Tries until nobody else changes the server in between; each failed try is another's success.
pub(super) const TRIES: u32 = 20;

async fn change(app: &AppRef, caller: &Caller, mut server: Server, power: Power) -> ApiResult<Option<Server>> {
    for _ in 0..TRIES {
        if server.desired == DesiredState::Deleted {
            return Err(Problem::new(Kind::Conflict, format!("server `{}` is being deleted", server.name)).into());
        }
        let Some(wish) = wish(&server, power) else { return Ok(None) };
        let now = clock::now();
        let mut tx = app.db.begin().await?;
        let revision = revision_bump(&mut tx, server.worker_id).await?;
        if wish.desired == DesiredState::Running {
            check_not_frozen(&mut tx, &server).await?;
        }
        if server_change(&mut tx, server.id, server.generation, &wish, revision, now).await?.is_none() {
            tx.rollback().await?;
            server = find_server(app, &mut *app.db.acquire().await?, caller, &server.id.to_string()).await?;
            continue;
        }
        let (kind, verb) = match power {
            Power::Start => ("server.start", "started"),
            Power::Stop => ("server.stop", "stopped"),
            Power::Restart => ("server.restart", "restarted"),
            Power::Kill => ("server.kill", "killed"),
        };
        let event = NewEvent {
            actor: caller.actor(),
            kind,
            worker_id: Some(server.worker_id),
            server_id: Some(server.id),
            message: format!("server `{}` is to be {verb}", server.name),
            data: caller
                .audit(serde_json::json!({ "desired": server.desired }), serde_json::json!({ "desired": wish.desired, "asked": verb })),
        };
        event_insert(&mut tx, now, &event).await?;
        if power == Power::Restart {
            super::expiry::record(app, &mut tx, &server, wish.restart_seq, revision, now).await?;
        }
        tx.commit().await?;
        app.fleet.event_recorded();
        app.fleet.desired_changed(app, server.worker_id);
        app.fleet.server_changed(server.id);
        if power == Power::Restart {
            super::expiry::watch(app, server.id, wish.restart_seq);
        }
        return find_server(app, &mut *app.db.acquire().await?, caller, &server.id.to_string()).await.map(Some);
    }
    Err(Problem::new(Kind::Conflict, "others keep changing this server").retry_after(1).into())
}

/// On a frozen worker nothing new starts; a wish for it would come true much later and by surprise.
async fn check_not_frozen(conn: &mut sqlx::PgConnection, server: &Server) -> Result<(), ApiError> {
    let worker = worker_find(conn, server.worker_id).await?;
    let frozen = worker.is_some_and(|worker| worker.frozen || worker.status == WorkerStatus::Frozen);
    if frozen && !server.reported_phase().is_live() {
        return Err(Problem::new(Kind::NotAlive, format!("worker `{}` is frozen: nothing new starts there", server.worker_name))
            .hint(format!("manman worker unfreeze {}", server.worker_name))
            .into());
    }
    Ok(())
}
