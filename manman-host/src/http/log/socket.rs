//! The log as a WebSocket.

use std::ops::ControlFlow;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use manman_common::logs::{LogEnd, LogFormat, LogMessage};
use tokio::time::MissedTickBehavior;

use super::render;
use crate::fleet::readers::Tenure;
use crate::fleet::{LogFeed, Piece};

/// A reader of logs has nothing to say.
pub(super) const CLIENT_MESSAGE_MAX: usize = 4096;
pub(super) const WRITE_BUFFER: usize = 128 * 1024;

const PING_EVERY: Duration = Duration::from_secs(30);
/// Pings in a row that a client may leave unanswered.
const SILENT_PINGS_MAX: u32 = 4;
/// A client that takes nothing for so long is as good as gone. Long, since a tab in the background
/// may sleep, and it costs one window of memory.
const WRITE_WITHIN: Duration = Duration::from_secs(600);
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);
/// How long a client may take to read what was sent before the farewell.
const READ_OUT_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn serve(socket: WebSocket, feed: LogFeed, tenure: Tenure, format: LogFormat) {
    let (sink, stream) = socket.split();
    let mut reader = Reader { sink, stream, feed, tenure, format };
    let end = reader.run().await;
    if let Some(end) = end {
        let words = async {
            reader.sink.feed(Message::Text(render::json(&LogMessage::End { reason: end }).into())).await?;
            reader.sink.send(Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }))).await
        };
        // A client that is gone hears nothing, and that is all right.
        if matches!(tokio::time::timeout(FAREWELL_WITHIN, words).await, Ok(Ok(()))) {
            // To close on an unread word of the client's, such as its answer to a ping, resets the
            // connection, and takes from it what it has not read yet.
            let read_out = async { while matches!(reader.stream.next().await, Some(Ok(_))) {} };
            let _ = tokio::time::timeout(READ_OUT_WITHIN, read_out).await;
        }
    }
}

struct Reader {
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    feed: LogFeed,
    tenure: Tenure,
    format: LogFormat,
}

impl Reader {
    /// Passes on until something ends it; `None` where the client has gone.
    async fn run(&mut self) -> Option<LogEnd> {
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut unanswered = 0;
        loop {
            // Cancel-safe: each of them takes nothing unless it wins.
            let message = tokio::select! {
                piece = self.feed.next() => match self.pass_on(piece).await {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(end) => return end,
                },
                end = self.tenure.over() => return Some(end),
                heard = self.stream.next() => match heard {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {
                        unanswered = 0;
                        continue;
                    }
                },
                _ = pings.tick() => {
                    unanswered += 1;
                    if unanswered > SILENT_PINGS_MAX {
                        return None;
                    }
                    Message::Ping(Bytes::new())
                }
            };
            if let ControlFlow::Break(end) = self.send(message).await {
                return end;
            }
        }
    }

    async fn pass_on(&mut self, piece: Piece) -> ControlFlow<Option<LogEnd>> {
        match piece {
            Piece::Opened { .. } => ControlFlow::Continue(()),
            Piece::Chunk(chunk) => {
                let message = match self.format {
                    LogFormat::Chunk => Some(Message::Binary(chunk.clone())),
                    LogFormat::Json => render::lines(&chunk).map(|lines| Message::Text(render::json(&lines).into())),
                };
                if let Some(message) = message {
                    self.send(message).await?;
                }
                self.feed.done_with(&chunk);
                ControlFlow::Continue(())
            }
            Piece::Gap(gap) => self.send(Message::Text(render::json(&LogMessage::Gap(gap)).into())).await,
            Piece::End(end) => ControlFlow::Break(Some(end)),
        }
    }

    /// Sends, and does not wait longer for a slow client than its token is good.
    async fn send(&mut self, message: Message) -> ControlFlow<Option<LogEnd>> {
        // Cut off only where the stream ends anyway.
        tokio::select! {
            sent = tokio::time::timeout(WRITE_WITHIN, self.sink.send(message)) => match sent {
                Ok(Ok(())) => ControlFlow::Continue(()),
                Ok(Err(_)) | Err(_) => ControlFlow::Break(None),
            },
            end = self.tenure.over() => ControlFlow::Break(Some(end)),
        }
    }
}
