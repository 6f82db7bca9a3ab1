//! What a registry does by itself: lets records lapse on time, asks services for their names, and
//! saves what has changed.

use std::sync::Arc;
use std::time::Duration;

use manman_common::error::chain;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::store::{self, Change, Keep, StoreError};
use super::{Registry, probe};

/// Also how a standstill of this process is noticed.
const TICK: Duration = Duration::from_secs(1);
/// Services that are asked for their name at once.
const PROBES_MAX: usize = 64;
/// What changes together is saved together.
const GATHER: Duration = Duration::from_millis(100);
/// Times that were renewed since are lost by a crash, and its services register again.
const RENEWED_EVERY: Duration = Duration::from_secs(2);
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Registry {
    /// Takes in what was kept. To be called once, before anybody registers.
    pub async fn restore(&self) -> Result<(), StoreError> {
        let records = match &self.0.keep {
            Keep::Nowhere => Vec::new(),
            Keep::File(path) => store::read(path)?,
            Keep::Store(store) => store.load().await?,
        };
        let wall = self.0.clock.wall();
        let count = self.with(|state, now| state.restore(now, wall, records));
        if count > 0 {
            tracing::info!(services = count, "the registry remembers who was alive");
        }
        Ok(())
    }

    /// Runs until `shutdown`, and saves a last time.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::join!(self.watch(&shutdown), self.save_all(&shutdown));
    }

    async fn watch(&self, shutdown: &CancellationToken) {
        let places = Arc::new(Semaphore::new(PROBES_MAX));
        let mut probes = JoinSet::new();
        loop {
            let free = places.available_permits();
            let (due, next) = self.with(|state, now| {
                let due = state.due(now, free);
                (due, state.next().map(|next| next.since(now)))
            });
            for due in due {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let registry = self.clone();
                probes.spawn(async move {
                    let found = probe::ask(due.address, registry.0.config.probe_within).await;
                    drop(place);
                    registry.with(|state, now| state.probed(now, &due, &found));
                });
            }
            // With no place free, what is due waits for one.
            let wait = if places.available_permits() == 0 { TICK } else { next.map_or(TICK, |next| next.min(TICK)) };
            // Cancel-safe: nothing is taken by one that loses.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
                () = self.0.wake.notified() => {}
                Some(_) = probes.join_next() => {}
            }
        }
    }

    async fn save_all(&self, shutdown: &CancellationToken) {
        if matches!(self.0.keep, Keep::Nowhere) {
            return;
        }
        let mut told = false;
        loop {
            // Cancel-safe: a notification that is lost to a shutdown is made good by the last save.
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.0.changed.notified() => {}
                () = self.0.renewed.notified() => {
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = self.0.changed.notified() => {}
                        () = tokio::time::sleep(RENEWED_EVERY) => {}
                    }
                }
            }
            tokio::time::sleep(GATHER).await;
            match self.save().await {
                Ok(()) => told = false,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(error = chain(&error), "the registry could not be saved; it is tried again");
                    }
                    if shutdown.run_until_cancelled(tokio::time::sleep(SAVE_AGAIN_AFTER)).await.is_none() {
                        break;
                    }
                    self.0.changed.notify_one();
                }
            }
        }
        if let Err(error) = self.save().await {
            tracing::error!(error = chain(&error), "the registry could not be saved a last time");
        }
    }

    async fn save(&self) -> Result<(), StoreError> {
        let wall = self.0.clock.wall();
        let unsaved = self.with(|state, _| std::mem::take(&mut state.unsaved));
        if unsaved.is_empty() {
            return Ok(());
        }
        let saved = match &self.0.keep {
            Keep::Nowhere => Ok(()),
            Keep::File(path) => {
                let (path, services) = (path.clone(), self.with(|state, now| state.records(now, wall)));
                let written = tokio::task::spawn_blocking(move || store::write(&path, services)).await;
                written.unwrap_or_else(|died| Err(StoreError::Foreign(Box::new(died))))
            }
            Keep::Store(store) => {
                let change = |state: &super::State, now, name: &manman_common::wire::registry::ServiceName| Change {
                    record: state.record(now, wall, name),
                    name: name.clone(),
                };
                let changes = self.with(|state, now| unsaved.iter().map(|name| change(state, now, name)).collect());
                store.save(changes).await
            }
        };
        if saved.is_err() {
            self.with(|state, _| state.unsaved.extend(unsaved));
        }
        saved
    }
}
