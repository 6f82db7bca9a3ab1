//! The one task behind the feed: gathers what may have changed, looks at it where it is stored, and
//! numbers what is other than it was.
//!
//! That something may have changed comes from those who change it. What tells nobody (a beat's
//! figures, an open link, checks of the front door) is looked at now and then in memory; and all of
//! it is read anew every while, so that nothing missed stays wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use manman_common::wire::registry::ServiceEvent;
use manman_common::wire::{Event, ServerView, ServiceView, WorkerView};
use manman_common::{Name, ServerId, SessionEpoch, WorkerId, WorkerStatus};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::MissedTickBehavior;

use super::dirty::Dirty;
use super::ring::{Change, EVENTS_MAX};
use super::steady::{Known, same_usage, steady_server, steady_worker};
use crate::app::AppRef;
use crate::clock;
use crate::db::event::{EventFilter, event_page};
use crate::db::server::{ServerFilter, server_get, server_list};
use crate::db::worker::{Admission, WorkerRow, worker_all, worker_find};
use crate::http::{server, service, worker};
use crate::hub::{Item, Reader};

/// Between two deltas: ten a second are as much as eyes can follow.
const APART: Duration = Duration::from_millis(100);
/// What changes together is told together.
const GATHER: Duration = Duration::from_millis(10);
/// Links, sessions and states of workers in memory.
const GLANCE_EVERY: Duration = Duration::from_millis(100);
/// The front door's checks, and times of leases.
const SERVICES_EVERY: Duration = Duration::from_secs(1);
/// Figures: processor, memory, last beats.
const FIGURES_EVERY: Duration = Duration::from_secs(5);
/// All that is stored.
const ALL_EVERY: Duration = Duration::from_secs(20);
/// The board is kept so long for who comes back.
const LINGER: Duration = Duration::from_secs(60);
/// Between two tries where the tables do not answer.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// Of servers to look at, at which share of all (one part in so many) all are read in one go.
const SHARE: usize = 8;

pub(crate) async fn run(app: AppRef) {
    let mut watchers = app.feed.watchers.subscribe();
    let mut told = false;
    loop {
        if watchers.wait_for(|count| *count > 0).await.is_err() {
            return;
        }
        let mut desk = Desk::new(&app);
        match desk.look().await {
            Ok(changes) => {
                app.feed.show(changes);
                told = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "what consoles show could not be read; it is tried again");
                }
                tokio::time::sleep(TRY_EVERY).await;
                continue;
            }
        }
        desk.follow().await;
    }
}

struct Desk {
    app: AppRef,
    servers: broadcast::Receiver<ServerId>,
    events: Reader<Arc<Event>>,
    registry: broadcast::Receiver<Arc<ServiceEvent>>,
    dirty: Dirty,
    machines: HashMap<WorkerId, Glance>,
    /// Until when each lease lasts, as far as consoles know.
    leases: HashMap<String, Option<Instant>>,
}

/// What is in memory alone, or there first.
#[derive(PartialEq, Eq)]
struct Glance {
    name: Name,
    pending: bool,
    status: WorkerStatus,
    frozen: bool,
    linked: bool,
    epoch: SessionEpoch,
}

impl Desk {
    /// Listens from now on; what was before is read by the first look.
    fn new(app: &AppRef) -> Self {
        Self {
            servers: app.fleet.server_changes(),
            events: app.fleet.event_stream(),
            registry: app.registry.changes(),
            app: app.clone(),
            dirty: Dirty::everything(),
            machines: HashMap::new(),
            leases: HashMap::new(),
        }
    }

