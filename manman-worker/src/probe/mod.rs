//! Watches over running games: takes their output into their logs, tells when they are ready, who
//! plays on them, and what they use.

mod ears;
mod hang;
mod quake;
mod query;
mod ready;
mod roster;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use manman_common::spec::StopStep;
use manman_common::{InstanceId, Problem, ServerId, ServerSpec};
use manman_worker_core::{Instance, InstanceState};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;

use crate::api::error_chain;
use crate::console::{Console, Target};
use crate::driver::Driver;
use crate::logs::LogBooks;
use crate::metrics::Metrics;
use crate::reconcile::signals::{Climbed, SignalSender, Supervision, Watched};

/// Words of the manager's that may wait for a slow disk.
const NOTES_MAX: usize = 1024;

/// The supervision of every instance of this worker.
pub struct Supervisor {
    books: LogBooks,
    signals: SignalSender,
    console: Console,
    metrics: Metrics,
    notes: mpsc::Sender<Note>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<(ServerId, InstanceId), Entry>,
    /// Servers whose log was deleted: a late word does not bring it back.
    purged: HashSet<ServerId>,
}

struct Note {
    server: ServerId,
    text: String,
}

/// What goes on for one instance; ends with it.
struct Entry {
    watched: channel::Sender<Watched>,
    drained: channel::Receiver<bool>,
    _tasks: JoinSet<()>,
}

impl Supervisor {
    /// Needs a running tokio.
    #[must_use]
    pub fn new(books: LogBooks, signals: SignalSender, metrics: Metrics) -> Arc<Self> {
        let (notes, waiting) = mpsc::channel(NOTES_MAX);
        let inner = Arc::<Mutex<Inner>>::default();
        // Ends when the supervisor has gone.
        tokio::spawn(write_notes(books.clone(), Arc::clone(&inner), waiting));
        let console = Console::new(books.clone(), signals.clone());
        Arc::new(Self { books, signals, console, metrics, notes, inner })
    }

    /// The way into the games' consoles, which stop plans and people share.
    #[must_use]
    pub fn console(&self) -> Console {
        self.console.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Supervision for Supervisor {
    fn watch(&self, watched: Watched) {
        // One that has not been started prints nothing yet, and its log can not be followed.
        if watched.instance.state == InstanceState::Created {
            return;
        }
        let mut inner = self.inner();
        let key = (watched.instance.server, watched.instance.id);
        if let Some(entry) = inner.entries.get(&key) {
            entry.watched.send_if_modified(|known| {
                let changed = known.instance != watched.instance || !Arc::ptr_eq(&known.spec, &watched.spec) && known.spec != watched.spec;
                if changed {
                    *known = watched;
                }
                changed
            });
            return;
        }
        inner.purged.remove(&key.0);
        let (watched, changes) = channel::channel(watched);
        let (done, drained) = channel::channel(false);
        let mut tasks = JoinSet::new();
        let ways = watch::Ways { console: self.console.clone(), signals: self.signals.clone(), metrics: self.metrics.clone() };
        tasks.spawn(watch::run(self.books.clone(), ways, changes, done));
        inner.entries.insert(key, Entry { watched, drained, _tasks: tasks });
    }

    fn unwatch(&self, server: ServerId, instance: InstanceId) {
        self.inner().entries.remove(&(server, instance));
    }

    async fn drain(&self, server: ServerId, instance: InstanceId) {
        let drained = self.inner().entries.get(&(server, instance)).map(|entry| entry.drained.clone());
        if let Some(mut drained) = drained {
            // An error means that the watch has ended, and so that there is nothing to wait for.
            let _ = drained.wait_for(|drained| *drained).await;
        }
    }

    fn note(&self, server: ServerId, text: String) {
        if self.notes.try_send(Note { server, text }).is_err() {
            tracing::warn!(server.id = %server, "a word for a server's log is lost: too many wait for the disk");
        }
    }

    async fn climb(
        &self,
        spec: &ServerSpec,
        instance: &Instance,
        driver: &dyn Driver,
        step: &StopStep,
        within: Duration,
    ) -> Result<Climbed, Problem> {
        self.console.climb(&Target { spec, instance, driver }, step, within).await
    }

    async fn purge(&self, server: ServerId) -> std::io::Result<()> {
        {
            let mut inner = self.inner();
            inner.entries.retain(|(of, _), _| *of != server);
            inner.purged.insert(server);
        }
        // Samples are no data of anybody's: a purge does not fail for them, and they end within a week.
        if let Err(error) = self.metrics.purge(server).await {
            tracing::warn!(server.id = %server, error = error_chain(&error), "a purged server's history of metrics stays");
        }
        let books = self.books.clone();
        tokio::task::spawn_blocking(move || books.purge(server)).await.map_err(std::io::Error::other)?
    }
}

async fn write_notes(books: LogBooks, inner: Arc<Mutex<Inner>>, mut waiting: mpsc::Receiver<Note>) {
    while let Some(Note { server, text }) = waiting.recv().await {
        let (books, inner) = (books.clone(), Arc::clone(&inner));
        let written = tokio::task::spawn_blocking(move || {
            if lock(&inner).purged.contains(&server) {
                return Ok(());
            }
            books.open(server)?.note(&text)
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(server.id = %server, %error, "a word for a server's log could not be written");
        }
    }
}
