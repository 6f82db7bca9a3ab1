//! The routes below `/__internal`; for the inner listener alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use manman_common::{Kind, Problem};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{HelloRequest, Orchestrator};

/// Longest body, in bytes: a name, a host and some binds.
const BODY_MAX: usize = 64 * 1024;
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// What needs no token: hello, database.
pub fn open_routes<S: Clone + Send + Sync + 'static>(orchestrator: Arc<Orchestrator>) -> Router<S> {
    Router::new().route("/__internal/hello", post(hello)).route("/__internal/database", post(database)).with_state(orchestrator)
}

/// What tells of all waifus; whoever mounts it sees to who may ask.
pub fn admin_routes<S: Clone + Send + Sync + 'static>(orchestrator: Arc<Orchestrator>) -> Router<S> {
    Router::new()
        .route("/__internal/waifu", get(async |State(all): State<Arc<Orchestrator>>| axum::Json(all.waifus().await)))
        .route("/__internal/incidents", get(incidents))
        .route("/__internal/traefik", get(async |State(all): State<Arc<Orchestrator>>| axum::Json(all.traefik())))
        .with_state(orchestrator)
}

async fn hello(State(orchestrator): State<Arc<Orchestrator>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    let answer = async {
        let body: HelloRequest = read(request).await?;
        orchestrator.hello(peer.ip().to_canonical(), body).await
    };
    match answer.await {
        Ok((reply, new)) => (if new { StatusCode::CREATED } else { StatusCode::OK }, axum::Json(reply)).into_response(),
        Err(problem) => respond(&problem),
    }
}

#[derive(Deserialize)]
struct DatabaseRequest {
    name: String,
    secret: String,
}

async fn database(State(orchestrator): State<Arc<Orchestrator>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    let answer = async {
        let DatabaseRequest { name, secret } = read(request).await?;
        orchestrator.database(peer.ip().to_canonical(), &name, secret).await
    };
    let mut response = match answer.await {
        Ok(credentials) => axum::Json(credentials).into_response(),
        Err(problem) => respond(&problem),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn incidents(State(orchestrator): State<Arc<Orchestrator>>) -> Response {
    let incidents = orchestrator.incidents().await;
    axum::Json(json!({ "total": incidents.total(), "items": incidents.list() })).into_response()
}

/// A body of JSON, from a program. A page in a browser names its origin, and has no business here.
async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    if request.headers().contains_key(header::ORIGIN) {
        return Err(Problem::new(Kind::Forbidden, "this is for services, and not for pages in a browser"));
    }
    let body = tokio::time::timeout(BODY_WITHIN, axum::body::to_bytes(request.into_body(), BODY_MAX)).await;
    let body = body.map_err(|_| Problem::new(Kind::Invalid, format!("the body did not come within {} s", BODY_WITHIN.as_secs())))?;
    let body = body.map_err(|_| Problem::new(Kind::TooLarge, format!("the body is longer than {BODY_MAX} bytes, or ends early")))?;
    serde_json::from_slice(&body).map_err(|error| Problem::new(Kind::Invalid, format!("the body is not what is read here: {error}")))
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
