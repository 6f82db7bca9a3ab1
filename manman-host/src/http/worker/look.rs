use axum::extract::State;
use manman_common::wire::{PAGE_DEFAULT, PAGE_MAX, Page, WorkerView};
use manman_common::{Problem, WorkerStatus};
use serde::Deserialize;

use super::{find_worker, view};
use crate::app::AppRef;
use crate::db::worker::worker_page;
use crate::http::auth::{Caller, Permission};
use crate::http::error::ApiResult;
use crate::http::extract::{Path, Query};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those of this status; `pending` are the machines that ask to join.
    status: Option<WorkerStatus>,
    /// 1 to 200; 50 where it is absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// All workers, oldest first, in pages.
#[utoipa::path(
    get,
    path = "/worker",
    tag = "worker",
    params(ListQuery),
    responses((status = 200, body = super::Workers), (status = 400, body = Problem))
)]
pub(super) async fn list(
    State(app): State<AppRef>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<axum::Json<Page<WorkerView>>> {
    caller.require(Permission::SeeFleet)?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("{limit} is out of range: 1 to {PAGE_MAX}")).into());
    }
    let after = match &query.cursor {
        Some(cursor) => Some(cursor.parse().map_err(|_| Problem::invalid("cursor", "it is not the `next` of a page"))?),
        None => None,
    };
    let mut conn = app.db.acquire().await?;
    let mut rows = worker_page(&mut conn, after, query.status, i64::from(limit) + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = if more { rows.last().map(|row| row.id.to_string()) } else { None };
    Ok(axum::Json(Page { items: rows.into_iter().map(|row| view(&app, row)).collect(), next }))
}

/// One worker, by id or name.
#[utoipa::path(
    get,
    path = "/worker/{id}",
    tag = "worker",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = WorkerView), (status = 404, body = Problem))
)]
pub(super) async fn get(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>) -> ApiResult<axum::Json<WorkerView>> {
    let own = caller.worker_id.is_some_and(|worker| worker.to_string() == key);
    if !own {
        caller.require(Permission::SeeFleet)?;
    }
    let row = find_worker(&mut *app.db.acquire().await?, &key).await?;
    Ok(axum::Json(view(&app, row)))
}
