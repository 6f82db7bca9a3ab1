//! The registry's routes. They belong on the internal listener and on no other.

mod discover;
mod extract;
mod listen;
mod register;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use manman_common::wire::registry::Registration;
use manman_common::{Kind, Problem};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::extract::Peer;
use super::Registry;
use super::rate::Pass;

/// All routes, with their description; they need the peer's address
/// (`into_make_service_with_connect_info::<SocketAddr>`).
pub fn routes<S: Clone + Send + Sync + 'static>(registry: Registry) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(register::self_register))
        .routes(routes!(register::leave))
        .routes(routes!(register::register))
        .routes(routes!(register::unregister))
        .routes(routes!(discover::discover))
        .routes(routes!(discover::discover_all))
        .routes(routes!(discover::discover_one))
        .routes(routes!(health))
        .route_layer(middleware::from_fn_with_state(registry.clone(), admit))
        .with_state(registry)
}

/// The registry's own name: it can be asked as it asks others.
#[utoipa::path(get, path = "/health", tag = "registry", security(()), responses((status = 200, body = String)))]
async fn health(State(registry): State<Registry>) -> String {
    registry.0.config.own_name.clone()
}

/// Bounds how often one address asks, and keeps pages of other origins out: a browser on this
/// machine is as near as this machine's own programs.
async fn admit(State(registry): State<Registry>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if let Some(origin) = origin
        && origin.split_once("://").is_none_or(|(_, authority)| Some(authority) != host)
    {
        return Refusal::from(Problem::new(Kind::Forbidden, "a page of another origin may not ask this")).into_response();
    }
    let Some(peer) = Peer::of(&request, &registry) else {
        return Refusal::from(Problem::new(Kind::Internal, "the caller's address is not known")).into_response();
    };
    let ip = peer.address.ip();
    match registry.with(|state, now| state.pass(now, ip)) {
        Pass::Yes => next.run(request).await,
        Pass::No { tell } => {
            if tell {
                tracing::warn!(address = %ip, limit = registry.0.config.requests_per_second, "an address asks the registry too often and is refused");
            }
            Refusal::from(Problem::new(Kind::TooManyRequests, "this address asks too often").retry_after(1)).into_response()
        }
    }
}

/// A problem, and for a registration what has become of it.
#[derive(Debug)]
struct Refusal {
    problem: Box<Problem>,
    result: Option<Registration>,
}

#[derive(Serialize)]
struct RefusalBody<'a> {
    #[serde(flatten)]
    problem: &'a Problem,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Registration>,
}

impl Refusal {
    fn ignored(problem: Problem) -> Self {
        Self { problem: Box::new(problem), result: Some(Registration::Ignored) }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), result: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { problem, result } = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&RefusalBody { problem: &problem, result }).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
        if let Some(seconds) = problem.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
