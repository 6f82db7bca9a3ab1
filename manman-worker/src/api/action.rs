//! `/server/{id}/action`: what can be done with a server, and how far it is.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use manman_common::wire::{ActionCommand, ActionRun, ActionState, ActionView, CommandAnswer, Page, StartAction};
use manman_common::{CommandId, Problem, ServerSpec};
use serde::Deserialize;
use tokio::sync::watch;

use super::error::{ApiResult, query_error, read_json};
use super::server::find;
use crate::app::Worker;
use crate::clock;

/// For an end that comes soon; whoever asks through the host is answered within ten seconds.
const SOON: Duration = Duration::from_millis(8500);
/// Longest wait for news of a run.
const WAIT_MAX: Duration = Duration::from_secs(8);

pub(super) async fn list(State(worker): State<Arc<Worker>>, Path(id): Path<String>) -> ApiResult<Json<Page<ActionView>>> {
    let record = find(&worker, &id).await?;
    Ok(Json(Page { items: ActionView::all(&record.spec.run), next: None }))
}

/// The host's way: the id is given, so that the same request twice is one run.
pub(super) async fn start(
    State(worker): State<Arc<Worker>>,
    Path((id, action)): Path<(String, String)>,
    body: Bytes,
) -> ApiResult<Response> {
    let action = action_id(&action)?;
    let start: StartAction = read_json(&body)?;
    let record = find(&worker, &id).await?;
    let told = worker.actions.start(&worker, &record.spec, action, start).await?;
    let run = soon(told).await;
    let status = if run.state == ActionState::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(run)).into_response())
}

/// The machine's owner's way: `POST /server/{id}/command`.
pub(super) async fn command(worker: &Arc<Worker>, spec: &ServerSpec, command: ActionCommand) -> ApiResult<Response> {
    let start = StartAction { action: command.action, inputs: command.inputs, actor: "owner of the machine".to_owned() };
    let told = worker.actions.start(worker, spec, clock::new_command_id(), start).await?;
    let run = soon(told).await;
    let status = if run.state == ActionState::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(CommandAnswer::of_run(run)?)).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WaitQuery {
    /// `5s`: until there is news of it.
    wait: Option<String>,
}

type QueryResult<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

pub(super) async fn show(
    State(worker): State<Arc<Worker>>,
    Path((id, action)): Path<(String, String)>,
    query: QueryResult<WaitQuery>,
) -> ApiResult<Json<ActionRun>> {
    let Query(WaitQuery { wait }) = query.map_err(|error| query_error(&error))?;
    let wait = wait.map(|wait| wait.trim_end_matches('s').parse().map(Duration::from_secs)).transpose();
    let wait = wait.map_err(|_| Problem::invalid("wait", "it is a time such as `5s`"))?.unwrap_or_default().min(WAIT_MAX);
    let record = find(&worker, &id).await?;
    let found = worker.actions.find(record.spec.id, action_id(&action)?).await?;
    let mut told = found.ok_or_else(|| Problem::not_found("action run", &action))?;
    if told.borrow_and_update().state == ActionState::Running && !wait.is_zero() {
        // Whether there is news or the wait is over, it is told as it is then.
        let _ = tokio::time::timeout(wait, told.changed()).await;
    }
    let run = told.borrow().clone();
    Ok(Json(run))
}

fn action_id(text: &str) -> Result<CommandId, Problem> {
    text.parse().map_err(|_| Problem::not_found("action run", text.chars().take(64).collect::<String>()))
}

async fn soon(mut told: watch::Receiver<ActionRun>) -> ActionRun {
    // Ended or not by then, it is told as it is.
    let _ = tokio::time::timeout(SOON, told.wait_for(|run| run.state != ActionState::Running)).await;
    told.borrow().clone()
}