    /// Until nobody has watched for a while.
    async fn follow(&mut self) {
        let mut glances = tokio::time::interval(GLANCE_EVERY);
        glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = Rounds::new(clock::instant());
        let mut published = clock::instant();
        let mut watched = published;
        let mut told = false;
        loop {
            // Cancel-safe: each takes nothing unless it wins.
            tokio::select! {
                change = self.servers.recv() => self.server(change),
                item = self.events.next() => match item {
                    Some(Item::Value(event)) => self.dirty.event(event),
                    Some(Item::Gap(_)) => self.dirty.events_missed = true,
                    None => return,
                },
                // What happened to whom is of no matter: there are few, and all are compared.
                _ = self.registry.recv() => self.dirty.services = true,
                _ = glances.tick() => self.glance(&mut rounds),
            }
            let now = clock::instant();
            if *self.app.feed.watchers.borrow() > 0 {
                watched = now;
            } else if now.duration_since(watched) >= LINGER && self.app.feed.sleep() {
                return;
            }
            if self.dirty.is_nothing() {
                continue;
            }
            tokio::time::sleep(APART.saturating_sub(now.duration_since(published)).max(GATHER)).await;
            self.drain();
            published = clock::instant();
            match self.look().await {
                Ok(changes) => {
                    self.app.feed.publish(changes);
                    told = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "what consoles show could not be read; it is tried again");
                    }
                    tokio::time::sleep(TRY_EVERY).await;
                }
            }
        }
    }

    fn server(&mut self, change: Result<ServerId, RecvError>) {
        match change {
            Ok(id) => drop(self.dirty.servers.insert(id)),
            Err(RecvError::Lagged(_)) => self.dirty.all = true,
            // The fleet lives as long as the app that is held here.
            Err(RecvError::Closed) => {}
        }
    }

    /// Takes what lies ready.
    fn drain(&mut self) {
        loop {
            match self.servers.try_recv() {
                Ok(id) => drop(self.dirty.servers.insert(id)),
                Err(TryRecvError::Lagged(_)) => self.dirty.all = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        while let Some(item) = self.events.ready() {
            match item {
                Item::Value(event) => self.dirty.event(event),
                Item::Gap(_) => self.dirty.events_missed = true,
            }
        }
    }

    /// What nobody tells of.
    fn glance(&mut self, rounds: &mut Rounds) {
        let now = clock::instant();
        self.dirty.services |= rounds.services.is_due(now);
        self.dirty.figures |= rounds.figures.is_due(now);
        self.dirty.all |= rounds.all.is_due(now);
        let mut seen = HashMap::with_capacity(self.machines.len());
        for machine in self.app.fleet.machines() {
            let linked = machine.link().is_some();
            let glance = {
                let state = machine.lock();
                Glance {
                    name: state.name.clone(),
                    pending: state.admission == Admission::Pending,
                    status: state.status,
                    frozen: state.frozen,
                    linked,
                    epoch: state.epoch,
                }
            };
            if self.machines.remove(&machine.id).as_ref() != Some(&glance) {
                self.dirty.workers.insert(machine.id);
            }
            seen.insert(machine.id, glance);
        }
        // Those that are left have gone.
        self.dirty.workers.extend(self.machines.keys());
        self.machines = seen;
    }

    /// Looks at all that may have changed; what could not be looked at stays to be.
    async fn look(&mut self) -> sqlx::Result<Vec<Change>> {
        let dirty = std::mem::replace(&mut self.dirty, Dirty::nothing());
        let looked = self.read(&dirty).await;
        if looked.is_err() {
            self.dirty.again(dirty);
        }
        looked
    }

    async fn read(&mut self, dirty: &Dirty) -> sqlx::Result<Vec<Change>> {
        let mut changes = Vec::new();
        // First: what is read from the tables afterwards is newer.
        if dirty.figures {
            self.figures(&mut changes);
        }
        let mut workers = dirty.workers.clone();
        self.read_servers(dirty, &mut workers, &mut changes).await?;
        self.read_workers(dirty.all, workers, &mut changes).await?;
        if dirty.services {
            let services = service::all(&self.app).await;
            self.services(services, &mut changes);
        }
        if dirty.events_missed {
            let limit = i64::try_from(EVENTS_MAX).unwrap_or(i64::MAX);
            let mut events = event_page(&mut *self.app.db.acquire().await?, &EventFilter::default(), None, limit).await?;
            events.reverse();
            changes.extend(events.into_iter().map(|event| Change::Event(Arc::new(event))));
        }
        changes.extend(dirty.events.iter().cloned().map(Change::Event));
        Ok(changes)
    }

    /// Servers; adds the workers whose own view changes with theirs.
    async fn read_servers(&self, dirty: &Dirty, workers: &mut BTreeSet<WorkerId>, changes: &mut Vec<Change>) -> sqlx::Result<()> {
        let known: BTreeMap<ServerId, Known> = self
            .app
            .feed
            .with(|board| {
                let all = board.servers.iter().map(|(id, shown)| (*id, Known::of(&shown.view)));
                all.collect()
            })
            .unwrap_or_default();
        let in_one_go = dirty.all || dirty.servers.len() * SHARE > known.len().max(SHARE);
        if !in_one_go && dirty.servers.is_empty() {
            return Ok(());
        }
        let mut conn = self.app.db.acquire().await?;
        let rows = if in_one_go {
            server_list(&mut conn, &ServerFilter::default(), None, u32::MAX).await?
        } else {
            let mut rows = Vec::with_capacity(dirty.servers.len());
            for id in &dirty.servers {
                rows.extend(server_get(&mut conn, *id).await?);
            }
            rows
        };
        drop(conn);
        let mut gone: BTreeSet<ServerId> = if in_one_go { known.keys().copied().collect() } else { dirty.servers.clone() };
        for row in rows {
            gone.remove(&row.id);
            let before = known.get(&row.id);
            let mut view = server::view(&self.app, server::fresh(&self.app, row));
            if before.is_none_or(|before| before.generation != view.generation) {
                workers.insert(view.worker_id);
            }
            if let (Some(before), false) = (before, dirty.figures) {
                steady_server(before, &mut view);
            }
            changes.push(Change::Server(view.id, Some(view)));
        }
        for id in gone {
            workers.extend(known.get(&id).map(|known| known.worker));
            changes.push(Change::Server(id, None));
        }
        Ok(())
    }

    async fn read_workers(&self, all: bool, some: BTreeSet<WorkerId>, changes: &mut Vec<Change>) -> sqlx::Result<()> {
        if !all && some.is_empty() {
            return Ok(());
        }
        let mut conn = self.app.db.acquire().await?;
        let rows: Vec<WorkerRow> = if all {
            worker_all(&mut conn).await?
        } else {
            let mut rows = Vec::with_capacity(some.len());
            for id in &some {
                rows.extend(worker_find(&mut conn, *id).await?.filter(|row| row.admission != Admission::Deleted));
            }
            rows
        };
        drop(conn);
        let known: BTreeMap<WorkerId, WorkerView> =
            self.app.feed.with(|board| board.workers.iter().map(|(id, shown)| (*id, shown.view.clone())).collect()).unwrap_or_default();
        let mut gone: BTreeSet<WorkerId> = if all { known.keys().copied().collect() } else { some };
        for row in rows {
            gone.remove(&row.id);
            let mut view = worker::view(&self.app, row);
            if let Some(before) = known.get(&view.id) {
                steady_worker(before, &mut view);
            }
            changes.push(Change::Worker(view.id, Some(view)));
        }
        changes.extend(gone.into_iter().map(|id| Change::Worker(id, None)));
        Ok(())
    }

    /// Leases are renewed all the time: one is told again only where else it would seem to run out.
    fn services(&mut self, services: Vec<ServiceView>, changes: &mut Vec<Change>) {
        let now = clock::instant();
        let until = |service: &ServiceView| service.expires_in.map(|left| now + Duration::from_secs(left.into()));
        let shown: BTreeMap<String, ServiceView> = self
            .app
            .feed
            .with(|board| board.services.iter().map(|(name, shown)| (name.clone(), shown.view.clone())).collect())
            .unwrap_or_default();
        let names: BTreeSet<String> = services.iter().map(|service| service.name.clone()).collect();
        for service in services {
            let same = shown.get(&service.name).is_some_and(|before| {
                let same = ServiceView { expires_in: before.expires_in, ..service.clone() } == *before;
                let seems = match (self.leases.get(&service.name).copied().flatten(), service.expires_in) {
                    (Some(until), Some(left)) => until.saturating_duration_since(now) >= Duration::from_secs(left.into()) / 2,
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                };
                same && seems
            });
            if !same {
                self.leases.insert(service.name.clone(), until(&service));
                changes.push(Change::Service(service.name.clone(), Some(service)));
            }
        }
        self.leases.retain(|name, _| names.contains(name));
        changes.extend(shown.into_keys().filter(|name| !names.contains(name)).map(|name| Change::Service(name, None)));
    }

    /// Figures that only memory has, of what is on the board.
    fn figures(&self, changes: &mut Vec<Change>) {
        let fleet = &self.app.fleet;
        self.app.feed.with(|board| {
            for (id, shown) in &board.servers {
                let usage = fleet.server_status(*id).and_then(|status| status.usage);
                if !same_usage(shown.view.usage, usage) {
                    changes.push(Change::Server(*id, Some(ServerView { usage, ..shown.view.clone() })));
                }
            }
            for (id, shown) in &board.workers {
                let Some(machine) = fleet.machine(*id) else { continue };
                let mut view = shown.view.clone();
                {
                    let state = machine.lock();
                    view.usage = state.usage.or(view.usage);
                    view.observed_revision = state.observed_revision;
                    view.last_seen = state.heard_at;
                }
                steady_worker(&shown.view, &mut view);
                changes.push(Change::Worker(*id, Some(view)));
            }
        });
    }
}

/// When what is next looked at.
struct Rounds {
    services: Round,
    figures: Round,
    all: Round,
}

struct Round {
    every: Duration,
    last: Instant,
}

impl Rounds {
    const fn new(now: Instant) -> Self {
        Self {
            services: Round { every: SERVICES_EVERY, last: now },
            figures: Round { every: FIGURES_EVERY, last: now },
            all: Round { every: ALL_EVERY, last: now },
        }
    }
}

impl Round {
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.last) >= self.every;
        if due {
            self.last = now;
        }
        due
    }
}
