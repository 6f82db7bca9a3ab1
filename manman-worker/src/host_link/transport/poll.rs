//! The link as a long poll, for networks that let no WebSocket through.
//!
//! One round is under way at a time. A round that gets no answer is sent again under its number,
//! and the host answers it as before, so that nothing is carried out twice and nothing is lost.

use manman_common::client::{Client, ClientError};
use manman_common::link::{PollRequest, ToHost, ToWorker};
use manman_common::{SessionEpoch, WorkerId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{CONTROL_QUEUE, Connection, INCOMING_QUEUE, LOG_QUEUE, LinkBroken, LogPiece, Outgoing, SILENCE_MAX};
use crate::clock;

/// Frames of one round.
const FRAMES_MAX: usize = 256;
/// Bytes of log in one round: well below the longest body that a host takes.
const LOG_BYTES_MAX: usize = 512 * 1024;

pub(in crate::host_link) fn open_poll(client: &Client, worker: WorkerId, epoch: SessionEpoch) -> Connection {
    let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
    let (log, log_queue) = mpsc::channel(LOG_QUEUE);
    let (frames, incoming) = mpsc::channel(INCOMING_QUEUE);
    let poll = Poll { client: client.clone(), worker, epoch, control: control_queue, log: log_queue };
    let task = tokio::spawn(async move {
        let error = poll.run(&frames).await;
        let _ = frames.send(Err(error)).await;
    });
    Connection { outgoing: Outgoing { control, log }, incoming, _tasks: vec![AbortOnDropHandle::new(task)] }
}

struct Poll {
    client: Client,
    worker: WorkerId,
    epoch: SessionEpoch,
    control: mpsc::Receiver<ToHost>,
    log: mpsc::Receiver<LogPiece>,
}

impl Poll {
    async fn run(mut self, incoming: &mpsc::Sender<Result<ToWorker, LinkBroken>>) -> LinkBroken {
        for round in 1.. {
            let request = PollRequest { session_epoch: self.epoch, round, frames: self.collect() };
            let answer = match self.ask(&request).await {
                Ok(frames) => frames,
                Err(error) => return error.into(),
            };
            for frame in answer {
                if incoming.send(Ok(frame)).await.is_err() {
                    return LinkBroken::Closed;
                }
            }
        }
        LinkBroken::Closed
    }

    /// What waits to be sent.
    fn collect(&mut self) -> Vec<ToHost> {
        let mut frames = Vec::new();
        while frames.len() < FRAMES_MAX
            && let Ok(frame) = self.control.try_recv()
        {
            frames.push(frame);
        }
        let mut bytes = 0;
        while frames.len() < FRAMES_MAX
            && bytes < LOG_BYTES_MAX
            && let Ok(piece) = self.log.try_recv()
        {
            frames.push(match piece {
                LogPiece::Chunk { stream, records } => {
                    bytes += records.len();
                    ToHost::LogChunk { stream, chunk: String::from_utf8_lossy(&records).into_owned() }
                }
                LogPiece::Frame(frame) => frame,
            });
        }
        frames
    }

    async fn ask(&self, request: &PollRequest) -> Result<Vec<ToWorker>, ClientError> {
        let began = Instant::now();
        loop {
            match self.client.worker_poll(self.worker, request).await {
                Ok(answer) => return Ok(answer.frames),
                Err(error) if error.is_unreachable() && began.elapsed() < SILENCE_MAX => {
                    tokio::time::sleep(clock::jitter_up_to(std::time::Duration::from_secs(2))).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
