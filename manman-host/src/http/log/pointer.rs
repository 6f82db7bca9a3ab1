use std::time::Duration;

use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, Uri, header};
use manman_common::logs::{LogEnd, LogQuery, records};
use manman_common::wire::LogPointer;
use manman_common::{Kind, LogSeq, Problem, Timestamp};
use serde::Deserialize;

use crate::app::{App, AppRef};
use crate::fleet::{LogFeed, Piece};
use crate::http::auth::Caller;
use crate::http::error::ApiResult;
use crate::http::extract::{Path, Query};
use crate::http::server::find_server;

/// A worker looks up two numbers; it need not read a line.
const WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PointerQuery {
    /// A moment in RFC 3339, whose first line is looked for, too.
    at: Option<Timestamp>,
}

/// Where a server's log is read, and which lines there are.
///
/// Both addresses lead through this host, so the worker need not be reachable. With `at`, the answer
/// has the number of the first line at or after that time.
#[utoipa::path(
    get,
    path = "/server/{id}/log",
    tag = "log",
    params(("id" = String, Path, description = "id or name"), PointerQuery),
    responses((status = 200, body = LogPointer), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(super) async fn pointer(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    Query(PointerQuery { at }): Query<PointerQuery>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
) -> ApiResult<axum::Json<LogPointer>> {
    let server = find_server(&app, &mut *app.db.acquire().await?, &caller, &key).await?;
    let query = match at {
        // That line alone is asked for, to look at its number.
        Some(at) => LogQuery { at: Some(at), limit: Some(1), follow: Some(false), ..LogQuery::default() },
        None => LogQuery { tail: Some(0), follow: Some(false), ..LogQuery::default() },
    };
    let feed = app.fleet.open_log(server.worker_id, server.id, query)?;
    let late = || Problem::new(Kind::Timeout, format!("worker `{}` did not answer in time", server.worker_name));
    let first = tokio::time::timeout(WITHIN, feed.next()).await;
    let (first_seq, last_seq) = match first {
        Ok(Piece::Opened { first_seq, last_seq }) => (first_seq, last_seq),
        Ok(Piece::End(LogEnd::ServerGone)) => return Err(Problem::not_found("log of server", &server.name).into()),
        Ok(Piece::End(_)) => {
            return Err(Problem::new(Kind::NotAlive, format!("worker `{}` has gone away", server.worker_name)).retry_after(2).into());
        }
        Ok(Piece::Chunk(_) | Piece::Gap(_)) => {
            return Err(Problem::new(Kind::BadGateway, format!("worker `{}` sent lines before their numbers", server.worker_name)).into());
        }
        Err(_) => return Err(late().into()),
    };
    let at_seq = match at {
        Some(_) => Some(first_line(&feed).await.ok_or_else(late)?.unwrap_or(last_seq.next())),
        None => None,
    };
    let base = base(&app, &headers, &uri);
    let url = format!("{base}/server/{}/log/stream", server.id);
    let stream_url = url.replacen("http", "ws", 1);
    Ok(axum::Json(LogPointer { url: format!("{url}?follow=false"), stream_url, first_seq, last_seq, at_seq }))
}

/// The number of the first line that comes; the outer `None` is a worker that did not answer.
async fn first_line(feed: &LogFeed) -> Option<Option<LogSeq>> {
    let looking = async {
        loop {
            match feed.next().await {
                Piece::Chunk(chunk) => return Some(records(&chunk).next().map(|record| record.seq)),
                Piece::Gap(_) | Piece::Opened { .. } => {}
                Piece::End(LogEnd::Complete) => return Some(None),
                Piece::End(_) => return None,
            }
        }
    };
    tokio::time::timeout(WITHIN, looking).await.ok().flatten()
}

/// How the caller has reached this host: by the name that it used, and the scheme of the listener
/// with that port, or of the proxy in front.
fn base(app: &App, headers: &HeaderMap, uri: &Uri) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let authority = text(header::HOST).or_else(|| uri.authority().map(|authority| authority.as_str()));
    let Some(authority) = authority else {
        return app.bound.get().map_or_else(String::new, |bound| bound.public_url.trim_end_matches('/').to_owned());
    };
    let forwarded =
        headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok()).filter(|proto| matches!(*proto, "http" | "https"));
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let listener = || {
        let bound = app.bound.get()?;
        let own = [(bound.public.port(), &bound.public_url), (bound.internal.port(), &bound.internal_url)];
        own.into_iter().find(|(own, _)| Some(*own) == port).and_then(|(_, url)| url.split_once("://")).map(|(scheme, _)| scheme)
    };
    let scheme = forwarded.or_else(listener).unwrap_or("http");
    format!("{scheme}://{authority}")
}
