//! `POST /server/{id}/command`: a word to a running game, and the game's own answer.
//!
//! Nothing is queued and nothing is sent twice: what can not be delivered now is refused now.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use manman_common::link::{Call, Reply};
use manman_common::message::{Envelope, MessageType, forbidden_character};
use manman_common::wire::{ActionCommand, CommandAnswer, CommandRequest, LineCommand, LinesCommand};
use manman_common::{InstanceId, Kind, Phase, Problem, ServerId, WorkerId};
use serde_json::Value;
use tower::ServiceExt as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission, Presented};
use super::error::{ApiError, ApiResult};
use super::extract::{Json, Path};
use super::server::find_server;
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::server::Server;

/// How long anybody waits for a game's answer.
const WAIT: Duration = Duration::from_secs(10);
/// Longest line; consoles of games read far less.
const LINE_MAX: usize = 4096;
/// Lines of one request.
const LINES_MAX: usize = 100;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(command))
}

/// What is to be done, once the request has been understood.
enum Order {
    /// For the game.
    Say(CommandRequest),
    /// For the host: as if POSTed to this route of the server's.
    Power(&'static str),
    Look,
}

/// Gives a running game a line, some lines, or one of its actions, and answers what it answered.
///
/// An action that is a script, and what works with every server (`backup`, `backups`, `restore`,
/// `update`), needs no running game; one that takes longer than some seconds is answered with 202 and
/// `action.id`, by which `GET /server/{id}/action/{action_id}` tells of it.
///
/// An envelope `{type, body}` is taken, too: HEALTH answers the server, START, STOP and KILL are the
/// routes of those names, COMMAND is a line, COMMAND_1 and on are the actions in the order of their
/// names. 504 says that nobody knows whether it was carried out.
#[utoipa::path(
    post,
    path = "/server/{id}/command",
    tag = "server",
    params(("id" = String, Path, description = "id or name")),
    request_body = CommandRequest,
    responses((status = 200, body = CommandAnswer), (status = 202, body = CommandAnswer, description = "it goes on: `action.id` is what to ask by"), (status = 400, body = Problem), (status = 409, body = Problem), (status = 504, body = Problem))
)]
async fn command(State(app): State<AppRef>, caller: Caller, Path(key): Path<String>, body: Json<Value>) -> ApiResult<Response> {
    let server = find_server(&app, &mut *app.db.acquire().await?, &caller, &key).await?;
    caller.require(Permission::RunServer { server: server.id })?;
    match order(body.read()?, &server)? {
        Order::Say(request) => {
            check(&request)?;
            if let CommandRequest::Action(command) = &request {
                let action = server.run.action(&command.action).ok_or_else(|| unknown_action(&server, &command.action))?;
                if !action.is_console() {
                    return super::action::begin(&app, &caller, &server, &action, command).await;
                }
            }
            say(&app, &caller, &server, &request).await
        }
        Order::Power(verb) => inner(&app, caller, "POST", &format!("/server/{}/{verb}", server.id)).await,
        Order::Look => inner(&app, caller, "GET", &format!("/server/{}", server.id)).await,
    }
}

fn unknown_action(server: &Server, name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::invalid("action", format!("server `{}` has no action `{name}`", server.name))
        .hint(format!("there are {}", server.run.action_names().join(", ")))
}

/// Reads the request by what it has, so that the answer to a wrong one names its field.
fn order(body: Value, server: &Server) -> Result<Order, Problem> {
    let Value::Object(fields) = &body else { return Err(unknown_shape()) };
    let has = |name| fields.contains_key(name);
    if has("type") {
        return envelope(read(body)?, server);
    }
    let shapes = [has("command"), has("commands"), has("action")].into_iter().filter(|there| *there).count();
    if shapes > 1 {
        return Err(Problem::new(Kind::Invalid, "only one of `command`, `commands` and `action` is done at a time"));
    }
    Ok(Order::Say(if has("command") {
        CommandRequest::Line(read(body)?)
    } else if has("commands") {
        CommandRequest::Lines(read(body)?)
    } else if has("action") {
        CommandRequest::Action(read(body)?)
    } else {
        return Err(unknown_shape());
    }))
}

