use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use manman_common::wire::{Reservation, ReserveWorker, Scope};
use manman_common::{Kind, Name, Problem, WorkerId};

use super::{Peer, missing};
use crate::app::AppRef;
use crate::config::HEARTBEAT_SECONDS;
use crate::http::auth::Presented;
use crate::http::error::ApiResult;
use crate::http::extract::parse;
use crate::http::link::storable_bytes;

/// What a machine needs to know to register as a worker.
///
/// Hands out an id, good for 60 s. With a worker's own token it is that worker's id; to anybody
/// else a fresh one, whatever the name. The body may be empty.
#[utoipa::path(
    post,
    path = "/worker",
    tag = "worker",
    request_body = Option<ReserveWorker>,
    responses((status = 200, body = Reservation), (status = 401, body = Problem), (status = 410, body = Problem), (status = 429, body = Problem))
)]
pub(super) async fn reserve(State(app): State<AppRef>, presented: Presented, Peer(peer): Peer, body: Bytes) -> ApiResult<Response> {
    // Whatever its declared type: a plain `curl -d` says that it is a form.
    let ReserveWorker { name } = if body.is_empty() { ReserveWorker::default() } else { parse(&storable_bytes(&body))? };
    let own = match &presented {
        Presented::Unknown => {
            return Err(Problem::new(Kind::Unauthenticated, "this token is not known here, or no longer valid")
                .hint("without a token the machine asks to join, and a person accepts it")
                .into());
        }
        Presented::Nothing => None,
        Presented::Known(caller) => caller.worker_id.filter(|_| caller.scope == Scope::Worker),
    };
    let id = match own {
        Some(id) if app.fleet.machine(id).is_none() => return Err(missing(&app, id).await),
        Some(id) => id,
        None => reserve_now(&app, &presented, name.as_ref(), peer)
            .ok_or_else(|| Problem::new(Kind::TooManyRequests, "too many machines ask to join at this moment").retry_after(60))?,
    };
    let seconds = |duration: std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let rules = app.fleet.watch().rules;
    let reservation = Reservation {
        id,
        required: ["worker-name", "ip-address", "api-url"].map(str::to_owned).to_vec(),
        heartbeat_seconds: HEARTBEAT_SECONDS,
        unknown_after: seconds(rules.unknown_after),
        kill_after: seconds(rules.kill_after),
        api_version: env!("CARGO_PKG_VERSION").to_owned(),
        host_id: app.host_id,
    };
    Ok((StatusCode::OK, axum::Json(reservation)).into_response())
}

fn reserve_now(app: &AppRef, presented: &Presented, name: Option<&Name>, peer: IpAddr) -> Option<WorkerId> {
    let mut reservations = app.fleet.lock_reservations();
    match presented {
        Presented::Known(_) => reservations.reserve(name, peer),
        Presented::Nothing | Presented::Unknown => reservations.reserve_for_stranger(name, peer),
    }
}
