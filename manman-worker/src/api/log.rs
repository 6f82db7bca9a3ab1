//! `GET /server/{id}/log` and `/log/stream`: a server's log as a WebSocket, as server-sent events,
//! or as a page of history.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use futures_util::{SinkExt, StreamExt};
use manman_common::logs::{LogEnd, LogFormat, LogLine, LogMessage, LogQuery, records};
use manman_common::wire::{LogPointer, Page};
use manman_common::{LogSeq, Problem, Timestamp};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::error::{ApiError, ApiResult, query_error};
use super::server::find;
use crate::app::Worker;
use crate::logs::{LogItem, LogSession};

/// Bytes of log of one message.
const MESSAGE_MAX: usize = 64 * 1024;
/// Lines of one page of history.
const PAGE_LINES: usize = 5_000;
/// Bytes of one page: over the link an answer has its limit.
const PAGE_BYTES: usize = 512 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PointerQuery {
    at: Option<Timestamp>,
}

pub(super) async fn pointer(
    State(worker): State<Arc<Worker>>,
    Path(id): Path<String>,
    query: QueryResult<PointerQuery>,
) -> ApiResult<Json<LogPointer>> {
    let Query(PointerQuery { at }) = query.map_err(|error| query_error(&error))?;
    let server = find(&worker, &id).await?.spec.id;
    let unreadable = |error: std::io::Error| ApiError::internal("the log can not be read", &error);
    let book = worker.log_of(server).await.map_err(unreadable)?;
    let at_seq = match at {
        Some(at) => {
            let book = book.clone();
            let found = tokio::task::spawn_blocking(move || book.seq_at(at)).await;
            Some(found.map_err(std::io::Error::other).flatten().map_err(unreadable)?)
        }
        None => None,
    };
    let stream_url = format!("/server/{server}/log/stream");
    let (first_seq, last_seq) = (book.first_seq(), book.last_seq());
    Ok(Json(LogPointer { url: format!("{stream_url}?follow=false"), stream_url, first_seq, last_seq, at_seq }))
}

type QueryResult<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

pub(super) async fn stream(
    State(worker): State<Arc<Worker>>,
    Path(id): Path<String>,
    query: QueryResult<LogQuery>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> ApiResult<Response> {
    let Query(mut query) = query.map_err(|error| query_error(&error))?;
    let server = find(&worker, &id).await?.spec.id;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let wants_events = text(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream"));
    if wants_events && let Some(last) = text("last-event-id") {
        // A browser that lost its connection says what it has.
        let last: u64 = last.parse().map_err(|_| Problem::invalid("last-event-id", "it is not the number of a line"))?;
        query.since_seq = Some(LogSeq::new(last));
    }
    let book = worker.log_of(server).await.map_err(|error| ApiError::internal("the log can not be read", &error))?;
    if let Ok(upgrade) = upgrade {
        let session = LogSession::open(&book, &query)?;
        let chunks = query.format == Some(LogFormat::Chunk);
        return Ok(upgrade.on_upgrade(move |socket| send(socket, session, chunks)));
    }
    if wants_events {
        let session = LogSession::open(&book, &query)?;
        return Ok(Sse::new(events(session)).keep_alive(KeepAlive::default()).into_response());
    }
    let history = LogQuery { follow: Some(false), ..query };
    page(LogSession::open(&book, &history)?).await
}

/// What a log's item is to people and programs that read JSON.
fn message(item: LogItem) -> LogMessage {
    match item {
        LogItem::Chunk(chunk) => LogMessage::Lines { items: records(&chunk).map(|record| record.to_line()).collect() },
        LogItem::Gap(gap) => LogMessage::Gap(gap),
        LogItem::End(reason) => LogMessage::End { reason },
    }
}

/// The next item; a log that can not be read any more has ended.
async fn next(session: &mut LogSession) -> LogItem {
    match session.next(MESSAGE_MAX).await {
        Ok(item) => item,
        Err(error) => {
            tracing::error!(%error, "a log can not be read any more");
            LogItem::End(LogEnd::ServerGone)
        }
    }
}

async fn send(socket: WebSocket, mut session: LogSession, chunks: bool) {
    let (mut sink, mut stream) = socket.split();
    let gone = CancellationToken::new();
    let seen_gone = gone.clone().drop_guard();
    tokio::spawn(async move {
        // Whatever a reader of logs says is not for us; only its end is.
        while let Some(Ok(_)) = stream.next().await {}
        drop(seen_gone);
    });
    loop {
        // Cut off while it reads, the session is at its end, and so is this.
        let item = tokio::select! {
            () = gone.cancelled() => return,
            item = next(&mut session) => item,
        };
        let last = matches!(item, LogItem::End(_));
        let message = match item {
            LogItem::Chunk(chunk) if chunks => Message::Binary(chunk),
            item => Message::Text(serde_json::to_string(&message(item)).unwrap_or_default().into()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
        if last {
            let _ = sink.close().await;
            return;
        }
    }
}

fn events(session: LogSession) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some(session), |session| async {
        let mut session = session?;
        let item = next(&mut session).await;
        let ended = matches!(item, LogItem::End(_));
        let message = message(item);
        let mut event = Event::default();
        if let LogMessage::Lines { items } = &message
            && let Some(last) = items.last()
        {
            event = event.id(last.seq.to_string());
        }
        // JSON has no line break in it, so it is one event's data.
        let event = event.data(serde_json::to_string(&message).unwrap_or_default());
        Some((Ok(event), (!ended).then_some(session)))
    })
}

/// History up to a page's size. `next` is the `since_seq` of the page after it, or the `before_seq`
/// where lines come newest first.
async fn page(mut session: LogSession) -> ApiResult<Response> {
    let newest_first = session.is_newest_first();
    let mut items: Vec<LogLine> = Vec::new();
    let mut bytes = 0;
    let mut unsearched = None;
    loop {
        let more = match session.next(MESSAGE_MAX).await.map_err(|error| ApiError::internal("the log can not be read", &error))? {
            LogItem::Chunk(chunk) => {
                bytes += chunk.len();
                records(&chunk).map(|record| record.to_line()).collect()
            }
            // What is not kept any more is told by the numbers of what is.
            LogItem::Gap(gap) => {
                unsearched = newest_first.then(|| gap.to_seq.next());
                continue;
            }
            LogItem::End(_) => {
                let next = unsearched.map(|seq| seq.to_string());
                return Ok(Json(Page { items, next }).into_response());
            }
        };
        items.extend::<Vec<LogLine>>(more);
        if items.len() >= PAGE_LINES || bytes >= PAGE_BYTES {
            items.truncate(PAGE_LINES);
            let next = items.last().map(|line| line.seq.to_string());
            return Ok(Json(Page { items, next }).into_response());
        }
    }
}
