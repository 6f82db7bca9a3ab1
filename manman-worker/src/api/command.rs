//! `POST /server/{id}/command`: lines and actions for a game's console, or an envelope.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use manman_common::message::MessageType;
use manman_common::spec::StopMode;
use manman_common::wire::CommandRequest;
use manman_common::{Kind, Problem};
use manman_worker_core::LocalChange;
use serde_json::Value;

use super::auth::ExpectInstance;
use super::error::{ApiResult, read_json, read_value};
use super::power::change;
use super::server::{expect_instance, find, view};
use crate::app::Worker;
use crate::console::Target;

pub(super) async fn run(
    State(worker): State<Arc<Worker>>,
    Path(id): Path<String>,
    expected: Option<Extension<ExpectInstance>>,
    body: Bytes,
) -> ApiResult<Response> {
    let request = parse(read_json(&body)?)?;
    if let CommandRequest::Envelope(envelope) = &request {
        match envelope.kind {
            MessageType::Health => return Ok(Json(view(&worker, &find(&worker, &id).await?)).into_response()),
            MessageType::Start => return change(&worker, &id, LocalChange::Start, expected).await,
            MessageType::Stop => return change(&worker, &id, LocalChange::Stop(StopMode::Graceful), expected).await,
            MessageType::Kill => return change(&worker, &id, LocalChange::Stop(StopMode::Kill), expected).await,
            MessageType::Command(_) => {}
        }
    }
    let record = find(&worker, &id).await?;
    if let CommandRequest::Action(command) = &request
        && record.spec.run.action(&command.action).is_some_and(|action| !action.is_console())
    {
        return super::action::command(&worker, &record.spec, command.clone()).await;
    }
    expect_instance(&worker, record.spec.id, expected.as_deref())?;
    let Some((instance, driver)) = worker.reconcile.instance(record.spec.id).await? else {
        let phase = worker.statuses().get(&record.spec.id).map(|status| format!("{:?}", status.phase));
        let detail = format!("server `{}` does not run: it is {}", record.spec.name, phase.as_deref().unwrap_or("not seen yet"));
        return Err(Problem::new(Kind::NotAlive, detail).hint("start it first").into());
    };
    let target = Target { spec: &record.spec, instance: &instance, driver: &*driver };
    Ok(Json(worker.console.send(&target, &request).await?).into_response())
}

/// Tells the shapes apart by their one field, so that an error can name what is wrong in it.
fn parse(body: Value) -> ApiResult<CommandRequest> {
    let Value::Object(fields) = &body else {
        return Err(Problem::new(Kind::Invalid, "a command is a JSON object").hint(SHAPES).into());
    };
    let has = |field: &str| fields.contains_key(field);
    match (has("command"), has("commands"), has("action"), has("type")) {
        (true, false, false, false) => Ok(CommandRequest::Line(read_value(body)?)),
        (false, true, false, false) => Ok(CommandRequest::Lines(read_value(body)?)),
        (false, false, true, false) => Ok(CommandRequest::Action(read_value(body)?)),
        (false, false, false, true) => Ok(CommandRequest::Envelope(read_value(body)?)),
        (false, false, false, false) => Err(Problem::invalid("command", "there is no command in the body").hint(SHAPES).into()),
        _ => Err(Problem::invalid("command", "more than one of `command`, `commands`, `action` and `type`").hint(SHAPES).into()),
    }
}

const SHAPES: &str =
    r#"write {"command": "say hi"}, {"commands": ["…"]}, {"action": "…", "inputs": {}} or {"type": "COMMAND", "body": {"command": "…"}}"#;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_shape_is_read_and_errors_name_their_field() {
        for good in [
            json!({"command": "say hi"}),
            json!({"command": "say hi", "answer_ms": 0}),
            json!({"commands": ["a", "b"]}),
            json!({"action": "change_map", "inputs": {"map": "q3dm17"}}),
            json!({"type": 200, "body": {"command": "say hi"}}),
            json!({"type": "STOP"}),
        ] {
            assert!(parse(good.clone()).is_ok(), "{good}");
        }
        for (bad, field) in [
            (json!({}), Some("command")),
            (json!([]), None),
            (json!({"command": 7}), Some("command")),
            (json!({"commands": ["a", 7]}), Some("commands[1]")),
            (json!({"command": "a", "action": "b"}), Some("command")),
            (json!({"type": 7}), Some("type")),
            (json!({"type": "DANCE"}), Some("type")),
            (json!({"action": "a", "inputs": []}), Some("inputs")),
        ] {
            let problem = parse(bad.clone()).expect_err("it is wrong").0;
            assert_eq!((problem.kind, problem.field.as_deref()), (Kind::Invalid, field), "{bad}");
        }
    }
}