fn unknown_shape() -> Problem {
    Problem::new(Kind::Invalid, "nothing says what to do").hint(
        "send {\"command\": \"say hi\"}, {\"commands\": [\"a\", \"b\"]}, {\"action\": \"…\", \"inputs\": {…}} or {\"type\": \"COMMAND\", \"body\": \"say hi\"}",
    )
}

fn read<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let path = error.path().to_string();
        let problem = Problem::new(Kind::Invalid, error.inner().to_string());
        if path == "." { problem } else { problem.field(path) }
    })
}

fn envelope(envelope: Envelope, server: &Server) -> Result<Order, Problem> {
    match envelope.kind {
        MessageType::Health => Ok(Order::Look),
        MessageType::Start => Ok(Order::Power("start")),
        MessageType::Stop => Ok(Order::Power("stop")),
        MessageType::Kill => Ok(Order::Power("kill")),
        MessageType::Command(0) => Ok(Order::Say(match envelope.body {
            Value::String(command) => CommandRequest::Line(LineCommand { command, answer_ms: None }),
            body if body.get("commands").is_some() => CommandRequest::Lines(read(body).map_err(within_body)?),
            body => CommandRequest::Line(read(body).map_err(within_body)?),
        })),
        MessageType::Command(index) => {
            let actions = &server.run.actions;
            let action = actions.keys().nth(usize::from(index) - 1).ok_or_else(|| {
                Problem::invalid("type", format!("server `{}` has {} actions, and no number {index}", server.name, actions.len()))
            })?;
            let inputs = match envelope.body {
                Value::Null => Value::Object(serde_json::Map::new()),
                body => body.get("inputs").cloned().unwrap_or(body),
            };
            let inputs = read(inputs).map_err(within_body)?;
            Ok(Order::Say(CommandRequest::Action(ActionCommand { action: action.clone(), inputs })))
        }
    }
}

fn within_body(problem: Problem) -> Problem {
    let field = problem.field.as_ref().map_or_else(|| "body".to_owned(), |field| format!("body.{field}"));
    problem.field(field)
}

fn check(request: &CommandRequest) -> Result<(), Problem> {
    match request {
        CommandRequest::Line(LineCommand { command, answer_ms: _ }) => check_line("command", command),
        CommandRequest::Lines(LinesCommand { commands, answer_ms: _ }) => {
            if commands.is_empty() || commands.len() > LINES_MAX {
                return Err(Problem::invalid("commands", format!("1 to {LINES_MAX} lines are given at a time, not {}", commands.len())));
            }
            commands.iter().enumerate().try_for_each(|(at, line)| check_line(&format!("commands[{at}]"), line))
        }
        CommandRequest::Action(ActionCommand { action, inputs }) => {
            check_line("action", action)?;
            inputs.iter().try_for_each(|(name, value)| match value {
                Value::String(text) => check_text(&format!("inputs.{name}"), text),
                _ => Ok(()),
            })
        }
        CommandRequest::Envelope(_) => Err(unknown_shape()),
    }
}

fn check_line(field: &str, line: &str) -> Result<(), Problem> {
    if line.trim().is_empty() {
        return Err(Problem::invalid(field, "it is empty"));
    }
    check_text(field, line)
}

fn check_text(field: &str, text: &str) -> Result<(), Problem> {
    if text.len() > LINE_MAX {
        return Err(Problem::invalid(field, format!("it has {} bytes, and {LINE_MAX} are allowed", text.len())));
    }
    match forbidden_character(text) {
        None => Ok(()),
        Some(c) => Err(Problem::invalid(field, format!("the control character {c:?} is in it"))
            .hint("a line break would be a second command: send several as `commands`")),
    }
}

