use axum::extract::State;
use bytes::Bytes;
use manman_common::wire::{Beat, BeatAnswer};
use manman_common::{Kind, Problem, WorkerId};

use super::{gone, missing};
use crate::app::AppRef;
use crate::fleet::beat::Unacknowledged;
use crate::http::auth::{Caller, Permission};
use crate::http::error::ApiResult;
use crate::http::extract::{Path, parse};
use crate::http::link::storable_bytes;

/// A worker's beat; an empty body is one, too.
///
/// 410 says that the session is over and, in `reason`, what to do: `revoked`: register again.
/// `superseded`: another process has taken over, keep the games and be quiet. `tombstoned`: the
/// worker was removed, forget this host. 503: first the worker has to hear over its link what was
/// moved away from it; no lease begins before.
#[utoipa::path(
    post,
    path = "/worker/{id}/health",
    tag = "worker",
    params(("id" = WorkerId, Path)),
    request_body = Option<Beat>,
    responses((status = 200, body = BeatAnswer), (status = 403, body = Problem), (status = 404, body = Problem), (status = 410, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn health(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    body: Bytes,
) -> ApiResult<axum::Json<BeatAnswer>> {
    let id: WorkerId = key.parse().map_err(|_| Problem::not_found("worker", &key))?;
    let Some(machine) = app.fleet.machine(id) else { return Err(missing(&app, id).await) };
    caller.require(Permission::BeWorker(id))?;
    let beat: Beat = if body.is_empty() { Beat::default() } else { parse(&storable_bytes(&body))? };
    // Boxed: its future holds a whole batch of statuses.
    let answer = Box::pin(app.fleet.beat(&app, &machine, beat)).await.map_err(|why| match why {
        Unacknowledged::Gone(reason) => gone(reason),
        Unacknowledged::MustLetGo => {
            Problem::new(Kind::Unavailable, "a server was moved away from this worker, which has not heard of it yet").retry_after(1)
        }
    })?;
    Ok(axum::Json(answer))
}
