//! The fleet as it is now: sessions, freshness, links, and the last word on each server. All of it
//! is memory; the tables are asked and told by the submodules that take the [`App`].

pub(crate) mod beat;
mod call;
#[cfg(test)]
pub(crate) mod fake_worker;
pub(crate) mod kill;
pub(crate) mod link;
pub(crate) mod log_queue;
pub(crate) mod machine;
mod names;
mod process;
pub(crate) mod readers;
pub(crate) mod reservation;
pub(crate) mod standing;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod timeline;
pub(crate) mod trust;
pub(crate) mod watch;

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use manman_common::wire::Event;
use manman_common::{Phase, ServerId, ServerStatus, Timestamp, WorkerId, WorkerStatus};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use self::link::Farewell;
use self::machine::Machine;
use self::readers::Readers;
use self::reservation::Reservations;
use self::stats::Stats;
use self::watch::Watch;
use crate::app::App;
use crate::clock;
use crate::config::Config;
use crate::db::host::Lifeline;
use crate::http::link::Polls;
use crate::hub::{Hub, Reader};

pub use self::link::LogFeed;
pub use self::log_queue::Piece;

/// Changes of servers that the slowest waiter may be behind.
const CHANGES_MAX: usize = 4096;
/// Events that the slowest stream may be behind before it reads them from the table.
const EVENTS_MAX: usize = 1024;

pub struct Fleet {
    machines: RwLock<HashMap<WorkerId, Arc<Machine>>>,
    servers: RwLock<HashMap<ServerId, Held>>,
    changed: broadcast::Sender<ServerId>,
    pub(crate) events: Hub<Arc<Event>>,
    /// The table of events has grown.
    pub(crate) event_written: Notify,
    pub(crate) reservations: Mutex<Reservations>,
    pub(crate) readers: Arc<Readers>,
    /// The host is going down.
    pub(crate) closing: CancellationToken,
    pub(crate) stats: Stats,
    pub(crate) polls: Polls,
    watch: Mutex<Watch>,
    lifeline: Mutex<Lifeline>,
    /// The number of the newest event that this host knows of.
    pub(crate) newest_event: AtomicI64,
    http: Mutex<Option<reqwest::Client>>,
}

/// The last word on a server.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) worker: WorkerId,
    pub(crate) status: Option<Arc<ServerStatus>>,
    /// Its worker has said so to this host; a word out of the table may be of another day.
    told: bool,
    /// When its worker last mentioned it.
    seen: Instant,
    /// Newer than in the database.
    unsaved: bool,
    /// Waiters know that it has gone silent.
    silence_told: bool,
}

impl Fleet {
    #[must_use]
    pub fn new() -> Self {
        Self {
            machines: RwLock::default(),
            servers: RwLock::default(),
            changed: broadcast::channel(CHANGES_MAX).0,
            events: Hub::new(EVENTS_MAX),
            event_written: Notify::new(),
            reservations: Mutex::default(),
            readers: Arc::default(),
            closing: CancellationToken::new(),
            stats: Stats::default(),
            polls: Polls::default(),
            watch: Mutex::new(Watch::new(&Config::default())),
            lifeline: Mutex::default(),
            newest_event: AtomicI64::default(),
            http: Mutex::default(),
        }
    }

    /// Called after the commit of a change of what this worker should do: the delta goes out.
    pub fn desired_changed(&self, _app: &Arc<App>, worker: WorkerId) {
        let Some(machine) = self.machine(worker) else { return };
        machine.lock().desired_changed();
        if let Some(link) = machine.link() {
            link.desired.notify_one();
        }
    }

    /// Called after the commit of an event: streams of events look.
    pub fn event_recorded(&self) {
        self.event_written.notify_one();
    }

    /// Events as they are recorded, in the order of their numbers.
    pub(crate) fn event_stream(&self) -> Reader<Arc<Event>> {
        self.events.subscribe()
    }

    /// Servers whose status (or freshness) has changed; one that lags looks at all of its own.
    #[must_use]
    pub fn server_changes(&self) -> broadcast::Receiver<ServerId> {
        self.changed.subscribe()
    }

    /// Called where a status was stored or a wish made.
    pub fn server_changed(&self, server: ServerId) {
        // Without waiters there is nobody to tell.
        let _ = self.changed.send(server);
    }

