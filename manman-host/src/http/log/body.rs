//! The log as the body of an answer: server-sent events, lines of JSON, bare text, or records.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use manman_common::logs::{LogEnd, LogMessage};
use manman_common::{Kind, Problem};

use super::render;
use crate::db::server::Server;
use crate::fleet::readers::Tenure;
use crate::fleet::{LogFeed, Piece};
use crate::http::error::ApiResult;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Events,
    /// A line of JSON for each line.
    Lines,
    /// The bare text, with its time before each line or without.
    Plain {
        times: bool,
    },
    /// As the worker stores them.
    Records,
}

/// A worker opens a file; that it answers at all is known before the status is sent.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn respond(feed: LogFeed, tenure: Tenure, shape: Shape, server: &Server) -> ApiResult<Response> {
    match tokio::time::timeout(OPEN_WITHIN, feed.next()).await {
        Ok(Piece::Opened { .. }) => {}
        Ok(Piece::End(LogEnd::ServerGone)) => return Err(Problem::not_found("log of server", &server.name).into()),
        Ok(Piece::End(_)) => {
            return Err(Problem::new(Kind::NotAlive, format!("worker `{}` has gone away", server.worker_name)).retry_after(2).into());
        }
        Ok(Piece::Chunk(_) | Piece::Gap(_)) => {
            return Err(Problem::new(Kind::BadGateway, format!("worker `{}` sent lines before their numbers", server.worker_name)).into());
        }
        Err(_) => return Err(Problem::new(Kind::Timeout, format!("worker `{}` did not answer in time", server.worker_name)).into()),
    }
    let pieces = pieces(feed, tenure);
    Ok(match shape {
        Shape::Events => {
            let events = pieces.filter_map(async |piece| event(&piece).map(Ok::<_, Infallible>));
            Sse::new(events).keep_alive(KeepAlive::default()).into_response()
        }
        Shape::Lines => body(pieces, "application/x-ndjson", |piece| match piece {
            Piece::Chunk(chunk) => Ok(render::ndjson(&chunk)),
            Piece::Gap(gap) => Ok(line(&LogMessage::Gap(gap))),
            Piece::End(LogEnd::Complete) | Piece::Opened { .. } => Ok(Bytes::new()),
            Piece::End(reason) => Ok(line(&LogMessage::End { reason })),
        }),
        Shape::Plain { times } => body(pieces, "text/plain; charset=utf-8", move |piece| bare(piece, |chunk| render::plain(&chunk, times))),
        Shape::Records => body(pieces, "application/octet-stream", |piece| bare(piece, |chunk| chunk)),
    })
}

/// The pieces of a feed up to its end. A chunk counts as taken when the next one is asked for.
fn pieces(feed: LogFeed, tenure: Tenure) -> impl Stream<Item = Piece> + Send {
    struct State {
        feed: LogFeed,
        tenure: Tenure,
        given: Option<Bytes>,
    }
    stream::unfold(Some(State { feed, tenure, given: None }), async |state| {
        let mut state = state?;
        if let Some(given) = state.given.take() {
            state.feed.done_with(&given);
        }
        // Cancel-safe: each takes nothing unless it wins.
        let piece = tokio::select! {
            piece = state.feed.next() => piece,
            end = state.tenure.over() => Piece::End(end),
        };
        match &piece {
            Piece::End(_) => return Some((piece, None)),
            Piece::Chunk(chunk) => state.given = Some(chunk.clone()),
            Piece::Opened { .. } | Piece::Gap(_) => {}
        }
        Some((piece, Some(state)))
    })
}

fn event(piece: &Piece) -> Option<Event> {
    let message = match piece {
        Piece::Opened { .. } => return None,
        Piece::Chunk(chunk) => render::lines(chunk)?,
        Piece::Gap(gap) => LogMessage::Gap(*gap),
        Piece::End(reason) => LogMessage::End { reason: *reason },
    };
    let event = Event::default().data(render::json(&message));
    let last = match piece {
        Piece::Chunk(chunk) => render::last_seq(chunk),
        Piece::Gap(gap) => Some(gap.to_seq),
        Piece::Opened { .. } | Piece::End(_) => None,
    };
    Some(match last {
        Some(seq) => event.id(seq.to_string()),
        None => event,
    })
}

fn line(message: &LogMessage) -> Bytes {
    (render::json(message) + "\n").into()
}

/// Text and records have no room for a word of ours: what is missing breaks the answer off, so
/// that nobody takes it for whole. A gap of lines no longer kept is no such thing.
fn bare(piece: Piece, write: impl Fn(Bytes) -> Bytes) -> io::Result<Bytes> {
    match piece {
        Piece::Chunk(chunk) => Ok(write(chunk)),
        Piece::Opened { .. } | Piece::Gap(_) | Piece::End(LogEnd::Complete) => Ok(Bytes::new()),
        Piece::End(_) => Err(io::Error::other("the log broke off")),
    }
}

fn body(
    pieces: impl Stream<Item = Piece> + Send + 'static,
    kind: &'static str,
    write: impl Fn(Piece) -> io::Result<Bytes> + Send + 'static,
) -> Response {
    // An empty frame would end a chunked body's client early in some libraries.
    let frames = pieces.map(write).filter(|frame| std::future::ready(!matches!(frame, Ok(bytes) if bytes.is_empty())));
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], Body::from_stream(frames)).into_response()
}
