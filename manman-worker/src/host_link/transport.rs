//! Frames to and from the host, by whichever way is open. What is above here does not know which.

mod poll;
mod socket;

use std::time::Duration;

use bytes::Bytes;
use manman_common::Problem;
use manman_common::client::ClientError;
use manman_common::link::{ToHost, ToWorker};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

pub(super) use poll::open_poll;
pub(super) use socket::open_socket;

/// Frames that may wait to be written: some rounds of statuses and replies.
const CONTROL_QUEUE: usize = 256;
/// Chunks of logs that may wait; each is at most 64 KiB or so, and each stream has its own credit.
const LOG_QUEUE: usize = 32;
const INCOMING_QUEUE: usize = 64;
/// A link that has been silent for so long, pings unanswered, is dead.
const SILENCE_MAX: Duration = Duration::from_secs(20);
const PING_EVERY: Duration = Duration::from_secs(5);

/// An open link. Dropping it closes it.
pub(super) struct Connection {
    pub(super) outgoing: Outgoing,
    /// Ends with the one error that broke the link.
    pub(super) incoming: mpsc::Receiver<Result<ToWorker, LinkBroken>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// The sending half: frames overtake log chunks, and both queues are bounded.
#[derive(Clone)]
pub(super) struct Outgoing {
    control: mpsc::Sender<ToHost>,
    log: mpsc::Sender<LogPiece>,
}

/// What belongs to a log stream, in its order.
pub(super) enum LogPiece {
    Chunk { stream: u64, records: Bytes },
    Frame(ToHost),
}

/// The link has gone, and nothing more can be sent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

impl Outgoing {
    pub(super) async fn send(&self, frame: ToHost) -> Result<(), Closed> {
        self.control.send(frame).await.map_err(|_| Closed)
    }

    pub(super) async fn send_log(&self, piece: LogPiece) -> Result<(), Closed> {
        self.log.send(piece).await.map_err(|_| Closed)
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LinkBroken {
    #[error("the link was lost")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the host closed the link")]
    Closed,
    #[error("nothing came from the host for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the host sent a frame that is not understood")]
    Frame(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the worker could not store what the host wants")]
    Store,
    #[error("the host refused the link")]
    Refused(#[source] Box<Problem>),
}

impl From<ClientError> for LinkBroken {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(problem) => Self::Refused(problem),
            other => Self::Lost(Box::new(other)),
        }
    }
}
