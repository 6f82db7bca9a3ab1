use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderMap;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use manman_common::Problem;
use manman_common::wire::Event;
use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use crate::app::AppRef;
use crate::db::event::{EventFilter, event_after, event_newest};
use crate::fleet::readers::Tenure;
use crate::http::auth::{Caller, check_origin};
use crate::http::error::ApiResult;
use crate::http::extract::Query;
use crate::hub::{Item, Reader};

const BATCH: i64 = 500;
const PING_EVERY: Duration = Duration::from_secs(20);
const WRITE_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// The events after this one: the last that the reader has. Without it, those that are yet to
    /// come.
    #[serde(alias = "after")]
    since: Option<i64>,
    /// Only those of this server; an id or a name.
    server_id: Option<String>,
    /// Only those of this worker; an id or a name.
    worker_id: Option<String>,
    /// Only those of this kind; `server.` with its dot is all kinds that begin so.
    kind: Option<String>,
}

/// Events as they happen: a WebSocket where the request asks for one, else server-sent events.
///
/// Each message is one event. A reader that comes back names the last one it has (`since`, or
/// `Last-Event-ID`) and misses none.
#[utoipa::path(
    get,
    path = "/event/stream",
    tag = "event",
    params(StreamQuery),
    responses((status = 200, body = Event), (status = 101), (status = 429, body = Problem))
)]
pub(super) async fn stream(
    State(app): State<AppRef>,
    caller: Caller,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> ApiResult<Response> {
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let mut conn = app.db.acquire().await?;
    let filter = super::filter(&app, &mut conn, &caller, query.server_id.as_deref(), query.worker_id.as_deref(), query.kind).await?;
    let tenure = Tenure::begin(&app, &caller, filter.server)?;
    // Subscribed before the table is looked at, so that nothing falls between the two.
    let live = app.fleet.event_stream();
    let last = match resumed.or(query.since) {
        Some(last) => last,
        None => event_newest(&mut conn).await?,
    };
    drop(conn);
    let feed = Feed { app: app.clone(), filter, live, last, ready: VecDeque::new(), behind: true };
    if let Ok(upgrade) = upgrade {
        check_origin(&headers)?;
        return Ok(upgrade.max_message_size(4096).on_upgrade(move |socket| serve(socket, feed, tenure)));
    }
    let events = stream::unfold((feed, tenure), async |(mut feed, mut tenure)| {
        // Cancel-safe: each takes nothing unless it wins.
        let event = tokio::select! {
            event = feed.next() => event?,
            _ = tenure.over() => return None,
        };
        let item = SseEvent::default().id(event.id.to_string()).data(json(&event));
        Some((Ok::<_, Infallible>(item), (feed, tenure)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn json(event: &Event) -> String {
    // All keys are text and all numbers finite: an event can always be written.
    serde_json::to_string(event).unwrap_or_default()
}

/// Events in the order of their numbers: from the table while behind, then as they come.
struct Feed {
    app: AppRef,
    filter: EventFilter,
    live: Reader<Arc<Event>>,
    last: i64,
    ready: VecDeque<Event>,
    behind: bool,
}

impl Feed {
    /// The next event; `None` where the host can not go on. Cancel-safe.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.last = event.id;
                return Some(event);
            }
            if self.behind {
                self.catch_up().await?;
                continue;
            }
            match self.live.next().await? {
                Item::Value(event) if event.id <= self.last => {}
                Item::Value(event) if self.filter.matches(&event) => self.ready.push_back(Event::clone(&event)),
                Item::Value(event) => self.last = event.id,
                // Too slow for what is kept in memory; the table has it all.
                Item::Gap(_) => self.behind = true,
            }
        }
    }

    async fn catch_up(&mut self) -> Option<()> {
        let found = async { event_after(&mut *self.app.db.acquire().await?, &self.filter, self.last, BATCH).await };
        match found.await {
            Ok(events) => {
                self.behind = events.len() as i64 == BATCH;
                self.ready.extend(events);
                Some(())
            }
            Err(error) => {
                tracing::warn!(%error, "a stream of events ends because the database does not answer");
                None
            }
        }
    }
}

async fn serve(socket: WebSocket, mut feed: Feed, mut tenure: Tenure) {
    let (mut sink, mut incoming) = socket.split();
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel-safe: each takes nothing unless it wins.
        let message = tokio::select! {
            event = feed.next() => match event {
                Some(event) => Message::Text(json(&event).into()),
                None => break,
            },
            _ = tenure.over() => break,
            heard = incoming.next() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => continue,
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        if !matches!(tokio::time::timeout(WRITE_WITHIN, sink.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
    let close = Message::Close(Some(CloseFrame { code: close_code::AWAY, reason: "".into() }));
    // A client that is gone hears nothing, and that is all right.
    let _ = tokio::time::timeout(Duration::from_secs(2), sink.send(close)).await;
}
