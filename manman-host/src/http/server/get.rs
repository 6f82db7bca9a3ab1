use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use manman_common::wire::ServerView;

use super::{etag, find_server, view};
use crate::app::AppRef;
use crate::http::auth::Caller;
use crate::http::error::ApiResult;
use crate::http::extract::Path;

/// One server: its wish, how it is, and where players reach it.
///
/// `phase` is `Unknown` while its worker has not been heard of; `last_phase` is then the worker's
/// last word. The header `ETag` holds the generation, for a later `If-Match`.
#[utoipa::path(
    get,
    path = "/server/{id}",
    tag = "server",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = ServerView), (status = 404, body = manman_common::Problem))
)]
pub(super) async fn get(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>) -> ApiResult<Response> {
    let mut conn = app.db.acquire().await?;
    let server = find_server(&app, &mut conn, &caller, &key).await?;
    let tag = etag(server.generation);
    Ok(([(header::ETAG, tag)], axum::Json(view(&app, server))).into_response())
}
