//! A server's log as an unbroken row of lines, whatever host and worker do meanwhile.
//!
//! The feed remembers the last sequence number it has given out. After a lost connection it asks for
//! what follows that one, and drops what it has seen already: no gap, no double. What is truly missing
//! comes as a counted gap.

use std::time::Duration;

use futures_util::StreamExt;
use manman_common::LogSeq;
use manman_common::client::{Client, ClientError, Socket};
use manman_common::logs::{LogEnd, LogFormat, LogGap, LogMessage, LogQuery, records};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::commands::refused;
use crate::failure::Failure;

/// Between two tries to open the log again: quick at first, since a restart takes a second.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// A connection on which nothing arrives for so long is looked at anew: a machine that lost its
/// power closes nothing. The host pings more often than that.
const SILENCE_MAX: Duration = Duration::from_secs(60);

pub(crate) enum Item {
    /// Whole records, some of which may have been seen before: see [`Feed::fresh`].
    Chunk(Bytes),
    Gap(LogGap),
    /// What the person should know: the connection is lost, or here again.
    Word(String),
    End(LogEnd),
}

pub(crate) struct Feed<'a> {
    client: &'a Client,
    server: String,
    /// As the person asked; `tail` counts only until the first line.
    query: LogQuery,
    follow: bool,
    socket: Option<Socket>,
    last: Option<LogSeq>,
    retry: Duration,
    lost: bool,
}

impl<'a> Feed<'a> {
    /// Opens the log; a refusal is an error here and now.
    pub(crate) async fn open(client: &'a Client, server: impl ToString, query: LogQuery) -> Result<Self, Failure> {
        let follow = query.follow.unwrap_or(true);
        let last = query.since_seq;
        let mut feed = Self { client, server: server.to_string(), query, follow, socket: None, last, retry: RETRY_FIRST, lost: false };
        let opened = feed.connect().await;
        feed.socket = Some(opened.map_err(|error| refused("could not open the log", error))?);
        Ok(feed)
    }

    /// The next thing that happens; nothing comes after an end.
    pub(crate) async fn next(&mut self) -> Result<Item, Failure> {
        loop {
            let Some(socket) = &mut self.socket else {
                self.reconnect().await?;
                continue;
            };
            let message = tokio::time::timeout(SILENCE_MAX, socket.next()).await;
            match message {
                Ok(Some(Ok(Message::Binary(chunk)))) => {
                    if self.lost {
                        self.lost = false;
                        self.retry = RETRY_FIRST;
                    }
                    return Ok(Item::Chunk(chunk));
                }
                Ok(Some(Ok(Message::Text(json)))) => match serde_json::from_str(&json) {
                    Ok(LogMessage::Gap(gap)) => {
                        // What is missing is not asked for again.
                        self.saw(gap.to_seq);
                        return Ok(Item::Gap(gap));
                    }
                    Ok(LogMessage::End { reason: LogEnd::WorkerGone | LogEnd::Shutdown }) if self.follow => {
                        self.socket = None;
                        if let Some(word) = self.lost("the log is out of reach; waiting for it") {
                            return Ok(word);
                        }
                    }
                    Ok(LogMessage::End { reason }) => return Ok(Item::End(reason)),
                    // Not asked for: chunks carry the lines. A newer host may say things that we do not know.
                    Ok(LogMessage::Lines { .. }) | Err(_) => {}
                },
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {}
                Ok(None | Some(Err(_)) | Some(Ok(Message::Close(_)))) | Err(_) => {
                    self.socket = None;
                    if !self.follow {
                        return Err(Failure::new("could not read the log to its end").why("the connection was lost").hint("try again"));
                    }
                    if let Some(word) = self.lost("the connection to the host is lost; trying again") {
                        return Ok(word);
                    }
                }
            }
        }
    }

    /// The records of a chunk that have not been given out before, in order.
    pub(crate) fn fresh<'c>(&mut self, chunk: &'c [u8]) -> impl Iterator<Item = manman_common::logs::LogRecord<'c>> + use<'_, 'a, 'c> {
        let last = &mut self.last;
        records(chunk).filter(move |record| {
            let fresh = last.is_none_or(|last| record.seq > last);
            if fresh {
                *last = Some(record.seq);
            }
            fresh
        })
    }

    fn saw(&mut self, seq: LogSeq) {
        self.last = self.last.max(Some(seq));
    }

    /// Says so once, however often it is tried until lines come again.
    fn lost(&mut self, word: &str) -> Option<Item> {
        let said = std::mem::replace(&mut self.lost, true);
        (!said).then(|| Item::Word(word.to_owned()))
    }

    /// One try; an error only where no later one can do better.
    async fn reconnect(&mut self) -> Result<(), Failure> {
        tokio::time::sleep(self.retry).await;
        self.retry = (self.retry * 2).min(RETRY_LONGEST);
        match self.connect().await {
            Ok(socket) => self.socket = Some(socket),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(refused("could not open the log again", error)),
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Socket, ClientError> {
        self.client.websocket(&path(&self.server, &self.query, self.last)).await
    }
}

/// Whether it may work later: the host is starting, the worker is away.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(problem) => problem.status >= 500 || matches!(problem.status, 409 | 429),
        ClientError::Unreachable { .. } | ClientError::Socket { .. } => true,
        ClientError::Status { status, .. } => *status >= 500,
        ClientError::Answer { .. } | ClientError::Token | ClientError::Setup { .. } | ClientError::Endpoint(_) => false,
    }
}

/// Where lines are read; with the last one that was seen, those after it.
pub(crate) fn path(server: &str, query: &LogQuery, last: Option<LogSeq>) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    match (last, query.tail) {
        (Some(last), _) => {
            pairs.append_pair("since_seq", &last.to_string());
        }
        (None, Some(tail)) => {
            pairs.append_pair("tail", &tail.to_string());
        }
        (None, None) => {
            if let Some(at) = query.at {
                pairs.append_pair("at", &at.to_string());
            }
        }
    }
    if let Some(before) = query.before_seq {
        pairs.append_pair("before_seq", &before.to_string());
    }
    if let Some(limit) = query.limit {
        pairs.append_pair("limit", &limit.to_string());
    }
    for (name, wanted) in [("literal", query.literal), ("ignore_case", query.ignore_case)] {
        if wanted {
            pairs.append_pair(name, "true");
        }
    }
    if let Some(follow) = query.follow {
        pairs.append_pair("follow", if follow { "true" } else { "false" });
    }
    if let Some(grep) = &query.grep {
        pairs.append_pair("grep", grep);
    }
    if query.format == Some(LogFormat::Chunk) {
        pairs.append_pair("format", "chunk");
    }
    format!("/server/{server}/log/stream?{}", pairs.finish())
}

#[cfg(test)]
mod tests;
