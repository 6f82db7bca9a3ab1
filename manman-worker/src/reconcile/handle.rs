//! How the rest of the worker talks to the loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use manman_common::link::IndexEntry;
use manman_common::{InstallMethod, Revision, ServerId, ServerSpec, ServerStatus};
use manman_worker_core::{Instance, LocalChange, Offer, Record};
use tokio::sync::{mpsc, oneshot, watch};

use crate::driver::Driver;
use crate::standing::Standing;
use crate::store::StoreError;

/// Every server that this worker has something to say of, orphans and tombstones included.
pub type Statuses = Arc<BTreeMap<ServerId, ServerStatus>>;

/// Requests that may wait for the loop; each takes it about one commit.
pub(super) const REQUESTS_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("there is no server `{0}` on this worker")]
    NoSuchServer(ServerId),
    /// The specs do not follow what is stored: ask for the index again.
    #[error("the specs follow revision {from}, and revision {have} is stored")]
    RevisionGap { from: Revision, have: Revision },
    #[error("could not store it")]
    Store(#[from] StoreError),
    #[error("the worker is going down")]
    Closed,
}

/// What became of the host's specs; the revision is stored with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub revision: Revision,
    /// Those that were not taken: stale, conflicting, or of a server created here.
    pub refused: Vec<(ServerId, Offer)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    New,
    /// The very same was created before.
    Same,
    /// There is another server under this id.
    Conflict,
}

/// Cheap to clone. The loop ends with the last clone; games and what was stored stay.
#[derive(Clone)]
pub struct ReconcileHandle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) statuses: watch::Receiver<Statuses>,
    pub(super) drivers: Arc<BTreeMap<InstallMethod, Arc<dyn Driver>>>,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, ReconcileError>>;

pub(super) enum Request {
    Wake,
    ApplySpecs { from: Revision, to: Revision, specs: Vec<ServerSpec>, answer: Answer<Applied> },
    Index { answer: Answer<BTreeMap<ServerId, IndexEntry>> },
    Records { answer: Answer<Vec<Record>> },
    Create { spec: Box<ServerSpec>, answer: Answer<Created> },
    Change { server: ServerId, change: LocalChange, answer: Answer<bool> },
    Retry { server: ServerId, answer: Answer<()> },
    Hold { server: ServerId, held: bool, answer: Answer<()> },
    Renew { server: ServerId, answer: Answer<()> },
    Freeze { frozen: bool, answer: Answer<()> },
    Stand { standing: Standing, answer: Answer<()> },
    LeaseRenewed { sent: Duration, host_at: Revision },
    Drain { keep_servers: bool, answer: Answer<()> },
    Instance { server: ServerId, answer: Answer<Option<Instance>> },
}

impl ReconcileHandle {
    /// Has the loop look at the machine soon.
    pub fn wake(&self) {
        // A full queue wakes it anyway.
        let _ = self.requests.try_send(Request::Wake);
    }

    /// What this worker says of its servers; changes whenever that changes.
    #[must_use]
    pub fn statuses(&self) -> watch::Receiver<Statuses> {
        self.statuses.clone()
    }

    #[must_use]
    pub fn status(&self, server: ServerId) -> Option<ServerStatus> {
        self.statuses.borrow().get(&server).cloned()
    }

    /// Takes the host's specs: specs and revision are on the disk, in one transaction, when this
    /// answers.
    pub async fn apply_specs(&self, from: Revision, to: Revision, specs: Vec<ServerSpec>) -> Result<Applied, ReconcileError> {
        self.ask(|answer| Request::ApplySpecs { from, to, specs, answer }).await
    }

    /// What is stored of the host's servers, to be held against its index.
    pub async fn index(&self) -> Result<BTreeMap<ServerId, IndexEntry>, ReconcileError> {
        self.ask(|answer| Request::Index { answer }).await
    }

