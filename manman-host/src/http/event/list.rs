use axum::extract::State;
use manman_common::Problem;
use manman_common::wire::{Event, PAGE_DEFAULT, PAGE_MAX, Page};
use serde::Deserialize;

use crate::app::AppRef;
use crate::db::event::event_page;
use crate::http::auth::Caller;
use crate::http::error::ApiResult;
use crate::http::extract::Query;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those of this server; an id or a name.
    server_id: Option<String>,
    /// Only those of this worker; an id or a name.
    worker_id: Option<String>,
    /// Only those of this kind; `server.` with its dot is all kinds that begin so.
    kind: Option<String>,
    /// 1 to 200; 50 where it is absent.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// What has happened, newest first, in pages.
#[utoipa::path(
    get,
    path = "/event",
    tag = "event",
    params(ListQuery),
    responses((status = 200, body = Page<Event>), (status = 400, body = Problem))
)]
pub(super) async fn list(State(app): State<AppRef>, caller: Caller, Query(query): Query<ListQuery>) -> ApiResult<axum::Json<Page<Event>>> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", format!("{limit} is out of range: 1 to {PAGE_MAX}")).into());
    }
    let before = match &query.cursor {
        Some(cursor) => Some(cursor.parse().map_err(|_| Problem::invalid("cursor", "it is not the `next` of a page"))?),
        None => None,
    };
    let mut conn = app.db.acquire().await?;
    let filter = super::filter(&app, &mut conn, &caller, query.server_id.as_deref(), query.worker_id.as_deref(), query.kind).await?;
    let mut items = event_page(&mut conn, &filter, before, i64::from(limit) + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = if more { items.last().map(|event| event.id.to_string()) } else { None };
    Ok(axum::Json(Page { items, next }))
}
