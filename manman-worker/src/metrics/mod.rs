//! What servers and this machine have used over time: sampled every ten seconds, kept for an hour, a
//! day and a week, each in coarser steps.
//!
//! Nothing here looks at a game. The watch over each instance does so anyway, and notes what it saw.

mod board;
mod machine;
mod sample;
mod store;
mod tier;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manman_common::status::Usage;
use manman_common::wire::{MetricsHistory, MetricsLimits, MetricsRange};
use manman_common::{InstanceId, ServerId};
use tokio::time::Instant;

use self::board::Board;
use self::store::Store;
use self::tier::Sample;
use crate::clock;
pub(crate) use machine::limits as machine_limits;
pub(crate) use sample::run;
pub(crate) use store::{MetricsError, Subject};

/// The history of a worker; clones are the same one.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    board: Mutex<Board>,
    store: Store,
}

impl Metrics {
    /// Kept in `DIRECTORY/metrics.sqlite`, which is opened when it is first needed.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self::with(Store::new(Some(directory.join("metrics.sqlite"))))
    }

    /// Kept for as long as this process lives.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with(Store::new(None))
    }

    fn with(store: Store) -> Self {
        Self { inner: Arc::new(Inner { board: Mutex::default(), store }) }
    }

    /// What an instance was just seen to use.
    pub(crate) fn note(&self, server: ServerId, instance: InstanceId, usage: Usage) {
        self.board().note(server, instance, usage, Instant::now());
    }

    /// What is kept of a subject, up to now.
    pub(crate) async fn history(
        &self,
        subject: Subject,
        range: MetricsRange,
        limits: MetricsLimits,
    ) -> Result<MetricsHistory, MetricsError> {
        let now = seconds();
        let steps = self.on_disk(move |store| store.steps(subject, range, now)).await?;
        Ok(MetricsHistory {
            range,
            step_seconds: range.step_seconds(),
            from: tier::begin(range, now),
            series: tier::series(&steps, subject == Subject::Machine),
            limits,
        })
    }

    /// Deletes a server's history.
    pub(crate) async fn purge(&self, server: ServerId) -> Result<(), MetricsError> {
        self.board().forget(server);
        self.on_disk(move |store| store.remove(server)).await
    }

    async fn add(&self, samples: Vec<(Subject, Sample)>) -> Result<(), MetricsError> {
        let now = seconds();
        self.on_disk(move |store| store.add(now, &samples)).await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, MetricsError> + Send + 'static,
    ) -> Result<T, MetricsError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner.store)).await.map_err(|_| MetricsError::Ended)?
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.inner.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since 1970, by this machine's clock.
fn seconds() -> i64 {
    clock::now().as_micros().div_euclid(1_000_000)
}
