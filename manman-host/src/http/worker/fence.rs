use axum::extract::State;
use manman_common::wire::{FenceRequest, WorkerView};
use manman_common::{Problem, WorkerStatus};
use serde_json::json;

use super::{conflict, find_worker, view};
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::worker::trust::worker_fence;
use crate::db::worker::{Admission, worker_find};
use crate::http::auth::{Caller, Permission};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Json, Path};

/// Says that a worker's machine is off, so that its servers may be moved to others.
///
/// Nobody but a person knows that. `confirm` is the worker's name. Should the machine come back, what
/// was moved is stopped there by its stop plan; its files stay.
#[utoipa::path(
    post,
    path = "/worker/{id}/fence",
    tag = "worker",
    params(("id" = String, Path, description = "id or name")),
    request_body = FenceRequest,
    responses((status = 200, body = WorkerView), (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn fence(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    request: Json<FenceRequest>,
) -> ApiResult<axum::Json<WorkerView>> {
    caller.require(Permission::ManageWorkers)?;
    let FenceRequest { confirm } = request.read()?;
    let worker = find_worker(&mut *app.db.acquire().await?, &key).await?;
    let machine = app.fleet.machine(worker.id).ok_or_else(|| Problem::not_found("worker", &key))?;
    if worker.admission != Admission::Accepted {
        return Err(conflict(format!("worker `{}` has not been accepted", worker.name)).into());
    }
    if confirm != worker.name.as_str() {
        return Err(conflict(format!("`confirm` is not the worker's name, `{}`", worker.name))
            .field("confirm")
            .hint("only if that machine is off, or will never run its servers again: else a world may run twice")
            .into());
    }
    if !worker.trust.fenced {
        let _storing = machine.storing.lock().await;
        let epoch = machine.lock().epoch;
        let now = clock::now();
        let mut tx = app.db.begin().await?;
        if !worker_fence(&mut tx, worker.id, epoch, now).await? {
            return Err(conflict(format!("worker `{}` has begun a session at this moment", worker.name)).retry_after(1).into());
        }
        let event = NewEvent {
            actor: caller.actor(),
            kind: "worker.fenced",
            worker_id: Some(worker.id),
            server_id: None,
            message: format!("`{}` is off, says {}: its servers may be moved", worker.name, caller.actor()),
            data: caller.audit(
                json!({ "fenced": false, "status": worker.status, "session_epoch": epoch }),
                json!({ "fenced": true, "session_epoch": epoch.next(), "servers": worker.servers }),
            ),
        };
        event_insert(&mut tx, now, &event).await?;
        tx.commit().await?;
        {
            let mut state = machine.lock();
            state.revoke(epoch.next());
            // There is nobody to kill: the person has seen to it.
            state.kill_begun = true;
            state.unknown_since = Some(clock::instant());
            state.status = WorkerStatus::Unknown;
        }
        drop(_storing);
        app.fleet.event_recorded();
        app.fleet.store_status(&app, &machine).await?;
        tracing::warn!(worker.id = %worker.id, worker.name = %worker.name, "a worker was fenced");
    }
    let row = worker_find(&mut *app.db.acquire().await?, worker.id).await?.ok_or_else(|| ApiError::internal("the worker is not there"))?;
    Ok(axum::Json(view(&app, row)))
}
