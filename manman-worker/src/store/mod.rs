//! The worker's memory: what it was told and what it tried, in SQLite.
//!
//! One thread owns the connection; everybody else sends it closures over a bounded channel, so no
//! transaction is ever open across an `.await`. Every commit is on the disk when it is answered
//! (`synchronous=FULL`). Nothing in here says that a game runs.

mod actions;
mod calls;
mod error;
mod identity;
mod meta;
mod migrations;
mod open;
mod outbox;
mod records;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

pub use calls::CallState;
pub use error::StoreError;
pub use meta::Meta;
pub use open::{Opened, SetAside, peek};
pub use outbox::NewEvent;
pub use records::{Commit, Loaded};

/// Jobs that may wait for the thread. One commit takes about as long as the disk's flush, so a full
/// queue is seconds of work; who finds it full waits.
const QUEUE_MAX: usize = 256;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Cheap to clone. The thread ends, and the file is closed, with the last clone.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    event_seq: Arc<watch::Sender<u64>>,
    /// What is on the disk; never ahead of it.
    state_seq: Arc<AtomicU64>,
    identity: Arc<identity::IdentityFile>,
}

impl Store {
    fn spawn(mut connection: Connection, begin: Counters, identity: identity::IdentityFile) -> Result<Self, StoreError> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE_MAX);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|source| StoreError::Thread { source })?;
        Ok(Self {
            jobs,
            event_seq: Arc::new(watch::Sender::new(begin.event_seq)),
            state_seq: Arc::new(AtomicU64::new(begin.state_seq)),
            identity: Arc::new(identity),
        })
    }

    /// How many transactions have changed this database, over all of its life.
    #[must_use]
    pub fn state_seq(&self) -> u64 {
        self.state_seq.load(Ordering::Acquire)
    }

    /// Runs `work` in one transaction on the store's thread: all of it is kept or nothing. One that
    /// changes anything counts itself.
    async fn transaction<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let state_seq = Arc::clone(&self.state_seq);
        let job: Job = Box::new(move |connection| {
            let result = (|| {
                let before = connection.total_changes();
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|source| StoreError::sql(what, source))?;
                let value = work(&transaction)?;
                let counted = if transaction.total_changes() == before { None } else { Some(count(&transaction, what)?) };
                transaction.commit().map_err(|source| StoreError::sql(what, source))?;
                if let Some(counted) = counted {
                    state_seq.store(counted, Ordering::Release);
                }
                Ok(value)
            })();
            // Whoever asked may have been dropped meanwhile; the work is done all the same.
            let _ = answer.send(result);
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

/// What the store's numbers are when it is opened.
#[derive(Clone, Copy, Debug)]
struct Counters {
    event_seq: u64,
    state_seq: u64,
}

fn count(transaction: &rusqlite::Transaction<'_>, what: &'static str) -> Result<u64, StoreError> {
    let next: i64 = transaction
        .query_row("UPDATE meta SET state_seq = state_seq + 1 RETURNING state_seq", [], |row| row.get(0))
        .map_err(|source| StoreError::sql(what, source))?;
    Ok(u64::try_from(next).unwrap_or(0))
}

#[cfg(test)]
mod tests;
