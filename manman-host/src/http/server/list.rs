use axum::extract::State;
use manman_common::wire::{PAGE_DEFAULT, PAGE_MAX, Page, Scope, ServerView};
use manman_common::{GameId, Problem, WorkerId};
use serde::Deserialize;
use sqlx::PgConnection;

use super::{fresh, view};
use crate::app::AppRef;
use crate::db::server::{ServerFilter, server_list};
use crate::db::worker::worker_named;
use crate::http::auth::{Caller, Permission};
use crate::http::error::ApiResult;
use crate::http::extract::Query;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those of this worker; an id or a name.
    worker_id: Option<String>,
    /// Only those of this game.
    game_id: Option<GameId>,
    /// 1 to 200; 50 where it is absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// All servers, oldest first, in pages.
#[utoipa::path(
    get,
    path = "/server",
    tag = "server",
    params(ListQuery),
    responses((status = 200, body = Page<ServerView>), (status = 400, body = Problem))
)]
pub(super) async fn list(
    State(app): State<AppRef>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<axum::Json<Page<ServerView>>> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("{limit} is out of range: 1 to {PAGE_MAX}")).into());
    }
    let after = match &query.cursor {
        Some(cursor) => Some(cursor.parse().map_err(|_| Problem::invalid("cursor", "it is not the `next` of a page"))?),
        None => None,
    };
    let mut conn = app.db.acquire().await?;
    let mut filter = ServerFilter { worker_id: None, game_id: query.game_id.map(|id| id.to_string()), only: caller.server_id };
    if let Some(key) = &query.worker_id {
        filter.worker_id = Some(worker_key(&mut conn, key).await?);
    }
    if caller.scope == Scope::Worker {
        // A worker sees its own servers, whatever it asks for.
        filter.worker_id = caller.worker_id;
    } else if filter.only.is_none() {
        caller.require(Permission::SeeFleet)?;
    }
    let mut servers = server_list(&mut conn, &filter, after, limit + 1).await?;
    let more = servers.len() > limit as usize;
    servers.truncate(limit as usize);
    let next = if more { servers.last().map(|server| server.id.to_string()) } else { None };
    Ok(axum::Json(Page { items: servers.into_iter().map(|server| view(&app, fresh(&app, server))).collect(), next }))
}

async fn worker_key(conn: &mut PgConnection, key: &str) -> ApiResult<WorkerId> {
    if let Ok(id) = key.parse() {
        return Ok(id);
    }
    let worker = worker_named(conn, key).await?.into_iter().next();
    worker.map(|worker| worker.id).ok_or_else(|| Problem::invalid("worker_id", format!("there is no worker `{key}`")).into())
}
