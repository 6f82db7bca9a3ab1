//! `/worker`: joining, beating, being looked at, being sent away.

mod accept;
mod address;
mod change;
mod delete;
mod fence;
mod health;
mod look;
mod rebase;
mod register;
mod reserve;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use manman_common::error::GoneReason;
use manman_common::wire::{Page, WorkerView};
use manman_common::{Kind, Problem, WorkerId};
use sqlx::PgConnection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use change::freeze_call;

use super::error::{ApiError, ApiResult};
use crate::app::{App, AppRef};
use crate::db::worker::{Admission, WorkerRow, worker_find, worker_named};

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new()
        .routes(routes!(look::list, reserve::reserve))
        .routes(routes!(look::get, register::register, change::patch, change::put, delete::delete))
        .routes(routes!(accept::accept))
        .routes(routes!(delete::drain))
        .routes(routes!(fence::fence))
        .routes(routes!(rebase::look, rebase::rebase))
        .routes(routes!(health::health))
}

/// Who is at the other end of the socket; loopback where nobody knows.
#[derive(Clone, Copy, Debug)]
struct Peer(IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.0.ip().to_canonical())))
    }
}

/// The worker of this id or name.
pub(super) async fn find_worker(conn: &mut PgConnection, key: &str) -> ApiResult<WorkerRow> {
    let found = match key.parse::<WorkerId>() {
        Ok(id) => worker_find(conn, id).await?.filter(|worker| worker.admission != Admission::Deleted),
        Err(_) => worker_named(conn, key).await?.into_iter().next(),
    };
    found.ok_or_else(|| Problem::not_found("worker", key).into())
}

/// What a worker is told that this host removed, or never had.
pub(crate) async fn missing(app: &App, id: WorkerId) -> ApiError {
    let row = async { worker_find(&mut *app.db.acquire().await?, id).await };
    match row.await {
        Ok(Some(row)) if row.admission == Admission::Deleted => {
            Problem::gone(GoneReason::Tombstoned, format!("worker `{}` was removed from this host", row.name)).into()
        }
        Ok(_) => Problem::not_found("worker", id).hint("POST /worker hands out an id to register with").into(),
        Err(error) => error.into(),
    }
}

/// What a worker is told whose session is over.
pub(crate) fn gone(reason: GoneReason) -> Problem {
    match reason {
        GoneReason::Revoked => Problem::gone(reason, "the session is over").hint("register again"),
        GoneReason::Superseded => Problem::gone(reason, "another session of this worker has begun")
            .hint("two processes work under one identity: stop one of them, or give it a data directory of its own"),
        GoneReason::Tombstoned => Problem::gone(reason, "the worker was removed from this host"),
    }
}

/// A worker as it is stored, with what memory knows better.
pub(crate) fn view(app: &App, row: WorkerRow) -> WorkerView {
    let mut view = WorkerView {
        id: row.id,
        name: row.name,
        status: row.status,
        status_since: row.status_since,
        frozen: row.frozen,
        address: row.address,
        api_url: row.api_url,
        labels: row.labels,
        capabilities: row.capabilities,
        usage: row.usage,
        session_epoch: row.session_epoch,
        desired_revision: row.desired_revision,
        observed_revision: row.observed_revision,
        linked: false,
        quarantine: None,
        rebase_needed: false,
        last_seen: None,
        servers: row.servers,
        created_at: row.created_at,
    };
    if let Some(machine) = app.fleet.machine(view.id) {
        view.linked = machine.link().is_some();
        let state = machine.lock();
        view.status = state.status;
        view.frozen = state.frozen;
        view.usage = state.usage.or(view.usage);
        view.observed_revision = state.observed_revision;
        view.last_seen = state.heard_at;
        view.quarantine = state.standing.quarantine;
        view.rebase_needed = state.standing.rebase_needed(app.fleet.timeline());
    }
    view
}

fn conflict(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::Conflict, detail)
}

/// Named here for the description of the API.
type Workers = Page<WorkerView>;

#[cfg(test)]
mod tests;
