//! `/server`: what this worker has, and servers made without the host.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use manman_common::spec::StopMode;
use manman_common::wire::Page;
use manman_common::{DesiredState, GameId, Generation, Kind, Name, Problem, RunSpec, ServerId, ServerSpec, ServerStatus};
use manman_worker_core::{LocalChange, Origin, Record};
use serde::{Deserialize, Serialize};

use super::auth::ExpectInstance;
use super::error::{ApiResult, query_error, read_json, read_value};
use super::power::change;
use crate::app::Worker;
use crate::clock;
use crate::reconcile::Created;

/// A server as its worker knows it.
#[derive(Debug, Serialize)]
pub(super) struct ServerHere {
    id: ServerId,
    name: Name,
    game_id: GameId,
    desired: DesiredState,
    /// Made at this machine: the host has no say in it.
    created_here: bool,
    #[serde(flatten)]
    status: Option<StatusHere>,
}

/// The status without the id, which stands beside it already.
#[derive(Debug, Serialize)]
struct StatusHere {
    #[serde(flatten)]
    status: serde_json::Map<String, serde_json::Value>,
}

impl StatusHere {
    fn new(status: &ServerStatus) -> Option<Self> {
        match serde_json::to_value(status) {
            Ok(serde_json::Value::Object(mut status)) => {
                status.remove("id");
                Some(Self { status })
            }
            _ => None,
        }
    }
}

pub(super) fn view(worker: &Worker, record: &Record) -> ServerHere {
    let spec = &record.spec;
    ServerHere {
        id: spec.id,
        name: spec.name.clone(),
        game_id: spec.run.game_id.clone(),
        desired: spec.desired,
        created_here: record.origin == Origin::Here,
        status: worker.statuses().get(&spec.id).and_then(StatusHere::new),
    }
}

/// The record of a server by id or name; one that has been deleted is none.
pub(super) async fn find(worker: &Worker, id: &str) -> ApiResult<Record> {
    let records = worker.records().await?;
    let wanted: Option<ServerId> = id.parse().ok();
    let found = records.into_iter().find(|record| match wanted {
        Some(wanted) => record.spec.id == wanted,
        None => record.spec.name.as_str().eq_ignore_ascii_case(id) && !record.tried.deleted,
    });
    found.filter(|record| !record.tried.deleted).ok_or_else(|| Problem::not_found("server", id).into())
}

/// Refuses a call that was meant for an instance which is not the present one.
pub(super) fn expect_instance(worker: &Worker, server: ServerId, expected: Option<&ExpectInstance>) -> ApiResult<()> {
    let Some(ExpectInstance(expected)) = expected else { return Ok(()) };
    let present = worker.statuses().get(&server).and_then(|status| status.instance);
    if present == Some(*expected) {
        return Ok(());
    }
    let present = present.map_or_else(|| "there is none now".to_owned(), |present| format!("now it is {present}"));
    Err(Problem::new(Kind::Conflict, format!("this was meant for instance {expected}, and {present}")).into())
}

pub(super) async fn list(State(worker): State<Arc<Worker>>) -> ApiResult<Json<Page<ServerHere>>> {
    let records = worker.records().await?;
    let items = records.iter().filter(|record| !record.tried.deleted).map(|record| view(&worker, record)).collect();
    Ok(Json(Page { items, next: None }))
}

pub(super) async fn show(State(worker): State<Arc<Worker>>, Path(id): Path<String>) -> ApiResult<Json<ServerHere>> {
    let record = find(&worker, &id).await?;
    Ok(Json(view(&worker, &record)))
}

pub(super) async fn create(State(worker): State<Arc<Worker>>, body: Bytes) -> ApiResult<Response> {
    // What to run, and beside it what to call it; taken apart so that an error names its field.
    let mut create: serde_json::Map<String, serde_json::Value> = read_json(&body)?;
    let id = take(&mut create, "id")?.unwrap_or_else(|| ServerId::from_uuid(clock::new_uuid()));
    let name = match take(&mut create, "name")? {
        Some(name) => name,
        None => default_name(id)?,
    };
    let desired = take(&mut create, "desired")?.unwrap_or(DesiredState::Running);
    let run: RunSpec = read_value(serde_json::Value::Object(create))?;
    if desired == DesiredState::Deleted {
        return Err(Problem::invalid("desired", "a new server is `running` or `stopped`").into());
    }
    for (index, port) in run.ports.iter().enumerate() {
        if port.port == 0 {
            return Err(Problem::invalid(format!("ports[{index}].port"), "0 is not a port; there are 1 to 65535").into());
        }
    }
    if worker.is_frozen() {
        return Err(Problem::new(Kind::Conflict, "the worker is frozen: nothing new starts")
            .hint("unfreeze it with POST /unfreeze")
            .into());
    }
    let spec = ServerSpec {
        id,
        name,
        generation: Generation::new(1),
        desired,
        stop_mode: StopMode::Graceful,
        restart_seq: 0,
        purge: false,
        epoch: 1,
        lease_seconds: None,
        run,
    };
    let status = match worker.create_here(spec).await? {
        Created::New => StatusCode::CREATED,
        Created::Same => StatusCode::OK,
        Created::Conflict => return Err(Problem::new(Kind::Conflict, format!("there is another server under the id {id}")).into()),
    };
    let record = find(&worker, &id.to_string()).await?;
    Ok((status, [(LOCATION, format!("/server/{id}"))], Json(view(&worker, &record))).into_response())
}

fn take<T: serde::de::DeserializeOwned>(body: &mut serde_json::Map<String, serde_json::Value>, field: &str) -> ApiResult<Option<T>> {
    let Some(value) = body.remove(field).filter(|value| !value.is_null()) else { return Ok(None) };
    serde_json::from_value(value).map(Some).map_err(|error| Problem::invalid(field, error.to_string()).into())
}

fn default_name(id: ServerId) -> ApiResult<Name> {
    let text = id.as_uuid().simple().to_string();
    // The end of an id is its random part.
    let name = format!("server-{}", &text[text.len() - 8..]);
    Ok(name.parse().map_err(|_| Problem::invalid("name", "a name is needed"))?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DeleteQuery {
    purge: bool,
}

type QueryResult<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// A running server is refused: whoever wants it gone shuts it down first.
pub(super) async fn delete(
    State(worker): State<Arc<Worker>>,
    Path(id): Path<String>,
    query: QueryResult<DeleteQuery>,
    expected: Option<Extension<ExpectInstance>>,
) -> ApiResult<Response> {
    let Query(query) = query.map_err(|error| query_error(&error))?;
    let record = find(&worker, &id).await?;
    let phase = worker.statuses().get(&record.spec.id).map(|status| status.phase);
    if phase.is_some_and(manman_common::Phase::is_live) {
        let hint = format!("shut it down first: POST /server/{}/shutdown", record.spec.id);
        return Err(Problem::new(Kind::Conflict, format!("server `{}` is running", record.spec.name)).hint(hint).into());
    }
    change(&worker, &id, LocalChange::Delete { purge: query.purge }, expected).await
}
