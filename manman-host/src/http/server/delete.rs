use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use manman_common::wire::PowerAnswer;
use manman_common::{DesiredState, Kind, Problem};
use serde::Deserialize;

use super::{check_if_match, find_server, view};
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::server::{Wish, revision_bump, server_change};
use crate::http::auth::{Caller, Permission};
use crate::http::error::ApiResult;
use crate::http::extract::{Path, Query};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// Stops a running server first.
    force: bool,
    /// Deletes the server's data, too. It can not be brought back.
    purge: bool,
}

/// Deletes the server; 404 once its worker has carried it out.
///
/// A running one is refused unless `force`. Its data stays on the machine unless `purge`. Its ports
/// are free once its worker says that nothing of it runs any more.
#[utoipa::path(
    delete,
    path = "/server/{id}",
    tag = "server",
    params(("id" = String, Path, description = "id or name"), DeleteQuery),
    responses((status = 202, body = PowerAnswer), (status = 409, body = Problem), (status = 412, body = Problem))
)]
pub(super) async fn delete(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    Query(query): Query<DeleteQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let mut tx = app.db.begin().await?;
    let server = find_server(&app, &mut tx, &caller, &key).await?;
    caller.require(Permission::RunServer { server: server.id })?;
    check_if_match(&headers, server.generation)?;
    if server.desired == DesiredState::Deleted && (server.purge || !query.purge) {
        let generation = server.generation;
        return Ok(
            (StatusCode::ACCEPTED, axum::Json(PowerAnswer { generation, reached: None, server: view(&app, server) })).into_response()
        );
    }
    // A wish to run counts as running: it may be just about to start.
    let runs = server.desired == DesiredState::Running || server.reported_phase().is_live();
    if runs && !query.force && server.desired != DesiredState::Deleted {
        return Err(Problem::new(Kind::Conflict, format!("server `{}` runs", server.name))
            .hint("stop it first, or add `?force=true`, which stops it by its stop plan")
            .into());
    }
    let now = clock::now();
    let revision = revision_bump(&mut tx, server.worker_id).await?;
    let wish = Wish {
        name: server.name.clone(),
        request: server.request.clone(),
        run: server.run.clone(),
        run_changed: false,
        desired: DesiredState::Deleted,
        stop_mode: server.stop_mode,
        restart_seq: server.restart_seq,
        purge: query.purge || server.purge,
    };
    if server_change(&mut tx, server.id, server.generation, &wish, revision, now).await?.is_none() {
        return Err(Problem::new(Kind::Conflict, "the server was changed at the same moment").retry_after(1).into());
    }
    let event = NewEvent {
        actor: caller.actor(),
        kind: "server.deleted",
        worker_id: Some(server.worker_id),
        server_id: Some(server.id),
        message: format!("server `{}` is to be deleted{}", server.name, if wish.purge { " with its data" } else { "; its data stays" }),
        data: caller.audit(
            serde_json::json!({ "desired": server.desired }),
            serde_json::json!({ "desired": wish.desired, "purge": wish.purge, "force": query.force }),
        ),
    };
    event_insert(&mut tx, now, &event).await?;
    let after = find_server(&app, &mut tx, &caller, &server.id.to_string()).await?;
    tx.commit().await?;
    app.fleet.event_recorded();
    app.fleet.desired_changed(&app, server.worker_id);
    app.fleet.server_changed(server.id);
    let generation = after.generation;
    Ok((StatusCode::ACCEPTED, axum::Json(PowerAnswer { generation, reached: None, server: view(&app, after) })).into_response())
}
