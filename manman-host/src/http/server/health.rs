use axum::extract::State;
use manman_common::{DesiredState, Generation, Problem, ServerStatus};
use serde::Serialize;

use crate::app::AppRef;
use crate::db::server::server_get;
use crate::http::auth::{Caller, Permission};
use crate::http::error::ApiResult;
use crate::http::extract::{OptionalJson, Path};

/// What the server should be.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct HealthAnswer {
    generation: Generation,
    desired: DesiredState,
}

/// One server's own sign of life, from its worker.
///
/// An empty body is fine; a full one is the server's status. After 30 s without one (or without
/// being in its worker's beat) the server is shown as `Unknown`, though its worker may be alive.
#[utoipa::path(
    post,
    path = "/server/{id}/health",
    tag = "server",
    request_body = Option<ServerStatus>,
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = HealthAnswer), (status = 403, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn health(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    body: OptionalJson<ServerStatus>,
) -> ApiResult<axum::Json<HealthAnswer>> {
    let mut conn = app.db.acquire().await?;
    let server = match key.parse() {
        Ok(id) => server_get(&mut conn, id).await?,
        Err(_) => crate::db::server::server_get_by_name(&mut conn, &key).await?,
    };
    drop(conn);
    let Some(server) = server else { return Err(Problem::not_found("server", key).into()) };
    caller.require(Permission::ReportServer { worker: server.worker_id })?;
    match body.read()? {
        Some(status) if status.id != server.id => {
            return Err(Problem::invalid("id", "the status is another server's").into());
        }
        Some(status) => {
            if let Some(machine) = app.fleet.machine(server.worker_id) {
                app.fleet.take_in(&app, &machine, vec![status]).await?;
            }
        }
        None => {}
    }
    app.fleet.server_heard(server.id);
    Ok(axum::Json(HealthAnswer { generation: server.generation, desired: server.desired }))
}