    /// Every record, in the order of their ids, tombstones included (`tried.deleted`).
    pub async fn records(&self) -> Result<Vec<Record>, ReconcileError> {
        self.ask(|answer| Request::Records { answer }).await
    }

    pub async fn record(&self, server: ServerId) -> Result<Record, ReconcileError> {
        self.records().await?.into_iter().find(|record| record.spec.id == server).ok_or(ReconcileError::NoSuchServer(server))
    }

    /// Creates a server without the host: it belongs to the machine's owner.
    pub async fn create_here(&self, spec: ServerSpec) -> Result<Created, ReconcileError> {
        self.ask(|answer| Request::Create { spec: Box::new(spec), answer }).await
    }

    /// Starts, stops, kills or deletes at this machine; the host's next newer generation overrides
    /// it. Answers whether the wish changed: a start of what runs does not.
    pub async fn change_here(&self, server: ServerId, change: LocalChange) -> Result<bool, ReconcileError> {
        self.ask(|answer| Request::Change { server, change, answer }).await
    }

    /// Tries again at once what has failed or waits.
    pub async fn retry(&self, server: ServerId) -> Result<(), ReconcileError> {
        self.ask(|answer| Request::Retry { server, answer }).await
    }

    /// Stops a server and keeps it so, whatever is wished meanwhile, until it is let go: its files are
    /// worked on. The wish stays, and what it asks for follows then. Not kept over a restart of the worker.
    pub async fn hold(&self, server: ServerId, held: bool) -> Result<(), ReconcileError> {
        self.ask(|answer| Request::Hold { server, held, answer }).await
    }

    /// Has the game of a server that does not run installed anew, in its newest build.
    pub async fn renew(&self, server: ServerId) -> Result<(), ReconcileError> {
        self.ask(|answer| Request::Renew { server, answer }).await
    }

    /// What brings and starts this server's game, where there is such a driver.
    #[must_use]
    pub fn driver_of(&self, spec: &ServerSpec) -> Option<Arc<dyn Driver>> {
        self.drivers.get(&spec.run.game_id.method()).cloned()
    }

    /// Cordons the worker or ends that; survives a restart.
    pub async fn freeze(&self, frozen: bool) -> Result<(), ReconcileError> {
        self.ask(|answer| Request::Freeze { frozen, answer }).await
    }

    /// How far the worker goes by its own and its host's word, from now on.
    pub async fn stand(&self, standing: Standing) -> Result<(), ReconcileError> {
        self.ask(|answer| Request::Stand { standing, answer }).await
    }

    /// The host, with its wishes up to this revision, has acknowledged a beat that was sent at this
    /// moment of CLOCK_BOOTTIME.
    pub fn lease_renewed(&self, sent: Duration, host_at: Revision) {
        // A loop that has fallen so far behind can not answer for its games: no beat waits for it.
        let _ = self.requests.try_send(Request::LeaseRenewed { sent, host_at });
    }

    /// Ends the work: with `keep_servers` once no step is under way, without it once every server
    /// has been stopped by its stop plan. No wish is changed: the next worker goes on with them.
    /// Nothing new is begun afterwards. Waits as long as a stop plan takes, or for ever while a
    /// driver is blind: the caller sets the limit.
    pub async fn drain(&self, keep_servers: bool) -> Result<(), ReconcileError> {
        self.ask(|answer| Request::Drain { keep_servers, answer }).await
    }

    /// The live instance of a server as it was last seen, and its driver: for the console.
    pub async fn instance(&self, server: ServerId) -> Result<Option<(Instance, Arc<dyn Driver>)>, ReconcileError> {
        let record = self.record(server).await?;
        let instance = self.ask(|answer| Request::Instance { server, answer }).await?;
        Ok(instance.zip(self.drivers.get(&record.spec.run.game_id.method()).cloned()))
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, ReconcileError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| ReconcileError::Closed)?;
        answered.await.map_err(|_| ReconcileError::Closed)?
    }
}
