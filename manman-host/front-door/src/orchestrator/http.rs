//! The routes below `/__internal`; for the inner listener alone.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use manman_common::{Kind, Problem, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Credentials, DatabaseView, HelloReply, HelloRequest, Incident, Orchestrator, WaifuView};
use crate::json::{self, Limits};

/// What needs no token: hello, database.
pub fn open_routes<S: Clone + Send + Sync + 'static>(orchestrator: Arc<Orchestrator>) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(hello))
        .routes(routes!(database, remove_database))
        .routes(routes!(rotate_database))
        .with_state(orchestrator)
}

/// What tells of all waifus; whoever mounts it sees to who may ask.
pub fn admin_routes<S: Clone + Send + Sync + 'static>(orchestrator: Arc<Orchestrator>) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(waifus))
        .routes(routes!(incidents))
        .routes(routes!(databases))
        .routes(routes!(traefik))
        .with_state(orchestrator)
}

type Door = State<Arc<Orchestrator>>;
type Peer = ConnectInfo<SocketAddr>;

/// Says who and where a waifu is; its route is at the front door from then on.
#[utoipa::path(
    post,
    path = "/__internal/hello",
    tag = "orchestrator",
    security(()),
    request_body = HelloRequest,
    responses(
        (status = 201, body = HelloReply, description = "the name is new"),
        (status = 200, body = HelloReply, description = "the name is the caller's already; binds that are not respected are listed with their reason"),
        (status = 400, body = Problem),
        (status = 403, body = Problem, description = "the name has a secret, and this is not it: an incident"),
        (status = 409, body = Problem, description = "another one has the name, and is alive"),
        (status = 429, body = Problem)
    )
)]
async fn hello(State(orchestrator): Door, ConnectInfo(peer): Peer, request: Request) -> Response {
    let answer = async {
        let body: HelloRequest = read(request).await?;
        orchestrator.hello(peer.ip().to_canonical(), body).await
    };
    match answer.await {
        Ok((reply, new)) => (if new { StatusCode::CREATED } else { StatusCode::OK }, axum::Json(reply)).into_response(),
        Err(problem) => respond(&problem),
    }
}

/// Whose database it is about.
#[derive(Deserialize, utoipa::ToSchema)]
struct DatabaseRequest {
    name: String,
    /// 16 to 256 bytes that only this waifu knows.
    secret: String,
}

/// Gives the waifu its database: made at the first call, the same at every later one.
#[utoipa::path(
    post,
    path = "/__internal/database",
    tag = "orchestrator",
    security(()),
    request_body = DatabaseRequest,
    responses(
        (status = 200, body = Credentials),
        (status = 400, body = Problem),
        (status = 403, body = Problem, description = "this is not the secret of that name: an incident"),
        (status = 429, body = Problem, description = "too many wrong secrets"),
        (status = 503, body = Problem)
    )
)]
async fn database(State(orchestrator): Door, ConnectInfo(peer): Peer, request: Request) -> Response {
    let answer = async {
        let DatabaseRequest { name, secret } = read(request).await?;
        orchestrator.database(peer.ip().to_canonical(), &name, secret).await
    };
    secretive(answer.await)
}

#[derive(Deserialize, utoipa::ToSchema)]
struct RotateRequest {
    name: String,
    secret: String,
    /// From now on the secret is this one; without it, it stays.
    #[serde(default, rename = "newSecret", alias = "new_secret")]
    new_secret: Option<String>,
}

/// Gives the database another password. Who is logged in stays so; whoever comes again needs the new one.
#[utoipa::path(
    post,
    path = "/__internal/database/rotate",
    tag = "orchestrator",
    security(()),
    request_body = RotateRequest,
    responses(
        (status = 200, body = Credentials),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
        (status = 429, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn rotate_database(State(orchestrator): Door, ConnectInfo(peer): Peer, request: Request) -> Response {
    let answer = async {
        let RotateRequest { name, secret, new_secret } = read(request).await?;
        orchestrator.rotate_database(peer.ip().to_canonical(), &name, secret, new_secret).await
    };
    secretive(answer.await)
}

/// What is left of a database that was given back.
#[derive(Serialize, utoipa::ToSchema)]
struct Removed {
    name: String,
    /// Until then the same request that made it brings it back as it was.
    dropped_at: Timestamp,
}

/// Gives the database back: nobody gets in any more, and after seven days it is dropped.
#[utoipa::path(
    delete,
    path = "/__internal/database",
    tag = "orchestrator",
    security(()),
    request_body = DatabaseRequest,
    responses(
        (status = 200, body = Removed),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
        (status = 429, body = Problem),
        (status = 503, body = Problem)
    )
)]
async fn remove_database(State(orchestrator): Door, ConnectInfo(peer): Peer, request: Request) -> Response {
    let answer = async {
        let DatabaseRequest { name, secret } = read(request).await?;
        let dropped_at = orchestrator.remove_database(peer.ip().to_canonical(), &name, secret).await?;
        Ok(Removed { name, dropped_at })
    };
    secretive(answer.await)
}

/// All waifus that live.
#[utoipa::path(get, path = "/__internal/waifu", tag = "orchestrator", responses((status = 200, body = Vec<WaifuView>), (status = 401, body = Problem)))]
async fn waifus(State(orchestrator): Door) -> axum::Json<Vec<WaifuView>> {
    axum::Json(orchestrator.waifus().await)
}

#[derive(Serialize, utoipa::ToSchema)]
struct IncidentList {
    /// All there ever were, those that are no longer kept included.
    total: u64,
    /// The newest first.
    items: Vec<Incident>,
}

/// Wrong secrets: whose, by whom, how often.
#[utoipa::path(get, path = "/__internal/incidents", tag = "orchestrator", responses((status = 200, body = IncidentList), (status = 401, body = Problem)))]
async fn incidents(State(orchestrator): Door) -> axum::Json<IncidentList> {
    let incidents = orchestrator.incidents().await;
    axum::Json(IncidentList { total: incidents.total(), items: incidents.list() })
}

/// All databases that were handed out, with their size.
#[utoipa::path(
    get,
    path = "/__internal/database",
    tag = "orchestrator",
    responses((status = 200, body = Vec<DatabaseView>), (status = 401, body = Problem), (status = 503, body = Problem))
)]
async fn databases(State(orchestrator): Door) -> Response {
    match orchestrator.list_databases().await {
        Ok(list) => axum::Json(list).into_response(),
        Err(problem) => respond(&problem),
    }
}

/// The dynamic configuration that Traefik's HTTP provider polls.
#[utoipa::path(get, path = "/__internal/traefik", tag = "orchestrator", responses((status = 200, body = Object), (status = 401, body = Problem)))]
async fn traefik(State(orchestrator): Door) -> axum::Json<serde_json::Value> {
    axum::Json(orchestrator.traefik())
}

/// An answer that nobody on the way may keep.
fn secretive<T: Serialize>(answer: Result<T, Problem>) -> Response {
    let mut response = match answer {
        Ok(value) => axum::Json(value).into_response(),
        Err(problem) => respond(&problem),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body of JSON, from a program. A page in a browser names its origin, and has no business here.
async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    if request.headers().contains_key(header::ORIGIN) {
        return Err(Problem::new(Kind::Forbidden, "this is for services, and not for pages in a browser"));
    }
    json::parse(&json::read(request, Limits::SMALL).await?)
}

/// A problem as an answer.
pub(crate) fn respond(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(Body::from(serde_json::to_vec(problem).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
