use axum::extract::State;
use manman_common::wire::WorkerView;
use manman_common::{Kind, Problem, WorkerId, WorkerStatus};
use sqlx::PgConnection;

use super::{conflict, find_worker, view};
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::violated;
use crate::db::worker::{Admission, WorkerRow, worker_accept, worker_find, worker_named};
use crate::http::auth::{Caller, Permission};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::Path;

/// Lets a machine in that asks to join.
///
/// Where another worker has the name already, rename one of them first.
#[utoipa::path(
    post,
    path = "/worker/{id}/accept",
    tag = "worker",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = WorkerView), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn accept(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>) -> ApiResult<axum::Json<WorkerView>> {
    caller.require(Permission::ManageWorkers)?;
    let mut tx = app.db.begin().await?;
    let worker = find_pending(&mut tx, &key).await?;
    let machine = app.fleet.machine(worker.id).ok_or_else(|| Problem::not_found("worker", &key))?;
    let now = clock::now();
    if !worker_accept(&mut tx, worker.id, WorkerStatus::Alive, now).await.map_err(|error| name_taken(error, &worker))? {
        return Err(conflict(format!("worker `{}` does not wait to be accepted any more", worker.name)).into());
    }
    let event = NewEvent {
        actor: caller.actor(),
        kind: "worker.accepted",
        worker_id: Some(worker.id),
        server_id: None,
        message: format!("`{}` at {} has been accepted", worker.name, worker.address),
        data: caller.audit(serde_json::json!({ "state": "pending" }), serde_json::json!({ "state": "accepted" })),
    };
    event_insert(&mut tx, now, &event).await?;
    let row = worker_find(&mut tx, worker.id).await?.ok_or_else(|| ApiError::internal("the worker just accepted is not there"))?;
    tx.commit().await?;
    app.fleet.event_recorded();
    {
        // Whether it is alive, the next look or its next beat tells.
        let mut state = machine.lock();
        state.admission = Admission::Accepted;
        state.status = WorkerStatus::Alive;
        state.stored = (WorkerStatus::Alive, state.stored.1);
    }
    Ok(axum::Json(view(&app, row)))
}

/// By name, those that ask come before the one that has it.
async fn find_pending(conn: &mut PgConnection, key: &str) -> ApiResult<WorkerRow> {
    if key.parse::<WorkerId>().is_ok() {
        let worker = find_worker(conn, key).await?;
        return if worker.admission == Admission::Pending { Ok(worker) } else { Err(already(&worker)) };
    }
    let named = worker_named(conn, key).await?;
    let mut pending: Vec<&WorkerRow> = named.iter().filter(|worker| worker.admission == Admission::Pending).collect();
    match (pending.pop(), pending.len()) {
        (Some(worker), 0) => Ok(worker.clone()),
        (Some(last), _) => {
            let all: Vec<String> = pending.iter().chain([&last]).map(|worker| format!("{} at {}", worker.id, worker.address)).collect();
            Err(conflict(format!("{} machines ask to join as `{key}`", all.len()))
                .hint(format!("accept one by its id: {}", all.join(", ")))
                .into())
        }
        (None, _) => Err(named.first().map_or_else(|| Problem::not_found("worker", key).into(), already)),
    }
}

fn already(worker: &WorkerRow) -> ApiError {
    conflict(format!("worker `{}` has been accepted already", worker.name)).into()
}

fn name_taken(error: sqlx::Error, worker: &WorkerRow) -> ApiError {
    match violated(&error) {
        Some("worker_name_key") => Problem::new(Kind::Conflict, format!("another worker is called `{}`", worker.name))
            .field("worker-name")
            .hint(format!("rename one of them first: PATCH /worker/{} with {{\"name\": \"…\"}}", worker.id))
            .into(),
        _ => error.into(),
    }
}
