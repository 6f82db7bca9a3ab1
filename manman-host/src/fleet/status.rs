//! Brings what the fleet knows into the tables: changes at once, the rest in batches.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use manman_common::{Phase, ServerId, ServerStatus, WorkerId, WorkerStatus};
use uuid::Uuid;

use super::machine::Machine;
use super::watch::Watch;
use super::{Fleet, Held};
use crate::app::App;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::server::release_gone;
use crate::db::worker::{self, BeatFacts, report};

impl Fleet {
    /// Remembers what the tables say; called once, before the host listens.
    pub async fn load(&self, app: &App) -> sqlx::Result<()> {
        *self.watch() = Watch::new(&app.config);
        let mut conn = app.db.acquire().await?;
        for row in worker::worker_all(&mut conn).await? {
            let machine = Machine::of_row(row);
            {
                // It has not heard of this timeline, or not by a registration that counts.
                let mut state = machine.lock();
                state.standing.dismissed = state.standing.rebase_needed(self.timeline());
            }
            self.add(machine);
        }
        let now = clock::instant();
        let rows = report::report_all(&mut conn).await?;
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let held =
                Held { worker: row.worker, status: row.status.map(Arc::new), told: false, seen: now, unsaved: false, silence_told: false };
            servers.insert(row.id, held);
        }
        Ok(())
    }

    /// Writes the worker's status if it is not the one in the table, with an event. Whatever has
    /// happened meanwhile, the table gets what is true when it is written.
    pub(crate) async fn store_status(&self, app: &App, machine: &Machine) -> sqlx::Result<()> {
        let _storing = machine.storing.lock().await;
        let (name, status, frozen, stored) = {
            let state = machine.lock();
            (state.name.clone(), state.status, state.frozen, state.stored)
        };
        if stored == (status, frozen) {
            return Ok(());
        }
        let now = clock::now();
        let mut tx = app.db.begin().await?;
        worker::worker_set_status(&mut tx, machine.id, status, frozen, now).await?;
        if stored.0 != status {
            let event = NewEvent {
                actor: if status == WorkerStatus::Unknown { "host".to_owned() } else { format!("worker {name}") },
                kind: status_event(status),
                worker_id: Some(machine.id),
                server_id: None,
                message: status_sentence(name.as_str(), stored.0, status),
                data: serde_json::json!({"from": stored.0, "to": status}),
            };
            event_insert(&mut tx, now, &event).await?;
        }
        tx.commit().await?;
        machine.lock().stored = (status, frozen);
        self.event_recorded();
        tracing::info!(worker.id = %machine.id, worker.name = %name, from = stored.0.as_str(), to = status.as_str(), "the worker's status has changed");
        for server in self.servers_of(machine.id) {
            self.server_changed(server);
        }
        Ok(())
    }

    /// Takes in what a worker says of its servers. What changes is stored at once and wakes
    /// whoever waits for it; what is older than what is known changes nothing.
    pub(crate) async fn take_in(&self, app: &App, machine: &Machine, statuses: Vec<ServerStatus>) -> sqlx::Result<()> {
        if statuses.is_empty() {
            return Ok(());
        }
        let _storing = machine.storing.lock().await;
        let (mut fresh, unheard, released) = self.compare(machine, statuses);
        if !released.is_empty() {
            self.note_released(app, machine, &released).await?;
        }
        if !unheard.is_empty() {
            fresh.extend(self.adopt(app, machine, unheard).await?);
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let stored = self.store(app, machine, &fresh).await;
        if stored.is_err() {
            self.mark_unsaved(&fresh);
        }
        for status in &fresh {
            self.server_changed(status.id);
        }
        stored
    }

    /// Splits statuses into those that say something new of servers known to be this worker's, and
    /// those of servers never heard of; and which servers of others it says are gone from it.
    fn compare(&self, machine: &Machine, statuses: Vec<ServerStatus>) -> (Vec<Arc<ServerStatus>>, Vec<ServerStatus>, Vec<Uuid>) {
        let now = clock::instant();
        let mut fresh = Vec::new();
        let mut unheard = Vec::new();
        let mut woken = Vec::new();
        let mut released = Vec::new();
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        for status in statuses {
            match servers.get_mut(&status.id) {
                Some(held) if held.worker == machine.id => {
                    held.seen = now;
                    held.told |= held.status.as_ref().is_none_or(|known| known.generation <= status.generation);
                    if std::mem::take(&mut held.silence_told) {
                        woken.push(status.id);
                    }
                    match &held.status {
                        Some(known) if known.generation > status.generation || **known == status => {}
                        Some(known) if same_but_usage(known, &status) => {
                            held.status = Some(Arc::new(status));
                            held.unsaved = true;
                        }
                        _ => {
                            let status = Arc::new(status);
                            held.status = Some(Arc::clone(&status));
                            fresh.push(status);
                        }
                    }
                }
                Some(_) if status.phase == Phase::Deleted => released.push(status.id.as_uuid()),
                Some(_) => {
                    tracing::debug!(worker.id = %machine.id, server.id = %status.id, "a worker speaks of another worker's server; it is not heard")
                }
                None => unheard.push(status),
            }
        }
        drop(servers);
        for server in woken {
            self.server_changed(server);
        }
        if !unheard.is_empty() {
            let state = machine.lock();
            unheard.retain(|status| !state.is_stranger(status.id));
        }
        (fresh, unheard, released)
    }

    /// A worker has let go of what was moved away from it.
    async fn note_released(&self, app: &App, machine: &Machine, servers: &[Uuid]) -> sqlx::Result<()> {
        let now = clock::now();
        let mut tx = app.db.begin().await?;
        let gone = release_gone(&mut tx, machine.id, servers, now).await?;
        if gone.is_empty() {
            return Ok(());
        }
        let worker = machine.lock().name.clone();
        for (server, name) in gone {
            let event = NewEvent {
                actor: format!("worker {worker}"),
                kind: "server.released",
                worker_id: Some(machine.id),
                server_id: Some(server),
                message: format!("`{worker}` has let go of `{name}`, which was moved away from it; its files are still there"),
                data: serde_json::Value::Null,
            };
            event_insert(&mut tx, now, &event).await?;
        }
        tx.commit().await?;
        self.event_recorded();
        Ok(())
    }

    /// The server is this worker's from now on, which has not said anything of it yet.
    pub(crate) fn server_moved(&self, server: ServerId, worker: WorkerId) {
        let held = Held { worker, status: None, told: false, seen: clock::instant(), unsaved: false, silence_told: false };
        self.servers.write().unwrap_or_else(PoisonError::into_inner).insert(server, held);
    }

    /// Looks up servers that are new to memory: made since, or none of ours at all.
    async fn adopt(&self, app: &App, machine: &Machine, statuses: Vec<ServerStatus>) -> sqlx::Result<Vec<Arc<ServerStatus>>> {
        let ids: Vec<Uuid> = statuses.iter().map(|status| status.id.as_uuid()).collect();
        let own = report::report_own(&mut *app.db.acquire().await?, machine.id, &ids).await?;
        let (own, strangers): (Vec<_>, Vec<_>) = statuses.into_iter().partition(|status| own.contains(&status.id));
        if !strangers.is_empty() {
            machine.lock().note_strangers(strangers.iter().map(|status| status.id));
        }
        let own: Vec<Arc<ServerStatus>> = own.into_iter().map(Arc::new).collect();
        let now = clock::instant();
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        for status in &own {
            let held =
                Held { worker: machine.id, status: Some(Arc::clone(status)), told: true, seen: now, unsaved: false, silence_told: false };
            servers.insert(status.id, held);
        }
        Ok(own)
    }

    async fn store(&self, app: &App, machine: &Machine, fresh: &[Arc<ServerStatus>]) -> sqlx::Result<()> {
        let now = clock::now();
        let statuses: Vec<&ServerStatus> = fresh.iter().map(AsRef::as_ref).collect();
        let deleted: Vec<Uuid> = fresh.iter().filter(|status| status.phase == Phase::Deleted).map(|status| status.id.as_uuid()).collect();
        let mut tx = app.db.begin().await?;
        report::report_store(&mut tx, machine.id, &statuses, now).await?;
        let gone = if deleted.is_empty() { Vec::new() } else { report::report_gone(&mut tx, machine.id, &deleted, now).await? };
        for (server, name) in &gone {
            let worker = machine.lock().name.clone();
            let event = NewEvent {
                actor: format!("worker {worker}"),
                kind: "server.gone",
                worker_id: Some(machine.id),
                server_id: Some(*server),
                message: format!("server `{name}` is gone from `{worker}`, its ports are free"),
                data: serde_json::Value::Null,
            };
            event_insert(&mut tx, now, &event).await?;
        }
        tx.commit().await?;
        if !gone.is_empty() {
            self.event_recorded();
            let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
            for (server, _) in &gone {
                servers.remove(server);
            }
        }
        Ok(())
    }

    fn mark_unsaved(&self, statuses: &[Arc<ServerStatus>]) {
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        for status in statuses {
            if let Some(held) = servers.get_mut(&status.id) {
                held.unsaved = true;
            }
        }
    }

    /// Writes what nobody waits for: usage, observed revisions, and what could not be written when
    /// it should have been.
    pub(crate) async fn store_rest(&self, app: &App) -> sqlx::Result<()> {
        let mut unsaved: HashMap<_, Vec<Arc<ServerStatus>>> = HashMap::new();
        {
            let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
            for held in servers.values_mut().filter(|held| held.unsaved) {
                held.unsaved = false;
                if let Some(status) = &held.status {
                    unsaved.entry(held.worker).or_default().push(Arc::clone(status));
                }
            }
        }
        let mut failed = None;
        for (worker, statuses) in unsaved {
            let Some(machine) = self.machine(worker) else { continue };
            let _storing = machine.storing.lock().await;
            // What has changed since is on its way by itself, and newer.
            let statuses: Vec<_> = statuses
                .into_iter()
                .filter(|status| self.server_status(status.id).is_some_and(|newest| Arc::ptr_eq(&newest, status)))
                .collect();
            if let Err(error) = self.store(app, &machine, &statuses).await {
                self.mark_unsaved(&statuses);
                failed = Some(error);
            }
        }
        let beats: Vec<BeatFacts> = self
            .machines()
            .iter()
            .filter_map(|machine| {
                let mut state = machine.lock();
                std::mem::take(&mut state.unsaved).then(|| BeatFacts {
                    id: machine.id,
                    observed_revision: state.observed_revision,
                    usage: state.usage,
                    session_epoch: state.epoch,
                    state_seq: state.standing.state_seq,
                })
            })
            .collect();
        if !beats.is_empty() {
            worker::worker_store_beats(&mut *app.db.acquire().await?, &beats).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Tells waiters of servers that have gone silent since the last look.
    pub(crate) fn tell_silences(&self) {
        let limit = {
            let watch = self.watch();
            if !watch.settling().is_zero() {
                return;
            }
            watch.server_unknown_after
        };
        let now = clock::instant();
        let silent: Vec<ServerId> = {
            let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
            let went = servers
                .iter_mut()
                .filter(|(_, held)| !held.silence_told && held.status.is_some() && now.saturating_duration_since(held.seen) >= limit);
            went.map(|(id, held)| {
                held.silence_told = true;
                *id
            })
            .collect()
        };
        for server in silent {
            self.server_changed(server);
        }
    }

    /// Servers by phase and players by server, for `/metrics`. Only servers that tell their players
    /// are among the latter.
    pub(crate) fn server_counts(&self) -> (HashMap<Phase, u64>, BTreeMap<ServerId, u64>) {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        let mut phases = HashMap::new();
        let mut players = BTreeMap::new();
        for (id, held) in servers.iter() {
            let phase = held.status.as_ref().map_or(Phase::Pending, |status| status.phase);
            *phases.entry(phase).or_default() += 1;
            if let Some(told) = held.status.as_ref().and_then(|status| status.players.as_ref()) {
                players.insert(*id, u64::from(told.online));
            }
        }
        (phases, players)
    }
}

/// Usage changes with every look and nobody waits for it; all else is news.
fn same_but_usage(known: &ServerStatus, new: &ServerStatus) -> bool {
    let ServerStatus {
        id,
        generation,
        applied_generation,
        phase,
        pending_restart,
        instance,
        restarts,
        exit,
        players,
        progress,
        backoff_until,
        usage: _,
        conditions,
        extra,
    } = known;
    *id == new.id
        && *generation == new.generation
        && *applied_generation == new.applied_generation
        && *phase == new.phase
        && *pending_restart == new.pending_restart
        && *instance == new.instance
        && *restarts == new.restarts
        && *exit == new.exit
        && *players == new.players
        && *progress == new.progress
        && *backoff_until == new.backoff_until
        && *conditions == new.conditions
        && *extra == new.extra
}

const fn status_event(status: WorkerStatus) -> &'static str {
    match status {
        WorkerStatus::Pending => "worker.pending",
        WorkerStatus::Alive => "worker.alive",
        WorkerStatus::Frozen => "worker.frozen",
        WorkerStatus::Shutdown => "worker.shutdown",
        WorkerStatus::Unknown => "worker.unknown",
    }
}

fn status_sentence(name: &str, from: WorkerStatus, to: WorkerStatus) -> String {
    match (from, to) {
        (_, WorkerStatus::Pending) => format!("`{name}` asks to join"),
        (WorkerStatus::Unknown, WorkerStatus::Alive) => format!("`{name}` is back"),
        (_, WorkerStatus::Alive) => format!("`{name}` is alive"),
        (_, WorkerStatus::Frozen) => format!("`{name}` is frozen: nothing new starts there"),
        (_, WorkerStatus::Shutdown) => format!("`{name}` has shut down"),
        (_, WorkerStatus::Unknown) => format!("`{name}` has gone silent"),
    }
}
