use axum::extract::State;
use manman_common::link::Call;
use manman_common::wire::{PatchWorker, WorkerView};
use manman_common::{Kind, Problem, WorkerId};
use serde_json::json;

use super::{find_worker, view};
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::violated;
use crate::db::worker::{worker_find, worker_set_name_and_labels};
use crate::http::auth::{Caller, Permission};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Json, Path};

const LABELS_MAX: usize = 64;
/// How long a worker may take to freeze; it only sets a flag.
const FREEZE_MS: u32 = 5_000;

/// Changes a worker's name, its labels, or whether it is frozen.
///
/// A frozen worker goes on with what runs and starts nothing new. A worker that is away hears of
/// it when its link is open again.
#[utoipa::path(
    patch,
    path = "/worker/{id}",
    tag = "worker",
    params(("id" = String, Path, description = "id or name")),
    request_body = PatchWorker,
    responses((status = 200, body = WorkerView), (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn patch(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    patch: Json<PatchWorker>,
) -> ApiResult<axum::Json<WorkerView>> {
    change(&app, &caller, &key, patch).await
}

/// The same as PATCH: what the body does not name stays as it is.
#[utoipa::path(
    put,
    path = "/worker/{id}",
    tag = "worker",
    params(("id" = String, Path, description = "id or name")),
    request_body = PatchWorker,
    responses((status = 200, body = WorkerView), (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn put(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    patch: Json<PatchWorker>,
) -> ApiResult<axum::Json<WorkerView>> {
    change(&app, &caller, &key, patch).await
}

async fn change(app: &AppRef, caller: &Caller, key: &str, patch: Json<PatchWorker>) -> ApiResult<axum::Json<WorkerView>> {
    caller.require(Permission::ManageWorkers)?;
    let PatchWorker { name, labels, frozen } = patch.read()?;
    let mut tx = app.db.begin().await?;
    let worker = find_worker(&mut tx, key).await?;
    let machine = app.fleet.machine(worker.id).ok_or_else(|| Problem::not_found("worker", key))?;
    let mut all = worker.labels.clone();
    for (label, value) in labels {
        match value {
            Some(value) => drop(all.insert(label, value)),
            None => drop(all.remove(&label)),
        }
    }
    if all.len() > LABELS_MAX {
        return Err(Problem::invalid("labels", format!("a worker has at most {LABELS_MAX} labels")).into());
    }
    let new_name = name.unwrap_or_else(|| worker.name.clone());
    let new_frozen = frozen.unwrap_or(worker.frozen);
    if new_name != worker.name || all != worker.labels || new_frozen != worker.frozen {
        worker_set_name_and_labels(&mut tx, worker.id, &new_name, &all).await.map_err(|error| match violated(&error) {
            Some("worker_name_key") => Problem::new(Kind::Conflict, format!("another worker is called `{new_name}`")).field("name").into(),
            _ => ApiError::from(error),
        })?;
        let message = if new_name != worker.name {
            format!("`{}` is now called `{new_name}`", worker.name)
        } else if new_frozen != worker.frozen {
            format!("`{new_name}` {}", if new_frozen { "is to take nothing new" } else { "takes servers again" })
        } else {
            format!("labels of `{new_name}` have been changed")
        };
        let event = NewEvent {
            actor: caller.actor(),
            kind: "worker.changed",
            worker_id: Some(worker.id),
            server_id: None,
            message,
            data: caller.audit(
                json!({ "name": worker.name, "labels": worker.labels, "frozen": worker.frozen }),
                json!({ "name": new_name, "labels": all, "frozen": new_frozen }),
            ),
        };
        event_insert(&mut tx, clock::now(), &event).await?;
    }
    tx.commit().await?;
    app.fleet.event_recorded();
    machine.lock().name = new_name;
    if let Some(frozen) = frozen {
        freeze(app, worker.id, frozen).await?;
    }
    let row = worker_find(&mut *app.db.acquire().await?, worker.id).await?.ok_or_else(|| Problem::not_found("worker", key))?;
    Ok(axum::Json(view(app, row)))
}

/// Stores the wish, and tells the worker if it is there.
async fn freeze(app: &AppRef, worker: WorkerId, frozen: bool) -> ApiResult<()> {
    let Some(machine) = app.fleet.machine(worker) else { return Ok(()) };
    machine.lock().freeze(frozen);
    app.fleet.store_status(app, &machine).await?;
    match app.fleet.call(worker, freeze_call(frozen)).await {
        Ok(reply) if reply.status < 300 => Ok(()),
        Ok(reply) => Err(Problem::new(Kind::BadGateway, format!("the worker answered {} to it", reply.status)).into()),
        // It hears of the wish when its link opens.
        Err(problem) if problem.kind == Kind::NotAlive => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}

pub(crate) fn freeze_call(frozen: bool) -> Call {
    Call {
        id: clock::new_command_id(),
        method: "POST".to_owned(),
        path: if frozen { "/freeze" } else { "/unfreeze" }.to_owned(),
        body: serde_json::Value::Null,
        ttl_ms: FREEZE_MS,
        expect_instance: None,
    }
}
