//! The worker itself: `POST /freeze`, `/unfreeze` and `/shutdown`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use manman_common::wire::WorkerSelf;
use manman_common::{Kind, Problem, SessionEpoch};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult, query_error};
use super::status::worker_self;
use crate::app::{ExitReason, Worker};

/// Cordons the worker: what runs goes on, nothing new starts, over restarts, until it is lifted.
pub(super) async fn freeze(State(worker): State<Arc<Worker>>) -> ApiResult<Json<WorkerSelf>> {
    set_frozen(&worker, true).await
}

pub(super) async fn unfreeze(State(worker): State<Arc<Worker>>) -> ApiResult<Json<WorkerSelf>> {
    set_frozen(&worker, false).await
}

async fn set_frozen(worker: &Worker, frozen: bool) -> ApiResult<Json<WorkerSelf>> {
    worker.freeze(frozen).await?;
    Ok(Json(worker_self(worker)))
}

/// For an answer to be written.
const ANSWER_FIRST: Duration = Duration::from_millis(100);
/// For a new registration, after which the requests that waited with the first are about the past.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ShutdownQuery {
    keep_servers: bool,
    reason: Option<Reason>,
    session_epoch: Option<SessionEpoch>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Reason {
    /// Somebody wants it.
    Requested,
    /// The host has not heard of this worker for too long.
    Stale,
}

type QueryResult<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// Drains and ends the worker; with `keep_servers` its games run on for the next worker. A worker
/// that is told it is stale asks its host first, since it may have found its way back meanwhile.
pub(super) async fn shutdown(State(worker): State<Arc<Worker>>, query: QueryResult<ShutdownQuery>) -> ApiResult<Json<Value>> {
    let Query(query) = query.map_err(|error| query_error(&error))?;
    match query.reason {
        None | Some(Reason::Requested) => {
            let current = worker.registration().map(|registration| registration.session_epoch);
            if query.session_epoch.is_some() && current > query.session_epoch {
                return Err(Problem::new(Kind::Conflict, "this was meant for an earlier session of this worker")
                    .field("session_epoch")
                    .into());
            }
            let reason = if query.keep_servers { ExitReason::HandedOver } else { ExitReason::Drained };
            // The answer goes out first: over the link it would end with the worker.
            tokio::spawn(async move {
                tokio::time::sleep(ANSWER_FIRST).await;
                worker.end(reason);
            });
            Ok(Json(json!({"shutdown": true, "keep_servers": query.keep_servers})))
        }
        // Whoever asked may hang up after two seconds; the answer must not end with the caller.
        Some(Reason::Stale) => tokio::spawn(async move { stale(&worker, query.session_epoch).await })
            .await
            .map_err(|_| ApiError(Problem::new(Kind::Internal, "the host could not be asked"))),
    }
}

async fn stale(worker: &Worker, session_epoch: Option<SessionEpoch>) -> Json<Value> {
    // A worker that was stopped for long finds several such requests waiting; one is enough.
    let _one_at_a_time = worker.stale.lock().await;
    let current = worker.registration().map(|registration| registration.session_epoch);
    if session_epoch.is_some() && current > session_epoch {
        return Json(json!({"stale": false, "session_epoch": current}));
    }
    tracing::warn!("the host calls this worker stale; asking the host");
    if worker.host_answers().await {
        let mut link = worker.link_state.subscribe();
        worker.link.register_again.notify_one();
        let renewed = link.wait_for(|link| link.registration.as_ref().map(|registration| registration.session_epoch) > current);
        // Where it takes longer, it goes on all the same.
        let _ = tokio::time::timeout(REGISTER_WITHIN, renewed).await;
        return Json(json!({"stale": true, "host": "reachable", "registering": true}));
    }
    tracing::warn!("the host can not be reached; this process ends, games go on, and its supervisor starts it afresh");
    worker.end(ExitReason::Stale);
    Json(json!({"stale": true, "host": "unreachable", "registering": false}))
}
