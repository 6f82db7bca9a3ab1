//! `/{worker}/…`: a worker's own routes, over its link and with the caller's own token. Its listener
//! is not forwarded to: who comes from this machine's front door would be one of its own.

use axum::extract::Request;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use manman_common::link::Call;
use manman_common::{Kind, Problem, WorkerId};
use manman_front_door::path::normalise;
use serde_json::Value;

use crate::app::App;
use crate::clock;
use crate::http::auth::{Permission, Presented, check_origin, present};
use crate::http::error::{ApiError, WithCause as _};

/// As long as anybody waits for a worker.
const TTL_MS: u32 = 20_000;
const BODY_MAX: usize = 1024 * 1024;

/// Which worker a path is about, and the path for it.
pub(super) fn of_worker(app: &App, uri: &Uri) -> Option<(WorkerId, String)> {
    let path = normalise(uri.path()).ok().filter(|path| !path.internal)?;
    let (name, rest) = path.path[1..].split_once('/').unwrap_or((&path.path[1..], ""));
    if name.is_empty() || app.front_door.get()?.orchestrator().is_reserved(name) {
        return None;
    }
    let named = |machine: &std::sync::Arc<crate::fleet::machine::Machine>| machine.lock().name.as_str().eq_ignore_ascii_case(name);
    let machine = app.fleet.machines().into_iter().find(named)?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some((machine.id, format!("/{rest}{query}")))
}

pub(super) async fn answer(app: &App, worker: WorkerId, path: String, request: Request) -> Result<Response, ApiError> {
    if !request.method().is_safe() {
        check_origin(request.headers())?;
    }
    let Presented::Known(caller) = present(app, request.headers()).await? else {
        return Err(Problem::new(Kind::Unauthenticated, "this wants a token").into());
    };
    // Over the link a worker does as it is told.
    caller.require(Permission::ManageWorkers)?;
    if path == "/" {
        return Ok(Redirect::temporary(&format!("{}/status", request.uri().path().trim_end_matches('/'))).into_response());
    }
    let method = request.method().to_string();
    let body = axum::body::to_bytes(request.into_body(), BODY_MAX).await;
    let body = body.map_err(|error| Problem::new(Kind::TooLarge, "the body is larger than 1 MiB, or ends early").with_cause(error))?;
    let body = match body.trim_ascii() {
        b"" => Value::Null,
        text => serde_json::from_slice(text).map_err(|error| Problem::new(Kind::Invalid, format!("the body is not JSON: {error}")))?,
    };
    let call = Call { id: clock::new_command_id(), method, path, body, ttl_ms: TTL_MS, expect_instance: None };
    let reply = app.fleet.call(worker, call).await?;
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::BAD_GATEWAY);
    Ok(match reply.body {
        Value::Null => status.into_response(),
        Value::String(text) => (status, text).into_response(),
        body => {
            let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
            (status, [(header::CONTENT_TYPE, kind)], body.to_string()).into_response()
        }
    })
}
