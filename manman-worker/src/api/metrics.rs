//! `GET /server/{id}/metrics` and `GET /machine/metrics`: what was used over the last hour, day or week.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use manman_common::wire::{MetricsHistory, MetricsLimits, MetricsQuery};

use super::error::{ApiError, ApiResult, query_error};
use super::server::find;
use crate::app::Worker;
use crate::metrics::{Subject, machine_limits};

type QueryResult = Result<Query<MetricsQuery>, QueryRejection>;

pub(super) async fn of_server(
    State(worker): State<Arc<Worker>>,
    Path(id): Path<String>,
    query: QueryResult,
) -> ApiResult<Json<MetricsHistory>> {
    let spec = find(&worker, &id).await?.spec;
    let limits = &spec.run.limits;
    let limits = MetricsLimits { memory: limits.memory_bytes, cpu: limits.cpu_millis.map(|millis| f64::from(millis) / 1000.0), disk: None };
    history(&worker, Subject::Server(spec.id), query, limits).await
}

pub(super) async fn of_machine(State(worker): State<Arc<Worker>>, query: QueryResult) -> ApiResult<Json<MetricsHistory>> {
    let limits = machine_limits(&worker.data_dir);
    history(&worker, Subject::Machine, query, limits).await
}

async fn history(worker: &Worker, subject: Subject, query: QueryResult, limits: MetricsLimits) -> ApiResult<Json<MetricsHistory>> {
    let Query(MetricsQuery { range }) = query.map_err(|error| query_error(&error))?;
    let history = worker.metrics.history(subject, range, limits).await;
    history.map(Json).map_err(|error| ApiError::internal("the history of metrics can not be read", &error))
}
