//! The link as a WebSocket.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use manman_common::WorkerId;
use manman_common::client::{Client, ClientError, Socket};
use manman_common::link::{ToHost, ToWorker, encode_log_chunk};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::AbortOnDropHandle;

use super::{CONTROL_QUEUE, Connection, INCOMING_QUEUE, LOG_QUEUE, LinkBroken, LogPiece, Outgoing, PING_EVERY, SILENCE_MAX};

/// Pieces of logs that are handed to the socket before it is flushed.
const BATCH_MAX: usize = 16;

/// Dials the host's `GET /worker/{id}/link`.
pub(in crate::host_link) async fn open_socket(client: &Client, worker: WorkerId) -> Result<Connection, ClientError> {
    let socket = client.websocket(&format!("/worker/{worker}/link")).await?;
    let (sink, stream) = socket.split();
    let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
    let (log, log_queue) = mpsc::channel(LOG_QUEUE);
    let (frames, incoming) = mpsc::channel(INCOMING_QUEUE);
    let writer_errors = frames.clone();
    let writer = tokio::spawn(async move {
        if let Err(error) = write(sink, control_queue, log_queue).await {
            // The reader may have told of the loss first; one of them is enough.
            let _ = writer_errors.send(Err(error)).await;
        }
    });
    let reader = tokio::spawn(async move {
        let error = read(stream, &frames).await;
        let _ = frames.send(Err(error)).await;
    });
    Ok(Connection {
        outgoing: Outgoing { control, log },
        incoming,
        _tasks: vec![AbortOnDropHandle::new(writer), AbortOnDropHandle::new(reader)],
    })
}

async fn read(mut stream: SplitStream<Socket>, frames: &mpsc::Sender<Result<ToWorker, LinkBroken>>) -> LinkBroken {
    loop {
        let message = match timeout(SILENCE_MAX, stream.next()).await {
            Err(_) => return LinkBroken::Silent,
            Ok(None) => return LinkBroken::Closed,
            Ok(Some(Err(error))) => return LinkBroken::Lost(Box::new(error)),
            Ok(Some(Ok(message))) => message,
        };
        let frame = match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(frame) => frame,
                Err(error) => return LinkBroken::Frame(Box::new(error)),
            },
            Message::Close(_) => return LinkBroken::Closed,
            Message::Binary(_) => return LinkBroken::Frame("a binary message from the host".into()),
            // A ping is answered by the socket itself; both are signs of life.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        if frames.send(Ok(frame)).await.is_err() {
            return LinkBroken::Closed;
        }
    }
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut control: mpsc::Receiver<ToHost>,
    mut log: mpsc::Receiver<LogPiece>,
) -> Result<(), LinkBroken> {
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Biased, so that statuses and replies overtake however much log there is. Cancel-safe: the
        // three take nothing unless they win, and the writing itself is outside.
        let next = tokio::select! {
            biased;
            frame = control.recv() => match frame {
                Some(frame) => Next::Message(text(&frame)?),
                None => return Ok(()),
            },
            _ = ping.tick() => Next::Message(Message::Ping(Bytes::new())),
            piece = log.recv() => match piece {
                Some(piece) => Next::Log(piece),
                None => return Ok(()),
            },
        };
        let writing = async {
            match next {
                Next::Message(message) => sink.send(message).await.map_err(lost),
                Next::Log(piece) => write_log(&mut sink, piece, &mut log).await,
            }
        };
        // A host that takes nothing for so long is as good as gone, whatever it still says.
        timeout(SILENCE_MAX, writing).await.map_err(|_| LinkBroken::Silent)??;
    }
}

enum Next {
    Message(Message),
    Log(LogPiece),
}

/// Writes a piece and those that already wait behind it, with one flush.
async fn write_log(sink: &mut SplitSink<Socket, Message>, first: LogPiece, queue: &mut mpsc::Receiver<LogPiece>) -> Result<(), LinkBroken> {
    let mut written = 0;
    let mut next = Some(first);
    while let Some(piece) = next {
        let message = match piece {
            LogPiece::Chunk { stream, records } => Message::Binary(encode_log_chunk(stream, &records).into()),
            LogPiece::Frame(frame) => text(&frame)?,
        };
        sink.feed(message).await.map_err(lost)?;
        written += 1;
        next = if written < BATCH_MAX { queue.try_recv().ok() } else { None };
    }
    sink.flush().await.map_err(lost)
}

fn text(frame: &ToHost) -> Result<Message, LinkBroken> {
    let json = serde_json::to_string(frame).map_err(|error| LinkBroken::Frame(Box::new(error)))?;
    Ok(Message::Text(json.into()))
}

fn lost(error: tokio_tungstenite::tungstenite::Error) -> LinkBroken {
    LinkBroken::Lost(Box::new(error))
}
