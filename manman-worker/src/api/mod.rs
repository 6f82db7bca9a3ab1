//! The worker's own routes. The same handlers serve its listener, where a token is always wanted,
//! and the host's calls over the link, where the host has seen to who may do what.

mod action;
mod auth;
mod command;
mod error;
mod lifecycle;
pub(crate) mod listen;
mod log;
mod metrics;
mod ports;
mod power;
mod server;
mod status;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Router, middleware};
use manman_common::{Kind, Problem};

use crate::app::Worker;
pub(crate) use auth::{ExpectInstance, FromHost};
use error::ApiError;
pub(crate) use error::error_chain;

/// Longest body of a request, in bytes.
const BODY_MAX: usize = 1024 * 1024;

/// All routes there are.
pub(crate) fn router(worker: Arc<Worker>) -> Router {
    Router::new()
        .route("/status", get(status::show))
        .route("/freeze", post(lifecycle::freeze))
        .route("/unfreeze", post(lifecycle::unfreeze))
        .route("/shutdown", post(lifecycle::shutdown))
        .route("/ports/check", post(ports::check))
        .route("/server", get(server::list).post(server::create))
        .route("/server/{id}", get(server::show).delete(server::delete))
        .route("/server/{id}/health", get(server::show).post(server::show))
        .route("/server/{id}/start", post(power::start))
        .route("/server/{id}/shutdown", post(power::shutdown))
        .route("/server/{id}/kill", post(power::kill))
        .route("/server/{id}/command", post(command::run))
        .route("/server/{id}/action", get(action::list))
        .route("/server/{id}/action/{action}", get(action::show).put(action::start))
        .route("/server/{id}/log", get(log::pointer))
        .route("/server/{id}/log/stream", get(log::stream))
        .route("/server/{id}/metrics", get(metrics::of_server))
        .route("/machine/metrics", get(metrics::of_machine))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_route)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(error::plain_refusals))
        .layer(middleware::from_fn_with_state(Arc::clone(&worker), auth::require_token))
        // For whoever checks on us: no secret is needed to learn that we are there.
        .route("/__internal/health", get(async || StatusCode::NO_CONTENT))
        .with_state(worker)
}

async fn no_route(uri: Uri) -> ApiError {
    Problem::not_found("route", uri.path()).into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    Problem::new(Kind::MethodNotAllowed, format!("{method} is not for {}", uri.path())).into()
}
