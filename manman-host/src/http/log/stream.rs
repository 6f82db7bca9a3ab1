use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use manman_common::logs::{GREP_COMPILED_MAX, GREP_MAX, LogFormat, LogMessage, LogQuery};
use manman_common::{LogSeq, Problem, Timestamp};
use serde::Deserialize;

use super::{body, socket};
use crate::app::AppRef;
use crate::fleet::readers::Tenure;
use crate::http::auth::{Caller, check_origin};
use crate::http::error::ApiResult;
use crate::http::extract::{Path, Query};
use crate::http::server::find_server;

/// Which lines, and how they are written.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// The last N lines, then what follows.
    tail: Option<u64>,
    /// The lines after this one: the last that the reader has.
    since_seq: Option<LogSeq>,
    /// Only lines up to this one, itself included; nothing is followed.
    until_seq: Option<LogSeq>,
    /// Only lines before this one: the oldest that the reader has; nothing is followed.
    before_seq: Option<LogSeq>,
    /// Begins at the first line at or after this moment in RFC 3339.
    at: Option<Timestamp>,
    /// At most so many lines, 1 to 10000; nothing is followed. They are counted from the beginning
    /// where `since_seq` or `at` says where that is, else from the end.
    limit: Option<u64>,
    /// Whether to go on with new lines: true for WebSockets and SSE unless told otherwise, false for
    /// plain requests.
    follow: Option<bool>,
    /// Only lines in which this regular expression is found, in the text with or without its colours.
    /// With `limit`, and neither `since_seq` nor `at`, the newest hits come first; a search with a
    /// limit ends after two seconds, and a `gap` then names the lines not looked at.
    grep: Option<String>,
    /// Whether `grep` is the very text that is looked for.
    literal: bool,
    /// Whether `grep` takes small and capital letters for the same.
    ignore_case: bool,
    /// `json`, or `chunk` for records as the worker stores them, as binary messages.
    #[param(inline)]
    format: Option<String>,
}

/// A server's log: history, and what follows.
///
/// A WebSocket where the request asks for one; server-sent events with `Accept:
/// text/event-stream`; else one line of JSON for each line of the log, or the bare text with
/// `Accept: text/plain`. Lines that this reader will not be sent are counted in a `gap`. A reader
/// that comes back names the last line it has in `since_seq` (`Last-Event-ID` in SSE).
#[utoipa::path(
    get,
    path = "/server/{id}/log/stream",
    tag = "log",
    params(("id" = String, Path, description = "id or name"), StreamQuery),
    responses((status = 200, body = LogMessage), (status = 101), (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 429, body = Problem))
)]
pub(super) async fn stream(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> ApiResult<Response> {
    let mut query = checked(query)?;
    let server = find_server(&app, &mut *app.db.acquire().await?, &caller, &key).await?;
    let tenure = Tenure::begin(&app, &caller, Some(server.id))?;
    let format = query.format.take().unwrap_or(LogFormat::Json);
    if let Ok(upgrade) = upgrade {
        check_origin(&headers)?;
        let feed = app.fleet.open_log(server.worker_id, server.id, query)?;
        return Ok(upgrade
            .max_message_size(socket::CLIENT_MESSAGE_MAX)
            .write_buffer_size(socket::WRITE_BUFFER)
            .on_upgrade(move |socket| socket::serve(socket, feed, tenure, format)));
    }
    let accepts =
        |kind: &str| headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains(kind));
    let shape = if accepts("text/event-stream") {
        if let Some(last) = last_event_id(&headers) {
            query.since_seq = Some(last);
            query.tail = None;
            query.at = None;
        }
        body::Shape::Events
    } else {
        query.follow = Some(query.follow.unwrap_or(false));
        match format {
            LogFormat::Chunk => body::Shape::Records,
            LogFormat::Json if accepts("text/plain") => body::Shape::Plain { times: false },
            LogFormat::Json => body::Shape::Lines,
        }
    };
    let feed = app.fleet.open_log(server.worker_id, server.id, query)?;
    body::respond(feed, tenure, shape, &server).await
}

/// What an event source says when it comes back.
fn last_event_id(headers: &HeaderMap) -> Option<LogSeq> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok().map(LogSeq::new)
}

fn checked(query: StreamQuery) -> Result<LogQuery, Problem> {
    let StreamQuery { tail, since_seq, until_seq, before_seq, at, limit, follow, grep, literal, ignore_case, format } = query;
    if tail.is_some() && since_seq.is_some() {
        return Err(Problem::invalid("tail", "either the last lines or those after one are asked for, not both"));
    }
    if let Some(pattern) = &grep {
        if pattern.len() > GREP_MAX {
            return Err(Problem::invalid("grep", format!("a pattern has at most {GREP_MAX} bytes")));
        }
        // Built as the worker builds it, so that what passes here passes there.
        if !literal {
            let built = regex::bytes::RegexBuilder::new(pattern).case_insensitive(ignore_case).size_limit(GREP_COMPILED_MAX).build();
            built.map_err(|error| Problem::invalid("grep", format!("not a regular expression: {error}")))?;
        }
    }
    let format = match format.as_deref() {
        None => None,
        Some("json") => Some(LogFormat::Json),
        Some("chunk") => Some(LogFormat::Chunk),
        Some(other) => {
            return Err(Problem::invalid(
                "format",
                format!("`{}` is neither `json` nor `chunk`", other.chars().take(20).collect::<String>()),
            ));
        }
    };
    let query = LogQuery { tail, since_seq, until_seq, before_seq, at, limit, follow, grep, literal, ignore_case, format };
    query.check()?;
    Ok(query)
}
