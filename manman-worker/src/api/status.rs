//! `GET /status`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{IntoResponse, Response};
use manman_common::wire::WorkerSelf;
use manman_common::{Problem, WorkerStatus};
use serde::Deserialize;

use super::error::{ApiResult, query_error};
use crate::app::Worker;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StatusQuery {
    format: Option<String>,
}

type QueryResult<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// `ok` for whoever only wants to know that it lives, JSON for whoever asks for it.
pub(super) async fn show(State(worker): State<Arc<Worker>>, query: QueryResult<StatusQuery>, headers: HeaderMap) -> ApiResult<Response> {
    let Query(query) = query.map_err(|error| query_error(&error))?;
    let json = match query.format.as_deref() {
        Some("json") => true,
        Some("text") => false,
        Some(other) => return Err(Problem::invalid("format", format!("`{other}` is not a format; there are `json` and `text`")).into()),
        None => headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("application/json")),
    };
    Ok(if json { Json(worker_self(&worker)).into_response() } else { "ok".into_response() })
}

pub(super) fn worker_self(worker: &Worker) -> WorkerSelf {
    let link = worker.link_state.borrow().clone();
    let status = match (worker.is_draining(), worker.is_frozen(), link.status) {
        (true, ..) => WorkerStatus::Shutdown,
        (false, true, _) => WorkerStatus::Frozen,
        (false, false, Some(WorkerStatus::Pending)) => WorkerStatus::Pending,
        (false, false, _) => WorkerStatus::Alive,
    };
    let standing = worker.standing();
    WorkerSelf {
        worker_id: worker.registration().map(|registration| registration.worker_id),
        name: worker.config.name.clone(),
        status,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        session_epoch: worker.registration().map(|registration| registration.session_epoch).unwrap_or_default(),
        observed_revision: worker.revision(),
        linked: link.linked,
        quarantine: standing.quarantine,
        rebase_needed: standing.regressed,
        attention: standing.attention(worker.config.name.as_str()).map(|(text, hint)| format!("{text}. {hint}")),
        usage: Some(worker.usage()),
        servers: worker.statuses().values().cloned().collect(),
    }
}
