//! All routes in one list, and the layers around them.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;
use axum::routing::get;
use manman_common::{Kind, Problem};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use super::error::{ApiError, problem_response};
use crate::app::AppRef;
use crate::clock;

/// The whole API with its description.
pub fn api() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new()
        .merge(super::server::routes())
        .merge(super::command::routes())
        .merge(super::action::routes())
        .merge(super::log::routes())
        .merge(super::worker::routes())
        .merge(super::link::routes())
        .merge(super::event::routes())
        .merge(super::game::routes())
        .merge(super::token::routes())
        .merge(super::login::routes())
        .merge(super::me::routes())
        .merge(super::session::routes())
        .merge(super::account::routes())
        .merge(super::status::routes())
        .merge(super::metrics::routes())
        .merge(super::feed::routes())
        .merge(super::service::routes())
        .merge(super::metrics_history::routes())
}

/// Which of the host's two doors a request comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Public,
    Internal,
}

pub fn router(app: &AppRef, door: Door) -> Router {
    let api = match door {
        Door::Public => api(),
        Door::Internal => api().merge(manman_front_door::registry::routes(app.registry.clone())).merge(crate::front_door::internal(app)),
    };
    let (router, openapi) = api.split_for_parts();
    let router = router.merge(super::docs::routes(super::docs::finish(openapi))).merge(super::assets::routes());
    let router = match door {
        Door::Public => router,
        Door::Internal => router.route("/__internal/health", get(health)),
    };
    let router = router
        .fallback(async || ApiError::from(Problem::new(Kind::NotFound, "there is no such path")))
        .method_not_allowed_fallback(async || ApiError::from(Problem::new(Kind::MethodNotAllowed, "this path does not take that method")))
        .layer(DefaultBodyLimit::max(super::extract::BODY_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), super::auth::authenticate))
        .layer(CatchPanicLayer::custom(|_| ApiError::internal("a handler panicked").into_response()))
        .layer(middleware::from_fn(finish))
        .layer(middleware::from_fn_with_state(app.clone(), super::metrics::count))
        .with_state(app.clone());
    let router = match door {
        Door::Public => crate::front_door::public(app, router),
        Door::Internal => router,
    };
    let router = router.layer(middleware::from_fn(as_connect));
    Router::new().fallback_service(router).layer(middleware::from_fn(as_get))
}

/// A WebSocket over HTTP/2: CONNECT asks (RFC 8441) for what GET asks for over HTTP/1.
#[derive(Clone, Copy)]
struct Connect;

/// Routes such a request as what it stands for.
async fn as_get(mut request: Request, next: Next) -> Response<Body> {
    if request.method() != Method::CONNECT || request.extensions().get::<hyper::ext::Protocol>().is_none() {
        return next.run(request).await;
    }
    *request.method_mut() = Method::GET;
    request.extensions_mut().insert(Connect);
    let mut response = next.run(request).await;
    if response.status().is_success() {
        // What follows is the socket's.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}

/// And hands it on as what it is.
async fn as_connect(mut request: Request, next: Next) -> Response<Body> {
    if request.extensions_mut().remove::<Connect>().is_some() {
        *request.method_mut() = Method::CONNECT;
    }
    next.run(request).await
}

/// For whoever watches over the host's process: it answers, and so does its database.
async fn health(State(app): State<AppRef>) -> Result<StatusCode, ApiError> {
    sqlx::Connection::ping(&mut *app.db.acquire().await?).await?;
    Ok(StatusCode::NO_CONTENT)
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer: gives the request an id, logs what went wrong inside, and sees to it that
/// every error leaves as problem+json, whoever made it.
async fn finish(request: Request, next: Next) -> Response<Body> {
    let id = clock::new_uuid().to_string();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let began = clock::instant();
    let mut response = next.run(request).await;
    let status = response.status();
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        log_error(&error, &id, method.as_str(), &path);
        let problem = Problem { instance: Some(id.clone()), ..*error.problem };
        let headers = response.headers().clone();
        response = problem_response(&problem);
        keep_missing(response.headers_mut(), &headers);
    } else if is_foreign_error(&response) {
        let problem = Problem { instance: Some(id.clone()), ..foreign(status) };
        let headers = response.headers().clone();
        response = problem_response(&problem);
        keep_missing(response.headers_mut(), &headers);
    }
    tracing::debug!(request.id = %id, %method, path, status = response.status().as_u16(), elapsed_us = micros(began.elapsed()), "request answered");
    super::docs::secure(&path, &mut response);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Whether it is an error that none of our handlers worded, as problem or as page.
fn is_foreign_error(response: &Response<Body>) -> bool {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    (status.is_client_error() || status.is_server_error())
        && !kind.starts_with("application/problem+json")
        && !kind.starts_with("text/html")
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// Headers that the first answer had and its rewritten form lacks, such as `allow`.
fn keep_missing(into: &mut axum::http::HeaderMap, from: &axum::http::HeaderMap) {
    for (name, value) in from {
        if *name != header::CONTENT_LENGTH && !into.contains_key(name) {
            into.insert(name, value.clone());
        }
    }
}

/// An error that a library answered with.
fn foreign(status: StatusCode) -> Problem {
    let kind = match status.as_u16() {
        401 => Kind::Unauthenticated,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        405 => Kind::MethodNotAllowed,
        408 => Kind::Timeout,
        409 => Kind::Conflict,
        412 => Kind::PreconditionFailed,
        413 => Kind::TooLarge,
        415 => Kind::UnsupportedMediaType,
        429 => Kind::TooManyRequests,
        503 => Kind::Unavailable,
        400..=499 => Kind::Invalid,
        _ => Kind::Internal,
    };
    Problem::new(kind, status.canonical_reason().unwrap_or("refused").to_lowercase())
}

fn log_error(error: &ApiError, id: &str, method: &str, path: &str) {
    let Some(cause) = &error.cause else { return };
    let chain = crate::chain(cause.as_ref());
    tracing::error!(request.id = id, method, path, status = error.problem.status, error = chain, "request failed");
}

#[cfg(test)]
mod tests;
