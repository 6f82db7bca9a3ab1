//! The worker's side of everything between it and its host: registration, beats, and the link.
//!
//! Nothing here is needed for games to run. Whatever goes wrong ends in another try, never in the
//! end of the worker, and never in anything being stopped.

mod backoff;
mod beat;
mod calls;
mod conversation;
mod dial;
mod register;
mod streams;

mod transport;

use std::sync::Arc;
use std::time::Duration;

use manman_common::client::{Client, ClientError, Endpoint};
use manman_common::error::GoneReason;
use manman_common::wire::RegisterWorker;
use manman_common::{Kind, SessionEpoch, WorkerStatus};
use tokio::sync::{Notify, watch};

use crate::api::error_chain;
use crate::app::Worker;
use crate::store::StoreError;
use crate::{clock, failpoint, machine};
use backoff::Backoff;
pub use register::Registration;
use register::{RegisterError, Session};

pub(crate) use beat::{body as beat_body, goodbye};
pub(crate) use calls::CallDesk;
pub(crate) use register::reserve_id;

/// How long a worker that has been superseded leaves its host alone: long enough not to quarrel
/// with its rival, short enough to notice within minutes that the rival has gone.
const QUIET: Duration = Duration::from_secs(300);

/// What the rest of the worker may know of its standing with the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    pub registration: Option<Registration>,
    /// As the host last said; `None` before it has said anything in this run.
    pub status: Option<WorkerStatus>,
    pub linked: bool,
    /// Nobody answers where the host was.
    pub away: bool,
    /// Another process works under this worker's identity.
    pub superseded: bool,
}

/// From whom a beat's answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    InThisSession,
    /// Its memory is trusted from when it holds all that the host wishes.
    BeforeItsWishes,
    /// The host went back in time since it began the session: it may give the session's number to
    /// another, and may mean that one.
    InAnotherLife,
}

/// Handles by which the rest of the worker reaches into the link.
#[derive(Debug, Default)]
pub(crate) struct LinkControl {
    /// Ends the session and registers again.
    pub(crate) register_again: Notify,
    /// The host can be reached again: no more waiting.
    reachable: Notify,
    /// Something has changed that the host should hear of before the next beat is due.
    pub(crate) beat_now: Notify,
    /// The host is ahead of this worker and the link has not brought it: begin with a Hello.
    resync: Notify,
}

/// Why a session came to its end.
#[derive(Debug)]
enum Ended {
    Gone {
        reason: GoneReason,
        detail: String,
    },
    /// The host knows the token no more, or somebody asked for it.
    RegisterAgain,
}

/// Registers and keeps a session, over and over, until the task is dropped.
pub(crate) async fn run(worker: Arc<Worker>, endpoint: Endpoint) {
    let mut backoff = Backoff::new(endpoint.is_loopback());
    let mut said_unreachable = false;
    loop {
        let wait = match register(&worker, &endpoint).await {
            Ok(session) => {
                backoff.reset();
                said_unreachable = false;
                match serve(&worker, &endpoint, session).await {
                    Ended::RegisterAgain => Duration::ZERO,
                    Ended::Gone { reason, detail } => after_gone(&worker, reason, &detail).await,
                }
            }
            Err(error) => {
                report(&endpoint, &error, &mut said_unreachable);
                let unreachable = matches!(&error, RegisterError::Client(error) if error.is_unreachable());
                set_away(&worker, unreachable);
                let retry_after = match &error {
                    RegisterError::Client(error) => error.problem().and_then(|problem| problem.retry_after),
                    RegisterError::NoToken | RegisterError::Store(_) => None,
                };
                backoff.next(retry_after)
            }
        };
        // Cancel-safe: both only wait.
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = worker.link.register_again.notified() => {}
        }
    }
}

fn set_away(worker: &Worker, away: bool) {
    worker.link_state.send_if_modified(|state| std::mem::replace(&mut state.away, away) != away);
}

/// Tells the person once, not at every try.
fn report(endpoint: &Endpoint, error: &RegisterError, said_unreachable: &mut bool) {
    let unreachable = matches!(error, RegisterError::Client(error) if error.is_unreachable());
    let text = error_chain(error);
    if unreachable && std::mem::replace(said_unreachable, true) {
        tracing::debug!(host = %endpoint, error = text, "the host is still away");
    } else if unreachable {
        tracing::warn!(host = %endpoint, error = text, "the host is away; games go on without it, and it is asked again");
    } else {
        tracing::warn!(host = %endpoint, error = text, "the host refused this worker; it is asked again");
    }
}

