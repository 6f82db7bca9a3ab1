//! One console's socket: reads the ring at its own pace.

use std::ops::ControlFlow;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use manman_common::Problem;
use manman_common::logs::LogEnd;
use manman_common::wire::FeedMessage;
use serde::Deserialize;
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use uuid::Uuid;

use super::sight::Sight;
use super::{Next, Watcher, handshake};
use crate::app::AppRef;
use crate::fleet::readers::Tenure;
use crate::http::auth::{Caller, check_origin};
use crate::http::error::ApiResult;
use crate::http::extract::Query;

const PING_EVERY: Duration = Duration::from_secs(15);
/// Pings in a row that a client may leave unanswered; a phone in a pocket is slow to wake.
const SILENT_PINGS_MAX: u32 = 4;
/// A client that takes nothing for so long is as good as gone.
const WRITE_WITHIN: Duration = Duration::from_secs(60);
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);
/// A console has nothing to say.
const CLIENT_MESSAGE_MAX: usize = 1024;
/// A message leaves in parts of this size, which is what a socket holds of it in memory.
const FRAGMENT: usize = 16 * 1024;

/// The session or token is revoked, or has expired.
const REVOKED: CloseCode = CloseCode::Library(4401);

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FeedQuery {
    /// `epoch` of the hello of before: the host's process whose numbers `since` is of.
    epoch: Option<Uuid>,
    /// The newest `seq` that was heard; what comes after it is sent, where that is still kept.
    since: Option<u64>,
}

/// All that a console shows, live: a WebSocket of a snapshot and what has changed since.
///
/// First a `hello`, then a `snapshot` (or only what was missed, where the request says what was
/// heard before), then `delta`s, ten a second at most, and a `ping` each 15 s. The client says
/// nothing. Closed with 4401 when the session has ended, with 1012 when the host stops.
#[utoipa::path(
    get,
    path = "/feed",
    tag = "feed",
    params(FeedQuery),
    responses((status = 101, body = FeedMessage), (status = 400, body = Problem), (status = 403, body = Problem), (status = 429, body = Problem))
)]
pub(super) async fn feed(
    State(app): State<AppRef>,
    caller: Caller,
    Query(query): Query<FeedQuery>,
    mut request: Request,
) -> ApiResult<Response> {
    check_origin(request.headers())?;
    let sight = Sight::of(&caller)?;
    let tenure = Tenure::begin(&app, &caller, None)?;
    let (response, upgrade) = handshake::open(&mut request)?;
    let seen = query.since.filter(|_| query.epoch == Some(app.feed.epoch));
    tokio::spawn(serve(app, upgrade, sight, tenure, seen));
    Ok(response)
}

async fn serve(app: AppRef, upgrade: OnUpgrade, sight: Sight, tenure: Tenure, seen: Option<u64>) {
    // Where the client has gone meanwhile there is nobody to serve.
    let Ok(upgraded) = upgrade.await else { return };
    let config = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * FRAGMENT)
        .max_message_size(Some(CLIENT_MESSAGE_MAX))
        .max_frame_size(Some(CLIENT_MESSAGE_MAX));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let watcher = Watcher::new(&app);
    let mut console = Console { app, socket, sight, tenure, seen, unanswered: 0 };
    if let ControlFlow::Break(Some(code)) = console.run().await {
        let close = CloseFrame { code, reason: "".into() };
        // A client that is gone hears nothing, and that is all right.
        let _ = tokio::time::timeout(FAREWELL_WITHIN, console.socket.close(Some(close))).await;
    }
    drop(watcher);
}

struct Console {
    app: AppRef,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    sight: Sight,
    tenure: Tenure,
    /// The number up to which all has been sent.
    seen: Option<u64>,
    unanswered: u32,
}

/// How it ends: with a word to the client, or with nobody there.
type End = Option<CloseCode>;

impl Console {
    async fn run(&mut self) -> ControlFlow<End> {
        let mut newest = self.app.feed.newest.subscribe();
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        let mut greeted = false;
        loop {
            let seq = *newest.borrow_and_update();
            if seq > 0 {
                if !std::mem::replace(&mut greeted, true) {
                    self.say(&FeedMessage::Hello { epoch: self.app.feed.epoch, seq }).await?;
                }
                match self.app.feed.next(self.sight, self.seen) {
                    Next::Wait => {}
                    Next::Nothing(seq) => self.seen = Some(seq),
                    Next::Send(text, seq) => {
                        self.send(text).await?;
                        self.seen = Some(seq);
                    }
                }
            }
            // Cancel-safe: each takes nothing unless it wins.
            tokio::select! {
                changed = newest.changed() => if changed.is_err() {
                    return ControlFlow::Break(Some(CloseCode::Restart));
                },
                end = self.tenure.over() => return ControlFlow::Break(Some(code_of(end))),
                heard = self.socket.next() => match heard {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return ControlFlow::Break(None),
                    Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                        self.unanswered = 0;
                    }
                },
                _ = pings.tick() => self.ping().await?,
            }
        }
    }

    /// One ping for the browser, which answers it by itself, and one for its page, which does not
    /// hear of that one.
    async fn ping(&mut self) -> ControlFlow<End> {
        self.unanswered += 1;
        if self.unanswered > SILENT_PINGS_MAX {
            return ControlFlow::Break(None);
        }
        self.write(Message::Ping(Bytes::new())).await?;
        self.say(&FeedMessage::Ping).await
    }

    async fn say(&mut self, message: &FeedMessage) -> ControlFlow<End> {
        // All keys are text and all numbers finite: our messages can always be written.
        self.send(serde_json::to_string(message).unwrap_or_default().into()).await
    }

    /// A text message, in fragments that share its memory.
    async fn send(&mut self, text: Bytes) -> ControlFlow<End> {
        let mut rest = text;
        let mut opcode = OpCode::Data(Data::Text);
        loop {
            let part = rest.split_to(rest.len().min(FRAGMENT));
            self.write(Message::Frame(Frame::message(part, opcode, rest.is_empty()))).await?;
            if rest.is_empty() {
                return ControlFlow::Continue(());
            }
            opcode = OpCode::Data(Data::Continue);
        }
    }

    /// Writes, and does not wait longer for a slow client than its session is good.
    async fn write(&mut self, message: Message) -> ControlFlow<End> {
        // Cut off only where the socket ends anyway.
        tokio::select! {
            sent = tokio::time::timeout(WRITE_WITHIN, self.socket.send(message)) => match sent {
                Ok(Ok(())) => ControlFlow::Continue(()),
                Ok(Err(_)) | Err(_) => ControlFlow::Break(None),
            },
            end = self.tenure.over() => ControlFlow::Break(Some(code_of(end))),
        }
    }
}

fn code_of(end: LogEnd) -> CloseCode {
    match end {
        LogEnd::Revoked => REVOKED,
        LogEnd::Complete | LogEnd::WorkerGone | LogEnd::ServerGone | LogEnd::Shutdown => CloseCode::Restart,
    }
}
