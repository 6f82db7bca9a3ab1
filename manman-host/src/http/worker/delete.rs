use std::time::Duration;

use axum::extract::State;
use manman_common::error::GoneReason;
use manman_common::link::Call;
use manman_common::{Problem, ServerId, WorkerStatus};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{conflict, find_worker};
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::worker::{WorkerRow, worker_delete};
use crate::fleet::link::Farewell;
use crate::http::auth::{Caller, Permission};
use crate::http::error::ApiResult;
use crate::http::extract::{Path, Query};

/// A worker only begins to drain within this time; it goes on by itself.
const SHUTDOWN_MS: u32 = 5_000;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// Also with servers on it: they are stopped if the worker can be reached, and forgotten here.
    /// Their data stays on the machine.
    force: bool,
}

/// Asks a worker to shut down, and removes it.
///
/// `asked` tells whether it could be asked. A tombstone stays: should the worker come back, it is
/// told to forget this host.
#[utoipa::path(
    delete,
    path = "/worker/{id}",
    tag = "worker",
    params(("id" = String, Path, description = "id or name"), DeleteQuery),
    responses((status = 200, body = Value), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn delete(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> ApiResult<axum::Json<Value>> {
    caller.require(Permission::ManageWorkers)?;
    let worker = find_worker(&mut *app.db.acquire().await?, &key).await?;
    if worker.servers > 0 && !query.force {
        return Err(conflict(format!("worker `{}` has {} servers", worker.name, worker.servers))
            .hint("delete them first, or add `?force=true`: then they are stopped and forgotten, and their data stays on the machine")
            .into());
    }
    let asked = shut_down(&app, &worker, false).await;
    let now = clock::now();
    let mut tx = app.db.begin().await?;
    let servers = worker_delete(&mut tx, worker.id, now).await?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "worker.deleted",
        worker_id: Some(worker.id),
        server_id: None,
        message: format!("`{}` has been removed", worker.name),
        data: caller
            .audit(json!({ "name": worker.name, "address": worker.address, "servers": servers.len() }), json!({ "asked": asked.is_ok() })),
    };
    event_insert(&mut tx, now, &event).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    let machine = app.fleet.remove(worker.id);
    for server in &servers {
        app.fleet.server_changed(ServerId::from_uuid(*server));
    }
    // One that drains keeps its link to say how it goes, and hears of the tombstone with its next
    // beat; to anybody else it is said at once.
    if asked.is_err()
        && let Some(link) = machine.and_then(|machine| machine.link())
    {
        link.close(Farewell { reason: Some(GoneReason::Tombstoned), detail: "this worker was removed".to_owned() });
    }
    Ok(axum::Json(
        json!({"id": worker.id, "name": worker.name, "asked": asked.is_ok(), "detail": asked.err().map(|problem| problem.detail)}),
    ))
}

/// Stops every server of a worker by its stop plan, and then the worker itself.
#[utoipa::path(
    post,
    path = "/worker/{id}/drain",
    tag = "worker",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 202, body = Value), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn drain(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
) -> ApiResult<(axum::http::StatusCode, axum::Json<Value>)> {
    caller.require(Permission::ManageWorkers)?;
    let worker = find_worker(&mut *app.db.acquire().await?, &key).await?;
    let answer = shut_down(&app, &worker, false).await?;
    let event = NewEvent {
        actor: caller.actor(),
        kind: "worker.drain",
        worker_id: Some(worker.id),
        server_id: None,
        message: format!("`{}` was asked to stop its servers and shut down", worker.name),
        data: caller.audit(Value::Null, Value::Null),
    };
    event_insert(&mut *app.db.acquire().await?, clock::now(), &event).await?;
    app.fleet.event_recorded();
    Ok((axum::http::StatusCode::ACCEPTED, axum::Json(json!({"id": worker.id, "name": worker.name, "answer": answer}))))
}

async fn shut_down(app: &AppRef, worker: &WorkerRow, keep_servers: bool) -> Result<Value, Problem> {
    let call = Call {
        id: clock::new_command_id(),
        method: "POST".to_owned(),
        path: format!("/shutdown?keep_servers={keep_servers}&reason=requested&session_epoch={}", worker.session_epoch),
        body: Value::Null,
        ttl_ms: SHUTDOWN_MS,
        expect_instance: None,
    };
    let reply = match app.fleet.call(worker.id, call).await {
        Ok(reply) => reply,
        // One with nothing to stop may be gone before its answer is out; its goodbye says as much.
        Err(_) if has_said_goodbye(app, worker).await => return Ok(json!({"shutdown": true, "keep_servers": keep_servers})),
        Err(problem) => return Err(problem),
    };
    if reply.status < 300 {
        Ok(reply.body)
    } else {
        Err(Problem::new(manman_common::Kind::BadGateway, format!("worker `{}` answered {} to it", worker.name, reply.status)))
    }
}

/// Whether the worker says goodbye within the second that its last beat may take.
async fn has_said_goodbye(app: &AppRef, worker: &WorkerRow) -> bool {
    let goodbye = async {
        while app.fleet.worker_status(worker.id) != Some(WorkerStatus::Shutdown) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), goodbye).await.is_ok()
}
