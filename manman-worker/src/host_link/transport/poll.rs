//! The link as a long poll, for networks that let no WebSocket through.
//!
//! A round waits at the host until there is something to say. Whatever this worker has to say goes
//! with the next round, which sets the waiting one free; so at most two are under way, and they are
//! taken in their order. A round that gets no answer is sent again under its number, and the host
//! answers it as before: nothing is carried out twice and nothing is lost.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
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
const LOG_BYTES_MAX: usize = 256 * 1024;
/// One that waits at the host, and one that sets it free.
const ROUNDS_MAX: usize = 2;
/// Before a round without an answer is sent again.
const AGAIN_WITHIN: Duration = Duration::from_secs(2);

pub(in crate::host_link) fn open_poll(client: &Client, worker: WorkerId, epoch: SessionEpoch) -> Connection {
    let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
    let (log, log_queue) = mpsc::channel(LOG_QUEUE);
    let (frames, incoming) = mpsc::channel(INCOMING_QUEUE);
    let poll = Poll { client: client.clone(), worker, epoch, round: 0, control: control_queue, log: log_queue };
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
    round: u64,
    control: mpsc::Receiver<ToHost>,
    log: mpsc::Receiver<LogPiece>,
}

impl Poll {
    async fn run(mut self, incoming: &mpsc::Sender<Result<ToWorker, LinkBroken>>) -> LinkBroken {
        let mut rounds = FuturesOrdered::new();
        loop {
            // The first round brings the Hello; later ones may be empty, so that the host can speak.
            if rounds.is_empty() && self.round > 0 {
                let frames = self.collect(None);
                rounds.push_back(self.next_round(frames));
            }
            let room = rounds.len() < ROUNDS_MAX;
            // Cancel-safe: each of these takes nothing unless it wins.
            tokio::select! {
                Some(answer) = rounds.next(), if !rounds.is_empty() => match answer {
                    Ok(frames) => {
                        for frame in frames {
                            if incoming.send(Ok(frame)).await.is_err() {
                                return LinkBroken::Closed;
                            }
                        }
                    }
                    Err(error) => return error.into(),
                },
                frame = self.control.recv(), if room => match frame {
                    Some(frame) => {
                        let frames = self.collect(Some(frame));
                        rounds.push_back(self.next_round(frames));
                    }
                    None => return LinkBroken::Closed,
                },
                piece = self.log.recv(), if room => match piece {
                    Some(piece) => {
                        let mut frames = vec![log_frame(piece)];
                        frames.extend(self.collect(None));
                        rounds.push_back(self.next_round(frames));
                    }
                    None => return LinkBroken::Closed,
                },
            }
        }
    }

    /// What waits to be sent, behind `first`.
    fn collect(&mut self, first: Option<ToHost>) -> Vec<ToHost> {
        let mut frames: Vec<ToHost> = first.into_iter().collect();
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
            if let LogPiece::Chunk { records, .. } = &piece {
                bytes += records.len();
            }
            frames.push(log_frame(piece));
        }
        frames
    }

    fn next_round(&mut self, frames: Vec<ToHost>) -> impl Future<Output = Result<Vec<ToWorker>, ClientError>> + use<> {
        self.round += 1;
        let request = PollRequest { session_epoch: self.epoch, round: self.round, frames };
        let (client, worker) = (self.client.clone(), self.worker);
        async move {
            let began = Instant::now();
            loop {
                match client.worker_poll(worker, &request).await {
                    Ok(answer) => return Ok(answer.frames),
                    Err(error) if error.is_unreachable() && began.elapsed() < SILENCE_MAX => {
                        tokio::time::sleep(clock::jitter_up_to(AGAIN_WITHIN)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

fn log_frame(piece: LogPiece) -> ToHost {
    match piece {
        LogPiece::Chunk { stream, records } => ToHost::LogChunk { stream, chunk: as_text(&records) },
        LogPiece::Frame(frame) => frame,
    }
}

/// JSON carries no bytes that are not UTF-8. Each is shown by one character of one byte: a longer
/// one could overrun what the host has granted.
fn as_text(records: &[u8]) -> String {
    let mut text = String::with_capacity(records.len());
    for chunk in records.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n('?', chunk.invalid().len()));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_is_never_longer_than_its_bytes() {
        assert_eq!(super::as_text("1 t o gr\u{fc}n\n".as_bytes()), "1 t o gr\u{fc}n\n");
        assert_eq!(super::as_text(b"a\xff\xfe b\n"), "a?? b\n");
    }
}
