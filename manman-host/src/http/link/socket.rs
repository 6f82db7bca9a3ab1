//! The link as a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use manman_common::error::GoneReason;
use manman_common::link::{FRAME_MAX, Hello, ToHost, ToWorker};
use manman_common::{Problem, TokenId, WorkerId};
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;

use super::desk::{Fault, Intake};
use super::{dialling, open};
use crate::app::AppRef;
use crate::fleet::link::{Farewell, Link};
use crate::fleet::machine::Machine;
use crate::fleet::readers::revocation;
use crate::http::auth::Caller;
use crate::http::error::ApiResult;
use crate::http::extract::Path;

/// A worker begins with its Hello at once.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Keeps the mappings of routers on the way alive, and the worker sure of its host.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A worker pings every 5 s and answers pings: after so long without any it is cut off.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// A worker that takes nothing for so long is as good as gone.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// Time for the last words.
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);
/// What the socket reads at once: large enough that a log at full speed is few calls.
const READ_BUFFER: usize = 256 * 1024;

/// The worker's link: a WebSocket that the worker dials and keeps open.
///
/// Text messages are JSON frames, binary ones carry bytes of logs; `manman-common/src/link.rs`
/// describes both.
#[utoipa::path(
    get,
    path = "/worker/{id}/link",
    tag = "worker",
    params(("id" = WorkerId, Path)),
    responses((status = 101), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 410, body = Problem))
)]
pub(super) async fn link(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    upgrade: WebSocketUpgrade,
) -> ApiResult<Response> {
    let machine = dialling(&app, &caller, &key).await?;
    // Subscribed before the socket is open, so that no revocation falls between the two.
    let revoked = app.revoked.subscribe();
    Ok(upgrade
        .max_message_size(FRAME_MAX)
        .max_frame_size(FRAME_MAX)
        .read_buffer_size(READ_BUFFER)
        .on_upgrade(move |socket| serve(app, machine, socket, caller.token_id, revoked)))
}

async fn serve(app: AppRef, machine: Arc<Machine>, socket: WebSocket, token: TokenId, mut revoked: broadcast::Receiver<TokenId>) {
    let (mut sink, mut stream) = socket.split();
    let (hello, link, frames) = match begin(&machine, &mut stream).await {
        Ok(begun) => begun,
        Err(farewell) => return say_goodbye(&mut sink, Some(farewell)).await,
    };
    let intake = Intake::start(&app, &machine, &link);
    let writer = tokio::spawn(write(sink, frames, Arc::clone(&link)));
    let reading = async {
        intake.frame(ToHost::Hello(hello)).await?;
        read(&mut stream, &intake).await
    };
    // Cancel-safe: whatever is cut off here is cut off with the link.
    tokio::select! {
        () = link.closed() => {}
        read = reading => match read {
            Ok(()) => link.close(Farewell { reason: None, detail: "the worker closed the link".to_owned() }),
            Err(fault) => fault.close(&machine, &link),
        },
        () = revocation(&mut revoked, token) => {
            link.close(Farewell { reason: Some(GoneReason::Revoked), detail: "the worker's token was revoked".to_owned() });
        }
    }
    tracing::info!(worker.id = %machine.id, why = link.farewell().map(|farewell| farewell.detail), "a worker's link is closed");
    // The writer ends with the link, in bounded time.
    let _ = writer.await;
}

/// Waits for the Hello and opens the link.
async fn begin(machine: &Machine, stream: &mut SplitStream<WebSocket>) -> Result<(Hello, Arc<Link>, mpsc::Receiver<ToWorker>), Farewell> {
    let bad = |detail: &str| Farewell { reason: None, detail: detail.to_owned() };
    let first = tokio::time::timeout(HELLO_WITHIN, first_text(stream)).await.map_err(|_| bad("no Hello came"))?;
    let Some(text) = first else { return Err(bad("no Hello came")) };
    match serde_json::from_str::<ToHost>(&super::storable(&text)) {
        Ok(ToHost::Hello(hello)) => {
            let (link, frames) =
                open(machine, &hello).map_err(|reason| Farewell { reason: Some(reason), detail: super::gone(reason).detail })?;
            Ok((hello, link, frames))
        }
        Ok(_) => Err(bad("the first frame was no Hello")),
        Err(error) => Err(bad(&Fault::Garbage(error.to_string()).to_string())),
    }
}

async fn first_text(stream: &mut SplitStream<WebSocket>) -> Option<Utf8Bytes> {
    loop {
        match stream.next().await? {
            Ok(Message::Text(text)) => return Some(text),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Binary(_) | Message::Close(_)) | Err(_) => return None,
        }
    }
}

async fn read(stream: &mut SplitStream<WebSocket>, intake: &Intake) -> Result<(), Fault> {
    loop {
        // What lies in the socket is read before time is up: a host that was stopped itself cuts
        // nobody off.
        let Ok(message) = tokio::time::timeout(SILENCE_MAX, stream.next()).await else {
            return Err(Fault::Silent);
        };
        match message {
            Some(Ok(Message::Binary(message))) => intake.log(message)?,
            Some(Ok(Message::Text(text))) => intake.text(&text).await?,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => intake.heard(),
            Some(Ok(Message::Close(_))) | None => return Ok(()),
            Some(Err(error)) => return Err(Fault::Broken(error.to_string())),
        }
    }
}

async fn write(mut sink: SplitSink<WebSocket, Message>, mut frames: mpsc::Receiver<ToWorker>, link: Arc<Link>) {
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel-safe: the three take nothing unless they win.
        let written = tokio::select! {
            () = link.closed() => break,
            frame = frames.recv() => match frame {
                Some(frame) => tokio::time::timeout(WRITE_WITHIN, write_frames(&mut sink, frame, &mut frames)).await,
                None => break,
            },
            _ = pings.tick() => tokio::time::timeout(WRITE_WITHIN, sink.send(Message::Ping(Bytes::new()))).await,
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => link.close(Farewell { reason: None, detail: format!("the link broke: {error}") }),
            Err(_) => link.close(Farewell { reason: None, detail: "the worker takes nothing any more".to_owned() }),
        }
    }
    say_goodbye(&mut sink, link.farewell()).await;
}

/// Writes a frame and those that wait behind it, with one flush.
async fn write_frames(
    sink: &mut SplitSink<WebSocket, Message>,
    first: ToWorker,
    frames: &mut mpsc::Receiver<ToWorker>,
) -> Result<(), axum::Error> {
    let mut next = Some(first);
    while let Some(frame) = next {
        sink.feed(text(&frame)).await?;
        next = frames.try_recv().ok();
    }
    sink.flush().await
}

fn text(frame: &ToWorker) -> Message {
    // All keys are text and all numbers finite: a frame can always be written.
    Message::Text(serde_json::to_string(frame).unwrap_or_default().into())
}

async fn say_goodbye(sink: &mut SplitSink<WebSocket, Message>, farewell: Option<Farewell>) {
    let Farewell { reason, detail } = farewell.unwrap_or(Farewell { reason: None, detail: String::new() });
    let words = async {
        if let Some(reason) = reason {
            sink.feed(text(&ToWorker::Goodbye { reason, detail: detail.clone() })).await?;
        }
        // A close frame has room for 123 bytes.
        let brief: String = detail.chars().take(40).collect();
        sink.send(Message::Close(Some(CloseFrame { code: close_code::POLICY, reason: brief.into() }))).await
    };
    // A worker that is gone hears nothing, and that is all right.
    let _ = tokio::time::timeout(FAREWELL_WITHIN, words).await;
}
