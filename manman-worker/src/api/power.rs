//! `POST /server/{id}/start`, `/shutdown` and `/kill`: wishes of whoever is at this machine. The
//! host's next newer wish wins over them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use manman_common::spec::StopMode;
use manman_worker_core::LocalChange;

use super::auth::ExpectInstance;
use super::error::ApiResult;
use super::server::{expect_instance, find, view};
use crate::app::Worker;

type Expected = Option<Extension<ExpectInstance>>;

/// A no-op, and 200, where the server runs already.
pub(super) async fn start(State(worker): State<Arc<Worker>>, Path(id): Path<String>, expected: Expected) -> ApiResult<Response> {
    change(&worker, &id, LocalChange::Start, expected).await
}

pub(super) async fn shutdown(State(worker): State<Arc<Worker>>, Path(id): Path<String>, expected: Expected) -> ApiResult<Response> {
    change(&worker, &id, LocalChange::Stop(StopMode::Graceful), expected).await
}

pub(super) async fn kill(State(worker): State<Arc<Worker>>, Path(id): Path<String>, expected: Expected) -> ApiResult<Response> {
    change(&worker, &id, LocalChange::Stop(StopMode::Kill), expected).await
}

pub(super) async fn change(worker: &Worker, id: &str, change: LocalChange, expected: Expected) -> ApiResult<Response> {
    let before = find(worker, id).await?;
    let server = before.spec.id;
    expect_instance(worker, server, expected.as_deref())?;
    let changed = worker.change_here(server, change).await?;
    let status = if changed { StatusCode::ACCEPTED } else { StatusCode::OK };
    // One that was deleted may be gone already.
    let record = worker.reconcile.record(server).await.unwrap_or(before);
    Ok((status, Json(view(worker, &record))).into_response())
}
