//! Registration: under a stable name, with the worker's own token if it has one.

use manman_common::client::{Client, ClientError, Endpoint};
use manman_common::error::GoneReason;
use manman_common::session::Memory;
use manman_common::wire::{RegisterWorker, Registered, Reservation, ReserveWorker};
use manman_common::{Kind, Name, SessionEpoch, WorkerId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::reconcile::ReconcileError;
use crate::store::Meta;

/// What a worker keeps of its registration with a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Another host at the same address is another host.
    pub host_id: Uuid,
    pub worker_id: WorkerId,
    pub token: String,
    pub session_epoch: SessionEpoch,
}

impl Registration {
    /// The registration that the store holds, if it holds a whole one.
    pub(crate) fn of(meta: &Meta) -> Option<Self> {
        Some(Self { host_id: meta.host_id?, worker_id: meta.worker_id?, token: meta.token.clone()?, session_epoch: meta.session_epoch })
    }

    pub(crate) fn write_to(self, meta: &mut Meta) {
        let Self { host_id, worker_id, token, session_epoch } = self;
        meta.host_id = Some(host_id);
        meta.worker_id = Some(worker_id);
        meta.token = Some(token);
        meta.session_epoch = session_epoch;
    }

    pub(crate) fn clear(meta: &mut Meta) {
        meta.host_id = None;
        meta.worker_id = None;
        meta.token = None;
    }
}

/// One attempt's outcome, where the host answered with sense.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) registration: Registration,
    pub(super) registered: Registered,
    /// Another host than the one that the stored revisions are of.
    pub(super) other_host: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RegisterError {
    #[error("the host did not take the registration")]
    Client(#[from] ClientError),
    #[error("the host registered the worker and gave it no token")]
    NoToken,
    #[error("the registration can not be stored")]
    Store(#[source] ReconcileError),
}

/// The id that the host has for this name, without registering.
pub(crate) async fn reserve_id(endpoint: &Endpoint, join_token: Option<&str>, name: &Name) -> Result<WorkerId, ClientError> {
    let client = Client::new(endpoint.clone(), join_token.map(str::to_owned))?;
    Ok(client.worker_reserve(&ReserveWorker { name: Some(name.clone()) }).await?.id)
}

/// What a registration is made with.
#[derive(Clone, Copy)]
enum Shown<'a> {
    Registration(&'a Registration),
    /// Made by the worker for a registration whose answer it may never have stored.
    OwnToken(&'a str),
    Invitation(Option<&'a str>),
}

impl Shown<'_> {
    fn token(&self) -> Option<&str> {
        match self {
            Self::Registration(stored) => Some(&stored.token),
            Self::OwnToken(token) => Some(token),
            Self::Invitation(token) => *token,
        }
    }
}

/// Reserves the name and registers. `stored` is what an earlier registration left, `own_token` what one
/// may have been asked for with; where the host does not know either, the worker asks as a stranger,
/// which is what it is.
pub(super) async fn register(
    endpoint: &Endpoint,
    join_token: Option<&str>,
    stored: Option<&Registration>,
    own_token: Option<&str>,
    body: &RegisterWorker,
) -> Result<Session, RegisterError> {
    let mut own_token = own_token.filter(|_| stored.is_none());
    if let Some(stored) = stored {
        match attempt(endpoint, Shown::Registration(stored), body).await {
            Err(RegisterError::Client(error)) if is_unknown_here(&error) => {
                tracing::warn!(
                    worker.id = %stored.worker_id,
                    "the host does not know this worker's token; asking to join as a new worker, games go on"
                );
            }
            other => return other,
        }
    }
    // What it remembers is of another host, or of another life at this one.
    let memory = body.memory.as_ref().map(|memory| Memory {
        state_seq: memory.state_seq,
        blank: true,
        machine: memory.machine.clone(),
        ..Memory::default()
    });
    let body = RegisterWorker { memory, ..body.clone() };
    if let Some(token) = own_token {
        match attempt(endpoint, Shown::OwnToken(token), &body).await {
            Err(RegisterError::Client(error)) if is_unknown_here(&error) => {
                // One that a person has removed is of no use any more.
                own_token = own_token.filter(|_| error.problem().is_some_and(|problem| problem.kind == Kind::Unauthenticated));
            }
            other => return other,
        }
    }
    let body = RegisterWorker { own_token: own_token.map(str::to_owned), ..body };
    attempt(endpoint, Shown::Invitation(join_token), &body).await
}

async fn attempt(endpoint: &Endpoint, shown: Shown<'_>, body: &RegisterWorker) -> Result<Session, RegisterError> {
    let client = Client::new(endpoint.clone(), shown.token().map(str::to_owned))?;
    let reservation: Reservation = client.worker_reserve(&ReserveWorker { name: Some(body.worker_name.clone()) }).await?;
    let registered = client.worker_register(reservation.id, body).await?;
    let of_this_host = |stored: &&Registration| stored.worker_id == registered.id && stored.host_id == registered.host_id;
    // A first registration hands the token over; a later one goes on with the token it came with.
    let (kept, own_token) = match shown {
        Shown::Registration(stored) => (Some(stored).filter(of_this_host), None),
        Shown::OwnToken(token) => (None, Some(token)),
        Shown::Invitation(_) => (None, None),
    };
    let token = registered.token.clone().or_else(|| kept.map(|kept| kept.token.clone())).or_else(|| own_token.map(str::to_owned));
    let registration = Registration {
        host_id: registered.host_id,
        worker_id: registered.id,
        token: token.ok_or(RegisterError::NoToken)?,
        session_epoch: registered.session_epoch,
    };
    Ok(Session { registration, registered, other_host: kept.is_none() })
}

/// Whether the host has no idea of this token: revoked, forgotten, or another host altogether.
fn is_unknown_here(error: &ClientError) -> bool {
    error.problem().is_some_and(|problem| match problem.kind {
        Kind::Unauthenticated => true,
        Kind::Gone => problem.reason == Some(GoneReason::Tombstoned),
        Kind::Invalid
        | Kind::Forbidden
        | Kind::NotFound
        | Kind::MethodNotAllowed
        | Kind::Conflict
        | Kind::PortTaken
        | Kind::NotAlive
        | Kind::StaleGeneration
        | Kind::PreconditionFailed
        | Kind::TooLarge
        | Kind::UnsupportedMediaType
        | Kind::TooManyRequests
        | Kind::Internal
        | Kind::BadGateway
        | Kind::Unavailable
        | Kind::Timeout => false,
    })
}
