//! What servers and machines have used over time. Their workers keep it; the host asks them.

use axum::extract::State;
use manman_common::link::Call;
use manman_common::wire::{MetricsHistory, MetricsQuery};
use manman_common::{Kind, Problem, WorkerId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission};
use super::error::{ApiError, ApiResult};
use super::extract::{Path, Query};
use super::server::find_server;
use super::worker::find_worker;
use crate::app::{App, AppRef};
use crate::clock;

/// A worker looks up a thousand rows.
const WITHIN_MS: u32 = 5_000;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(of_server)).routes(routes!(of_worker))
}

/// What a server has used over the last hour, day or week.
///
/// Kept by its worker, so it is 503 while that is away.
#[utoipa::path(
    get,
    path = "/server/{id}/metrics",
    tag = "server",
    operation_id = "server_metrics",
    params(("id" = String, Path, description = "id or name"), MetricsQuery),
    responses((status = 200, body = MetricsHistory), (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem))
)]
async fn of_server(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    Query(query): Query<MetricsQuery>,
) -> ApiResult<axum::Json<MetricsHistory>> {
    let server = find_server(&app, &mut *app.db.acquire().await?, &caller, &key).await?;
    let path = format!("/server/{}/metrics?range={}", server.id, query.range.as_str());
    ask(&app, server.worker_id, path).await
}

/// What a worker's whole machine has used over the last hour, day or week, by manman or not.
///
/// Kept by the worker, so it is 503 while that is away.
#[utoipa::path(
    get,
    path = "/worker/{id}/metrics",
    tag = "worker",
    operation_id = "worker_metrics",
    params(("id" = String, Path, description = "id or name"), MetricsQuery),
    responses((status = 200, body = MetricsHistory), (status = 400, body = Problem), (status = 404, body = Problem), (status = 503, body = Problem))
)]
async fn of_worker(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    Query(query): Query<MetricsQuery>,
) -> ApiResult<axum::Json<MetricsHistory>> {
    caller.require(Permission::SeeFleet)?;
    let worker = find_worker(&mut *app.db.acquire().await?, &key).await?.id;
    ask(&app, worker, format!("/machine/metrics?range={}", query.range.as_str())).await
}

async fn ask(app: &App, worker: WorkerId, path: String) -> ApiResult<axum::Json<MetricsHistory>> {
    let call = Call {
        id: clock::new_command_id(),
        method: "GET".to_owned(),
        path,
        body: serde_json::Value::Null,
        ttl_ms: WITHIN_MS,
        expect_instance: None,
    };
    let reply = app.fleet.call(worker, call).await.map_err(away)?;
    if reply.status != 200 {
        return Err(match serde_json::from_value::<Problem>(reply.body) {
            Ok(problem) if problem.status == reply.status => problem.into(),
            Ok(_) | Err(_) => Problem::new(Kind::BadGateway, format!("the worker answered {}, and not why", reply.status)).into(),
        });
    }
    let history = serde_json::from_value(reply.body);
    Ok(axum::Json(history.map_err(|_| Problem::new(Kind::BadGateway, "what the worker answered is no history of metrics"))?))
}

/// Nothing was to be done but to look, so whatever kept the worker from it is: not now.
fn away(problem: Problem) -> ApiError {
    match problem.kind {
        Kind::NotAlive | Kind::Timeout => {
            let mut away = Problem::new(Kind::Unavailable, problem.detail).retry_after(problem.retry_after.unwrap_or(5));
            // The hint of a call that may have done something makes no sense of a look.
            away.hint = problem.hint.filter(|_| problem.kind == Kind::NotAlive);
            away.into()
        }
        _ => problem.into(),
    }
}

#[cfg(test)]
mod tests;
