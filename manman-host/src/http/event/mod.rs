//! `/event`: who or what did what to what, and when.

mod list;
mod stream;

use manman_common::{Problem, ServerId, WorkerId};
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission};
use super::error::ApiResult;
use super::server::find_server;
use crate::app::{App, AppRef};
use crate::db::event::EventFilter;
use crate::db::worker::worker_named;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(list::list)).routes(routes!(stream::stream))
}

/// Which events are asked for, within what the caller may see.
async fn filter(
    app: &App,
    conn: &mut PgConnection,
    caller: &Caller,
    server: Option<&str>,
    worker: Option<&str>,
    kind: Option<String>,
) -> ApiResult<EventFilter> {
    let server = match server {
        // A server that is gone keeps its events, and its id.
        Some(key) => match (key.parse::<ServerId>(), caller.allows(Permission::SeeFleet)) {
            (Ok(id), true) => Some(id),
            _ => Some(find_server(app, conn, caller, key).await?.id),
        },
        None => {
            let only = caller.server_id;
            if only.is_none() {
                caller.require(Permission::SeeFleet)?;
            }
            only
        }
    };
    let worker = match worker {
        None => None,
        Some(key) => Some(match key.parse::<WorkerId>() {
            Ok(id) => id,
            Err(_) => worker_named(conn, key).await?.first().map(|row| row.id).ok_or_else(|| Problem::not_found("worker", key))?,
        }),
    };
    Ok(EventFilter { server, worker, kind })
}

#[cfg(test)]
mod tests;
