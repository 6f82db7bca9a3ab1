//! A live link: where frames to the worker go in, and where answers and log bytes come out. What
//! carries the frames, a WebSocket or a long poll, is not known here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use manman_common::error::GoneReason;
use manman_common::link::{Call, LOG_WINDOW, Reply, ToWorker};
use manman_common::logs::{LogEnd, LogQuery};
use manman_common::{CommandId, ServerId, SessionEpoch};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::log_queue::{LogQueue, Overrun, Piece};

/// Frames on their way to a worker; one that does not take them any more is cut off.
pub(crate) const OUT_MAX: usize = 1024;
/// Calls that wait for their answers at one time.
const CALLS_MAX: usize = 256;
/// Log streams over one link at one time.
const STREAMS_MAX: usize = 1024;
/// Credit goes back in pieces of this size: often enough that the worker never runs dry, seldom
/// enough that it costs nothing.
const CREDIT_STEP: u64 = LOG_WINDOW / 4;

/// Why the host ends a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Farewell {
    /// Without a reason the worker may come back at once.
    pub(crate) reason: Option<GoneReason>,
    pub(crate) detail: String,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) epoch: SessionEpoch,
    out: mpsc::Sender<ToWorker>,
    calls: Mutex<HashMap<CommandId, oneshot::Sender<Reply>>>,
    streams: Mutex<HashMap<u64, Arc<LogQueue>>>,
    last_stream: AtomicU64,
    /// What the worker should do has changed.
    pub(crate) desired: Notify,
    closed: CancellationToken,
    farewell: Mutex<Option<Farewell>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("too many requests wait for this worker")]
    Busy,
    #[error("the link broke before the request was sent")]
    NotSent,
    #[error("the link broke before the worker answered")]
    Lost,
    #[error("the worker did not answer in time")]
    Timeout,
}

impl Link {
    pub(crate) fn new(epoch: SessionEpoch) -> (Arc<Self>, mpsc::Receiver<ToWorker>) {
        let (out, frames) = mpsc::channel(OUT_MAX);
        let link = Self {
            epoch,
            out,
            calls: Mutex::default(),
            streams: Mutex::default(),
            last_stream: AtomicU64::new(0),
            desired: Notify::new(),
            closed: CancellationToken::new(),
            farewell: Mutex::default(),
        };
        (Arc::new(link), frames)
    }

    /// Puts a frame on its way; a worker that has left a thousand unread is cut off.
    pub(crate) fn send(&self, frame: ToWorker) -> bool {
        if self.closed.is_cancelled() {
            return false;
        }
        match self.out.try_send(frame) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.close(Farewell { reason: None, detail: "the worker does not read what it is sent".to_owned() });
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Ends the link, once: callers and readers of logs hear of it at once.
    pub(crate) fn close(&self, farewell: Farewell) {
        self.farewell.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(farewell);
        self.closed.cancel();
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let streams = std::mem::take(&mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner));
        for queue in streams.into_values() {
            // An end always fits; an overrun would have ended it before.
            let _ = queue.push(Piece::End(LogEnd::WorkerGone));
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(crate) fn farewell(&self) -> Option<Farewell> {
        self.farewell.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a request and waits for its answer. It is never sent twice.
    pub(crate) async fn call(&self, call: Call, within: Duration) -> Result<Reply, CallError> {
        let id = call.id;
        let (answer, answered) = oneshot::channel();
        {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            if calls.len() >= CALLS_MAX {
                return Err(CallError::Busy);
            }
            calls.insert(id, answer);
        }
        let _forget = Forget { link: self, id };
        if !self.send(ToWorker::Call(call)) {
            return Err(CallError::NotSent);
        }
        match tokio::time::timeout(within, answered).await {
            Ok(Ok(reply)) => {
                self.send(ToWorker::RepliesStored { ids: vec![id] });
                Ok(reply)
            }
            Ok(Err(_)) => Err(CallError::Lost),
            Err(_) => Err(CallError::Timeout),
        }
    }

    /// An answer has come; one that nobody waits for any more is dropped, and need not be kept.
    pub(crate) fn answered(&self, id: CommandId, reply: Reply) {
        let waiting = self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let taken = waiting.is_some_and(|answer| answer.send(reply).is_ok());
        if !taken {
            self.send(ToWorker::RepliesStored { ids: vec![id] });
        }
    }

    /// Opens a stream of a server's log; `None` where the link is closed or has too many.
    pub(crate) fn open_log(self: &Arc<Self>, server: ServerId, query: LogQuery) -> Option<LogFeed> {
        let stream = self.last_stream.fetch_add(1, Ordering::Relaxed) + 1;
        let queue = Arc::new(LogQueue::default());
        {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            if streams.len() >= STREAMS_MAX || self.is_closed() {
                return None;
            }
            streams.insert(stream, Arc::clone(&queue));
        }
        let feed = LogFeed { link: Arc::clone(self), stream, queue, taken: 0 };
        self.send(ToWorker::LogOpen { stream, server, query }).then_some(feed)
    }

    /// Something has come for a log stream; what is for a closed one is dropped.
    pub(crate) fn log(&self, stream: u64, piece: Piece) -> Result<(), Overrun> {
        let ends = matches!(piece, Piece::End(_));
        let queue = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            if ends { streams.remove(&stream) } else { streams.get(&stream).cloned() }
        };
        queue.map_or(Ok(()), |queue| queue.push(piece))
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Takes a call out of the table however its wait ends.
struct Forget<'a> {
    link: &'a Link,
    id: CommandId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.link.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// One reader's stream of a log; dropping it closes the stream at the worker.
#[derive(Debug)]
pub struct LogFeed {
    link: Arc<Link>,
    stream: u64,
    queue: Arc<LogQueue>,
    /// Bytes taken and not yet credited.
    taken: u64,
}

impl LogFeed {
    /// What comes next. Cancel-safe.
    pub async fn next(&self) -> Piece {
        self.queue.take().await
    }

    /// The reader is done with this chunk, so the worker may send as much again.
    pub fn done_with(&mut self, chunk: &Bytes) {
        self.taken += chunk.len() as u64;
        if self.taken >= CREDIT_STEP {
            self.queue.credit(self.taken);
            self.link.send(ToWorker::LogCredit { stream: self.stream, bytes: self.taken });
            self.taken = 0;
        }
    }
}

impl Drop for LogFeed {
    fn drop(&mut self) {
        let open = self.link.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.stream).is_some();
        if open {
            self.link.send(ToWorker::LogClose { stream: self.stream });
        }
    }
}
