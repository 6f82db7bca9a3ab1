//! `/worker/{id}/link`: the worker dials, and the host needs no way in of its own.
//!
//! A WebSocket carries the frames, or a long poll where WebSockets do not pass; [`desk`] does not
//! know which.

mod desk;
mod poll;
mod socket;

use std::sync::Arc;

use manman_common::error::GoneReason;
use manman_common::link::Hello;
use manman_common::{Kind, Problem, WorkerId};
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission};
use super::error::{ApiError, ApiResult};
use super::worker::{gone, missing};
use crate::app::AppRef;
use crate::db::worker::Admission;
use crate::fleet::link::{Farewell, Link};
use crate::fleet::machine::Machine;

pub(crate) use poll::Polls;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(socket::link, poll::poll))
}

/// The worker that may open a link with this token right now.
async fn dialling(app: &AppRef, caller: &Caller, key: &str) -> ApiResult<Arc<Machine>> {
    let id: WorkerId = key.parse().map_err(|_| Problem::not_found("worker", key))?;
    let Some(machine) = app.fleet.machine(id) else { return Err(missing(app, id).await) };
    caller.require(Permission::BeWorker(id))?;
    let (admission, open) = {
        let state = machine.lock();
        (state.admission, state.session.is_some())
    };
    if admission != Admission::Accepted {
        return Err(not_accepted());
    }
    if !open {
        return Err(gone(GoneReason::Revoked).into());
    }
    Ok(machine)
}

fn not_accepted() -> ApiError {
    Problem::new(Kind::Conflict, "this worker waits to be accepted")
        .hint("beat until the answer's status is another than `pending`")
        .retry_after(5)
        .into()
}

/// Opens the link of the session that the Hello names, in place of any older one. Of two processes
/// with one token, the one that has the session has the link.
fn open(machine: &Machine, hello: &Hello) -> Result<(Arc<Link>, mpsc::Receiver<manman_common::link::ToWorker>), GoneReason> {
    let mut state = machine.lock();
    state.admits(Some(hello.session_epoch))?;
    let Some(session) = &mut state.session else { return Err(GoneReason::Revoked) };
    if session.process.as_ref().is_some_and(|process| process.run_id != hello.run_id) {
        return Err(GoneReason::Superseded);
    }
    session.had_link = true;
    let (link, frames) = Link::new(hello.session_epoch);
    if let Some(old) = state.link.replace(Arc::clone(&link)) {
        old.close(Farewell { reason: None, detail: "the worker has opened another link".to_owned() });
    }
    state.heard(None);
    drop(state);
    tracing::info!(worker.id = %machine.id, session_epoch = %hello.session_epoch, "a worker's link is open");
    Ok((link, frames))
}

/// Replaces the escape that stands for U+0000, which JSON may carry and Postgres can not store.
fn storable(json: &str) -> std::borrow::Cow<'_, str> {
    if json.contains("\\u0000") { json.replace("\\u0000", "\\ufffd").into() } else { json.into() }
}

/// The same for a body, which is parsed afterwards.
pub(crate) fn storable_bytes(json: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    match std::str::from_utf8(json).map(storable) {
        Ok(std::borrow::Cow::Owned(text)) => text.into_bytes().into(),
        Ok(std::borrow::Cow::Borrowed(_)) | Err(_) => json.into(),
    }
}

#[cfg(test)]
mod tests;
