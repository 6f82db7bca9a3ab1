//! `/server/{id}/action`: what can be done with a server, and how far it is.
//!
//! An action's id is that of the call which asks for it, so the worker begins it once, and a link that
//! breaks meanwhile leaves the id to ask by.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use manman_common::link::{Call, Reply};
use manman_common::spec::ActionSpec;
use manman_common::wire::{ActionCommand, ActionRun, ActionState, ActionView, CommandAnswer, Page, StartAction};
use manman_common::{CommandId, Kind, Problem};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission};
use super::command::{note_event, passed_on};
use super::error::{ApiError, ApiResult};
use super::extract::{Path, Query};
use super::server::find_server;
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_of_action};
use crate::db::server::Server;

/// For the worker's answer; it gives one a little earlier, ended or not.
const WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for news of a run.
const WAIT_MAX: u64 = 8;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// Lists what can be done with a server by `POST /server/{id}/command {"action": …}`: the game's own
/// actions, the server's own, and what works with every server.
#[utoipa::path(
    get, path = "/server/{id}/action", tag = "server",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = Page<ActionView>), (status = 404, body = Problem))
)]
async fn list(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>) -> ApiResult<Response> {
    let server = find_server(&app, &mut *app.db.acquire().await?, &caller, &key).await?;
    Ok(axum::Json(Page { items: ActionView::all(&server.run), next: None }).into_response())
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// How long to wait for news of it, such as `5s`; at most 8 seconds.
    wait: Option<String>,
}

/// How far an action is that `POST /server/{id}/command` answered with 202, or how it ended.
///
/// Where the worker can not be asked, what it last told of the end is answered.
#[utoipa::path(
    get, path = "/server/{id}/action/{action_id}", tag = "server",
    params(("id" = String, Path, description = "id or name"), ("action_id" = String, Path, description = "as it was answered"), WaitQuery),
    responses((status = 200, body = ActionRun), (status = 404, body = Problem), (status = 409, body = Problem, description = "its worker can not be asked now"))
)]
async fn show(
    State(app): State<AppRef>,
    caller: Caller,
    Path((key, action)): Path<(String, String)>,
    Query(query): Query<WaitQuery>,
) -> ApiResult<Response> {
    let wait = query.wait.as_deref().map(|wait| wait.trim_end_matches('s').parse::<u64>());
    let wait = wait.transpose().map_err(|_| Problem::invalid("wait", "it is a time such as `5s`"))?.unwrap_or_default().min(WAIT_MAX);
    let server = find_server(&app, &mut *app.db.acquire().await?, &caller, &key).await?;
    let unknown = || Problem::not_found("action run", action.chars().take(64).collect::<String>());
    let id: CommandId = action.parse().map_err(|_| unknown())?;
    let call = Call {
        id: clock::new_command_id(),
        method: "GET".to_owned(),
        path: format!("/server/{}/action/{id}?wait={wait}s", server.id),
        body: Value::Null,
        ttl_ms: millis(WITHIN),
        expect_instance: None,
    };
    match app.fleet.call(server.worker_id, call).await {
        // One that the worker has forgotten may be among the events still.
        Ok(reply) if reply.status != 404 => passed_on(reply),
        Ok(_) => ended(&app, &server, id).await?.ok_or_else(|| unknown().into()),
        Err(problem) => ended(&app, &server, id).await?.ok_or_else(|| problem.into()),
    }
}

/// The end of a run as its worker's event told it.
async fn ended(app: &AppRef, server: &Server, id: CommandId) -> ApiResult<Option<Response>> {
    let data = event_of_action(&mut *app.db.acquire().await?, server.id, id).await?;
    let run = data.and_then(|data| serde_json::from_value::<ActionRun>(data.get("run")?.clone()).ok());
    Ok(run.map(|run| axum::Json(run).into_response()))
}

/// Has the worker begin an action that is no console line. 202 if it has not ended after some seconds.
pub(super) async fn begin(
    app: &AppRef,
    caller: &Caller,
    server: &Server,
    action: &ActionSpec,
    command: &ActionCommand,
) -> ApiResult<Response> {
    if action.disabled {
        return Err(Problem::new(Kind::Conflict, format!("the action `{}` is disabled", command.action)).into());
    }
    caller.require(Permission::RunServer { server: server.id })?;
    app.fleet.reachable(server.worker_id)?;
    let id = clock::new_command_id();
    let start = StartAction { action: command.action.clone(), inputs: command.inputs.clone(), actor: caller.actor() };
    let call = Call {
        id,
        method: "PUT".to_owned(),
        path: format!("/server/{}/action/{id}", server.id),
        body: serde_json::to_value(&start).map_err(ApiError::internal)?,
        ttl_ms: millis(WITHIN),
        expect_instance: None,
    };
    let began = clock::now();
    let answered = app.fleet.call(server.worker_id, call).await;
    let shown = shown(action, &command.inputs);
    let outcome = match &answered {
        Ok(reply) => json!({"status": reply.status}),
        Err(problem) => json!({"failed": problem.kind}),
    };
    note_event(app, event(caller, server, command, id, &shown, &outcome));
    let run = match answered {
        Ok(Reply { status: 200 | 202, body }) => {
            serde_json::from_value(body).map_err(|_| Problem::new(Kind::BadGateway, "the worker's answer is not understood"))?
        }
        Ok(refusal) => return passed_on(refusal),
        // It was sent, and may have been begun: whoever asked can learn it by the id.
        Err(problem) if problem.kind == Kind::Timeout => ActionRun {
            id,
            server_id: server.id,
            action: command.action.clone(),
            actor: caller.actor(),
            inputs: shown,
            state: ActionState::Unknown,
            progress: None,
            answer: Value::Null,
            reason: None,
            problem: Some(problem),
            began_at: began,
            ended_at: None,
        },
        Err(problem) => return Err(problem.into()),
    };
    let status = match run.state {
        ActionState::Running | ActionState::Unknown => StatusCode::ACCEPTED,
        ActionState::Done | ActionState::Failed => StatusCode::OK,
    };
    Ok((status, axum::Json(CommandAnswer::of_run(run)?)).into_response())
}

/// What was given, without secrets: nor what is no input at all, which might be one misplaced.
fn shown(action: &ActionSpec, inputs: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let show = |(name, value): (&String, &Value)| {
        let hidden = action.inputs.get(name).is_none_or(|spec| spec.secret);
        let text = if hidden { "***".to_owned() } else { value.as_str().map_or_else(|| value.to_string(), str::to_owned) };
        (name.clone(), text)
    };
    inputs.iter().map(show).collect()
}

fn event(
    caller: &Caller,
    server: &Server,
    command: &ActionCommand,
    id: CommandId,
    inputs: &BTreeMap<String, String>,
    outcome: &Value,
) -> NewEvent {
    let mut data = outcome.clone();
    data["action"] = json!(command.action);
    data["action_id"] = json!(id);
    data["inputs"] = json!(inputs);
    NewEvent {
        actor: caller.actor(),
        kind: "server.command",
        worker_id: Some(server.worker_id),
        server_id: Some(server.id),
        message: format!("the action `{}` with `{}`", command.action, server.name),
        data,
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
