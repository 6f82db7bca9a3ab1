//! `/server`: what people wish for, and how it is.

mod audit;
mod change;
mod create;
mod delete;
mod expiry;
mod get;
mod health;
mod idempotency;
mod lease;
mod list;
mod power;
mod relocate;
mod view;
mod wait;

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header};
use manman_common::{Generation, Kind, Problem};
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission};
use super::error::{ApiError, ApiResult};
use crate::app::{App, AppRef};
use crate::db;
use crate::db::server::Server;

pub use expiry::resume as resume_restarts;
pub(crate) use view::view;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get, change::patch, change::put, delete::delete))
        .routes(routes!(power::start))
        .routes(routes!(power::stop))
        .routes(routes!(power::restart))
        .routes(routes!(power::kill))
        .routes(routes!(health::health))
}

/// The server of this id or name, if the caller may see it.
pub(crate) async fn find_server(app: &App, conn: &mut PgConnection, caller: &Caller, key: &str) -> ApiResult<Server> {
    let found = match key.parse() {
        Ok(id) => db::server::server_get(conn, id).await?,
        Err(_) => db::server::server_get_by_name(conn, key).await?,
    };
    match found {
        Some(server) => {
            caller.require(Permission::SeeServer { server: server.id, worker: server.worker_id })?;
            Ok(fresh(app, server))
        }
        None => Err(no_server(conn, caller, key).await?),
    }
}

/// The server with what the fleet has heard since the row was written.
pub(crate) fn fresh(app: &App, mut server: Server) -> Server {
    if let Some(status) = app.fleet.server_status(server.id) {
        server.status = Some(Arc::unwrap_or_clone(status));
    }
    if let Some(status) = app.fleet.worker_status(server.worker_id) {
        server.worker_status = status;
    }
    server
}

async fn no_server(conn: &mut PgConnection, caller: &Caller, key: &str) -> ApiResult<ApiError> {
    let problem = Problem::not_found("server", key);
    if !caller.allows(Permission::SeeFleet) {
        return Ok(problem.into());
    }
    let similar = db::server::server_names_like(conn, key).await?;
    Ok(if similar.is_empty() { problem.into() } else { problem.hint(format!("did you mean {}?", similar.join(", "))).into() })
}

/// `If-Match: "3"`: the change is meant for this generation and no other.
fn check_if_match(headers: &HeaderMap, present: Generation) -> ApiResult<()> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(());
    }
    let wanted: u64 = text
        .trim_start_matches("W/")
        .trim_matches('"')
        .parse()
        .map_err(|_| Problem::invalid("If-Match", "it is the generation that you have seen, such as \"3\""))?;
    if wanted == present.get() {
        return Ok(());
    }
    Err(Problem::new(Kind::PreconditionFailed, format!("the server is at generation {present}, not at {wanted}"))
        .field("If-Match")
        .hint("somebody else has changed it since: look again, then decide again")
        .into())
}

/// The tag by which a later `If-Match` means this generation.
fn etag(generation: Generation) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{generation}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

#[cfg(test)]
mod tests;