    /// The newest word on a server; the table may be some seconds behind in what it uses.
    #[must_use]
    pub fn server_status(&self, server: ServerId) -> Option<Arc<ServerStatus>> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).get(&server).and_then(|held| held.status.clone())
    }

    /// The same, but only what its worker has said to this host: a table may be of yesterday.
    pub(crate) fn server_word(&self, server: ServerId) -> Option<Arc<ServerStatus>> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        servers.get(&server).filter(|held| held.told).and_then(|held| held.status.clone())
    }

    /// Servers whose game is Ready: where each runs, and when its worker last mentioned it.
    pub(crate) fn ready_servers(&self) -> Vec<(ServerId, WorkerId, Instant)> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        let ready = servers.iter().filter(|(_, held)| held.status.as_ref().is_some_and(|status| status.phase == Phase::Ready));
        ready.map(|(id, held)| (*id, held.worker, held.seen)).collect()
    }

    /// Whether nothing is known of the server's present: its worker is unknown, or has gone and
    /// left games running, or has not mentioned it for 30 s.
    #[must_use]
    pub fn server_is_silent(&self, server: ServerId) -> bool {
        let Some(held) = self.servers.read().unwrap_or_else(PoisonError::into_inner).get(&server).cloned() else { return false };
        let Some(status) = &held.status else { return false };
        match self.worker_status(held.worker) {
            None | Some(WorkerStatus::Unknown) => true,
            Some(WorkerStatus::Shutdown) => status.phase.is_live(),
            Some(WorkerStatus::Pending | WorkerStatus::Alive | WorkerStatus::Frozen) => self.is_stale(&held),
        }
    }

    fn is_stale(&self, held: &Held) -> bool {
        let watch = self.watch();
        watch.settling().is_zero() && clock::instant().saturating_duration_since(held.seen) >= watch.server_unknown_after
    }

    /// POST /server/{id}/health was heard.
    pub fn server_heard(&self, server: ServerId) {
        let woke = {
            let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
            servers.get_mut(&server).is_some_and(|held| {
                held.seen = clock::instant();
                std::mem::take(&mut held.silence_told)
            })
        };
        if woke {
            self.server_changed(server);
        }
    }

    #[must_use]
    pub fn linked(&self, worker: WorkerId) -> bool {
        self.machine(worker).is_some_and(|machine| machine.link().is_some())
    }

    #[must_use]
    pub fn worker_status(&self, worker: WorkerId) -> Option<WorkerStatus> {
        self.machine(worker).map(|machine| machine.lock().status)
    }

    #[must_use]
    pub fn last_seen(&self, worker: WorkerId) -> Option<Timestamp> {
        self.machine(worker).and_then(|machine| machine.lock().heard_at)
    }

    /// Seconds left in which the host calls nobody stale.
    #[must_use]
    pub fn settling_seconds(&self) -> u32 {
        // Rounded up, so that 0 means "not at all".
        u32::try_from(self.watch().settling().as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
    }

    pub(crate) fn machine(&self, worker: WorkerId) -> Option<Arc<Machine>> {
        self.machines.read().unwrap_or_else(PoisonError::into_inner).get(&worker).cloned()
    }

    pub(crate) fn machines(&self) -> Vec<Arc<Machine>> {
        self.machines.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn add(&self, machine: Arc<Machine>) {
        self.machines.write().unwrap_or_else(PoisonError::into_inner).insert(machine.id, machine);
    }

    pub(crate) fn remove(&self, worker: WorkerId) -> Option<Arc<Machine>> {
        self.servers.write().unwrap_or_else(PoisonError::into_inner).retain(|_, held| held.worker != worker);
        self.machines.write().unwrap_or_else(PoisonError::into_inner).remove(&worker)
    }

    /// Servers held for a worker.
    pub(crate) fn servers_of(&self, worker: WorkerId) -> Vec<ServerId> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        servers.iter().filter(|(_, held)| held.worker == worker).map(|(id, _)| *id).collect()
    }

    /// Ends streams and links, so that nobody keeps a host that goes down waiting.
    pub(crate) fn hang_up(&self) {
        self.closing.cancel();
        for link in self.machines().iter().filter_map(|machine| machine.link()) {
            link.close(Farewell { reason: None, detail: "the host is going down".to_owned() });
        }
    }

    pub(crate) fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_reservations(&self) -> std::sync::MutexGuard<'_, Reservations> {
        self.reservations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unknown_after(&self) -> Duration {
        self.watch().rules.unknown_after
    }

    /// The client for workers' own listeners, made on first use: most hosts never need it.
    pub(crate) fn http(&self) -> Result<reqwest::Client, reqwest::Error> {
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*http {
            return Ok(client.clone());
        }
        // A redirect could lead the worker's token elsewhere.
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(names::Names))
            .connect_timeout(CONNECT_WITHIN)
            .build()?;
        Ok(http.insert(client).clone())
    }
}

/// A machine of the home network that does not answer in this time is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}