async fn register(worker: &Worker, endpoint: &Endpoint) -> Result<Session, RegisterError> {
    let stored = worker.registration();
    let body = registration_body(worker, endpoint).await.map_err(|error| RegisterError::Store(error.into()))?;
    let join_token = worker.config.join_token.as_deref();
    let own_token = worker.store.meta().await.map_err(|error| RegisterError::Store(error.into()))?.token;
    let session = register::register(endpoint, join_token, stored.as_ref(), own_token.as_deref(), &body).await?;
    // The host has begun a session of which nothing is stored yet.
    failpoint::reach("session.begun");
    worker.keep_registration(&session.registration, &session.registered, session.other_host).await.map_err(RegisterError::Store)?;
    failpoint::reach("session.stored");
    tracing::info!(
        worker.id = %session.registration.worker_id,
        worker.name = %worker.config.name,
        session_epoch = %session.registration.session_epoch,
        host = %endpoint,
        "registered with the host"
    );
    if session.registered.status == WorkerStatus::Pending {
        tracing::warn!("waiting to be accepted: manman worker accept {}", worker.config.name);
    }
    Ok(session)
}

async fn registration_body(worker: &Worker, endpoint: &Endpoint) -> Result<RegisterWorker, StoreError> {
    let config = &worker.config;
    // A host on this machine sees loopback and can not tell where others reach us; a remote one
    // sees the address by which it was reached, which is better than any guess of ours.
    let ip_address = config.advertise.map(|address| address.to_string()).or_else(|| {
        let own = endpoint.is_loopback().then(machine::primary_address).flatten();
        own.map(|address| address.to_string())
    });
    Ok(RegisterWorker {
        worker_name: config.name.clone(),
        ip_address,
        api_url: Some(format!("http://{}", worker.api_address)),
        api_port: Some(worker.api_address.port()),
        api_token: Some(worker.api_token.clone()),
        capabilities: machine::capabilities(config, &worker.data_dir, worker.driver_reports().await),
        labels: config.labels.clone(),
        process: Some(worker.process.clone()),
        own_token: None,
        memory: Some(worker.store.memory().await?),
    })
}

/// One session: beats and link side by side, until either learns that it is over.
async fn serve(worker: &Arc<Worker>, endpoint: &Endpoint, session: Session) -> Ended {
    let client = match Client::new(endpoint.clone(), Some(session.registration.token.clone())) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(error = error_chain(&error), "the host's client can not be set up");
            return Ended::RegisterAgain;
        }
    };
    let status = session.registered.status;
    worker.link_state.send_modify(|state| {
        *state = LinkState { registration: Some(session.registration.clone()), status: Some(status), ..LinkState::default() };
    });
    let (accepted, is_accepted) = watch::channel(status != WorkerStatus::Pending);
    let seat = Seat { worker: Arc::clone(worker), client, id: session.registration.worker_id, epoch: session.registration.session_epoch };
    let heartbeat = Duration::from_secs(u64::from(session.registered.heartbeat_seconds.clamp(1, 300)));
    // Cancel-safe: a beat or a link that is dropped is as one that broke.
    let ended = tokio::select! {
        ended = beat::keep_beating(&seat, heartbeat, accepted) => ended,
        ended = dial::keep_linked(&seat, is_accepted) => ended,
        () = worker.link.register_again.notified() => Ended::RegisterAgain,
    };
    worker.link_state.send_modify(|state| state.linked = false);
    ended
}

/// The session that this worker has at its host.
struct Seat {
    worker: Arc<Worker>,
    client: Client,
    id: manman_common::WorkerId,
    epoch: SessionEpoch,
}

/// What the end of the session means for the next try.
async fn after_gone(worker: &Worker, reason: GoneReason, detail: &str) -> Duration {
    match reason {
        GoneReason::Revoked => {
            tracing::warn!(detail, "the host ended this session; registering again, games go on");
            Duration::ZERO
        }
        GoneReason::Superseded => {
            tracing::error!(
                detail,
                "another worker has taken over this worker's name and identity; this one keeps its games and stays quiet. \
                 If this is a copy of a data directory or of a machine, stop it and give it a directory of its own"
            );
            worker.link_state.send_modify(|state| state.superseded = true);
            clock::jitter_around(QUIET)
        }
        GoneReason::Tombstoned => {
            tracing::warn!(detail, "the host has removed this worker; asking to join as a new one, games go on");
            if let Err(error) = worker.forget_registration().await {
                tracing::error!(error = error_chain(&error), "the old registration can not be removed from the store");
            }
            clock::jitter_around(Duration::from_secs(5))
        }
    }
}

/// Whether the host's answer ends the session.
fn ends_session(error: &ClientError) -> Option<Ended> {
    let problem = error.problem()?;
    match (problem.kind, problem.reason) {
        (Kind::Gone, reason) => Some(Ended::Gone { reason: reason.unwrap_or(GoneReason::Revoked), detail: problem.detail.clone() }),
        (Kind::Unauthenticated | Kind::NotFound, _) => Some(Ended::RegisterAgain),
        _ => None,
    }
}
