//! Log streams on demand. Each is a task that reads the server's log from the disk as fast as the
//! host grants: a slow reader lags there and slows nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use manman_common::ServerId;
use manman_common::link::{LOG_WINDOW, ToHost};
use manman_common::logs::{LogEnd, LogQuery};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::transport::{Closed, LogPiece, Outgoing};
use crate::api::error_chain;
use crate::app::Worker;
use crate::logs::{LogItem, LogSession};

/// As many as the host opens at most.
const STREAMS_MAX: usize = 1024;
/// A quarter of the window: while one piece is on its way, the next is being read.
const CHUNK_MAX: usize = (LOG_WINDOW / 4) as usize;
/// No sum of grants may pass this: a host that grants more than it can mean is a broken one.
const CREDIT_MAX: usize = 64 * LOG_WINDOW as usize;
/// A log can be asked for as soon as the host knows its server, and the wish for that may still be on
/// its way here. Shorter than the host waits for a log to open.
const HEARD_OF_WITHIN: Duration = Duration::from_secs(5);

/// The streams of one link; they end with it.
pub(super) struct Streams {
    worker: Arc<Worker>,
    outgoing: Outgoing,
    open: HashMap<u64, Open>,
}

struct Open {
    /// Bytes that may still be sent.
    credit: Arc<Semaphore>,
    task: AbortOnDropHandle<()>,
}

impl Streams {
    pub(super) fn new(worker: Arc<Worker>, outgoing: Outgoing) -> Self {
        Self { worker, outgoing, open: HashMap::new() }
    }

    pub(super) fn open(&mut self, stream: u64, server: ServerId, query: LogQuery) {
        self.open.retain(|_, open| !open.task.is_finished());
        let outgoing = self.outgoing.clone();
        if self.open.len() >= STREAMS_MAX {
            tracing::warn!(server.id = %server, "too many log streams over the link; one is refused");
            tokio::spawn(async move { end(&outgoing, stream, LogEnd::WorkerGone).await });
            return;
        }
        let credit = Arc::new(Semaphore::new(LOG_WINDOW as usize));
        let worker = Arc::clone(&self.worker);
        let granted = Arc::clone(&credit);
        let task = tokio::spawn(async move {
            // A link that has gone has taken its streams with it.
            let _ = follow(&worker, &outgoing, stream, server, query, &granted).await;
        });
        self.open.insert(stream, Open { credit, task: AbortOnDropHandle::new(task) });
    }

    pub(super) fn credit(&self, stream: u64, bytes: u64) {
        if let Some(open) = self.open.get(&stream) {
            let room = CREDIT_MAX.saturating_sub(open.credit.available_permits());
            open.credit.add_permits(usize::try_from(bytes).unwrap_or(usize::MAX).min(room));
        }
    }

    pub(super) fn close(&mut self, stream: u64) {
        self.open.remove(&stream);
    }
}

async fn follow(
    worker: &Worker,
    outgoing: &Outgoing,
    stream: u64,
    server: ServerId,
    query: LogQuery,
    credit: &Semaphore,
) -> Result<(), Closed> {
    let mut session = match open(worker, server, &query).await {
        Some(session) => session,
        None => return end(outgoing, stream, LogEnd::ServerGone).await,
    };
    let (first_seq, last_seq) = (session.first_seq(), session.last_seq());
    outgoing.send_log(LogPiece::Frame(ToHost::LogOpened { stream, first_seq, last_seq })).await?;
    loop {
        match session.next(CHUNK_MAX).await {
            Ok(LogItem::Chunk(records)) => {
                let bytes = u32::try_from(records.len()).unwrap_or(u32::MAX);
                match credit.acquire_many(bytes).await {
                    Ok(spent) => spent.forget(),
                    Err(_) => return Ok(()),
                }
                outgoing.send_log(LogPiece::Chunk { stream, records }).await?;
            }
            Ok(LogItem::Gap(gap)) => outgoing.send_log(LogPiece::Frame(ToHost::LogGap { stream, gap })).await?,
            Ok(LogItem::End(reason)) => return end(outgoing, stream, reason).await,
            Err(error) => {
                tracing::error!(server.id = %server, error = error_chain(&error), "a log can not be read any more");
                return end(outgoing, stream, LogEnd::ServerGone).await;
            }
        }
    }
}

/// The log of a server that this worker has, or had and has kept the log of.
async fn open(worker: &Worker, server: ServerId, query: &LogQuery) -> Option<LogSession> {
    if !tokio::time::timeout(HEARD_OF_WITHIN, has_log(worker, server)).await.unwrap_or(false) {
        return None;
    }
    let book = match worker.log_of(server).await {
        Ok(book) => book,
        Err(error) => {
            tracing::error!(server.id = %server, error = error_chain(&error), "a log can not be opened");
            return None;
        }
    };
    match LogSession::open(&book, query) {
        Ok(session) => Some(session),
        Err(problem) => {
            // The host checks the query before it asks; this is for one that does not.
            tracing::warn!(server.id = %server, %problem, "a log was asked for in a way that is not understood");
            None
        }
    }
}

/// Waits until the server has been heard of.
async fn has_log(worker: &Worker, server: ServerId) -> bool {
    let mut statuses = worker.watch_statuses();
    loop {
        match worker.records().await {
            Ok(records) => {
                if let Some(record) = records.iter().find(|record| record.spec.id == server) {
                    return !record.tried.purged;
                }
            }
            Err(_) => return false,
        }
        if statuses.changed().await.is_err() {
            return false;
        }
    }
}

async fn end(outgoing: &Outgoing, stream: u64, end: LogEnd) -> Result<(), Closed> {
    outgoing.send_log(LogPiece::Frame(ToHost::LogEnded { stream, end })).await
}