async fn say(app: &AppRef, caller: &Caller, server: &Server, request: &CommandRequest) -> ApiResult<Response> {
    let instance = running(app, server)?;
    let body = serde_json::to_value(request).map_err(ApiError::internal)?;
    let call = Call {
        id: clock::new_command_id(),
        method: "POST".to_owned(),
        path: format!("/server/{}/command", server.id),
        body,
        ttl_ms: u32::try_from(WAIT.as_millis()).unwrap_or(u32::MAX),
        expect_instance: instance,
    };
    let answered = app.fleet.call(server.worker_id, call).await;
    note(app, caller, server, request, answered.as_ref().map(|reply| reply.status).map_err(|problem| problem.kind));
    passed_on(answered?)
}

/// The instance that the command is meant for; a problem where none runs that could hear it.
fn running(app: &AppRef, server: &Server) -> Result<Option<InstanceId>, Problem> {
    app.fleet.reachable(server.worker_id)?;
    let newest = app.fleet.server_status(server.id);
    let status = newest.as_deref().or(server.status.as_ref());
    let phase = status.map_or(Phase::Pending, |status| status.phase);
    if phase.is_live() {
        return Ok(status.and_then(|status| status.instance));
    }
    let name = &server.name;
    let problem = Problem::new(Kind::NotAlive, format!("server `{name}` is not running: it is {phase:?}"));
    Err(match phase {
        Phase::Stopped | Phase::Crashed | Phase::Failed => problem.hint(format!("manman server start {name}")),
        _ => problem,
    })
}

/// The worker's own answer, as it is.
pub(super) fn passed_on(reply: Reply) -> ApiResult<Response> {
    let status =
        StatusCode::from_u16(reply.status).map_err(|_| Problem::new(Kind::BadGateway, "the worker answered with no known status"))?;
    if status.is_success() {
        return Ok((status, axum::Json(reply.body)).into_response());
    }
    // A problem keeps its field and hint, and gets this request's id.
    match serde_json::from_value::<Problem>(reply.body) {
        Ok(problem) if problem.status == status.as_u16() => Err(problem.into()),
        Ok(_) | Err(_) => Err(Problem::new(Kind::BadGateway, format!("the worker answered {status}, and not why")).into()),
    }
}

/// Records who did it, beside the answer and not before it. What was typed may hold secrets and is
/// left out; an action is named.
fn note(app: &AppRef, caller: &Caller, server: &Server, request: &CommandRequest, outcome: Result<u16, Kind>) {
    let what = match request {
        CommandRequest::Line(_) | CommandRequest::Envelope(_) => "a line".to_owned(),
        CommandRequest::Lines(lines) => format!("{} lines", lines.commands.len()),
        CommandRequest::Action(action) => format!("the action `{}`", action.action),
    };
    let data = match outcome {
        Ok(status) => serde_json::json!({"status": status}),
        Err(kind) => serde_json::json!({"failed": kind}),
    };
    let (server_id, worker_id): (ServerId, WorkerId) = (server.id, server.worker_id);
    let event = NewEvent {
        actor: caller.actor(),
        kind: "server.command",
        worker_id: Some(worker_id),
        server_id: Some(server_id),
        message: format!("{what} to `{}`", server.name),
        data,
    };
    note_event(app, event);
}

/// Writes an event beside the answer.
pub(super) fn note_event(app: &AppRef, event: NewEvent) {
    let app = AppRef::clone(app);
    tokio::spawn(async move {
        let recorded = async { event_insert(&mut *app.db.acquire().await?, clock::now(), &event).await };
        match recorded.await {
            Ok(_) => app.fleet.event_recorded(),
            Err(error) => tracing::error!(server.id = ?event.server_id, %error, "an event could not be recorded"),
        }
    });
}

/// The same request to one of the server's own routes, with the caller's rights.
async fn inner(app: &AppRef, caller: Caller, method: &str, path: &str) -> ApiResult<Response> {
    let (router, _): (Router<AppRef>, _) = super::server::routes().split_for_parts();
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).map_err(ApiError::internal)?;
    request.extensions_mut().insert(Presented::Known(caller));
    match router.with_state(AppRef::clone(app)).oneshot(request).await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests;
