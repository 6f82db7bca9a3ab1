use axum::extract::WebSocketUpgrade;
use axum::extract::ws::Message;
use axum::routing::{any, get, post};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite;

use super::*;

#[tokio::test]
async fn w06_a_websocket_goes_both_ways() {
    let routes = Router::new().route(
        "/ws",
        any(async |upgrade: WebSocketUpgrade| {
            upgrade.on_upgrade(async |mut socket| {
                while let Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) = socket.recv().await {
                    if socket.send(message).await.is_err() {
                        break;
                    }
                }
            })
        }),
    );
    let (door, waifu) = (TestDoor::start().await, TestWaifu::with(routes).await);
    door.hello("chat", waifu.address).await;
    let (mut socket, response) = tokio_tungstenite::connect_async(format!("ws://{}/chat/ws", door.address)).await.expect("a socket");
    assert_eq!(response.status(), 101);
    for size in [1, 1000, 200_000] {
        let message = tungstenite::Message::text("x".repeat(size));
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(socket.next().await.expect("an answer").expect("readable"), message);
    }
    // The waifu declines: what it says comes through as an ordinary answer.
    let error = tokio_tungstenite::connect_async(format!("ws://{}/chat/none", door.address)).await.expect_err("declined");
    assert!(matches!(error, tungstenite::Error::Http(response) if response.status() == 200));
}

#[tokio::test]
async fn w06_events_come_one_by_one_and_uploads_go_likewise() {
    let (pieces, received) = mpsc::channel::<String>(16);
    let received = Arc::new(tokio::sync::Mutex::new(received));
    let events = Arc::clone(&received);
    let routes = Router::new()
        .route(
            "/events",
            get(move || async move {
                let stream = futures_util::stream::unfold(events, |events| async move {
                    let event = events.lock().await.recv().await?;
                    Some((Ok::<_, std::io::Error>(format!("data: {event}\n\n")), events))
                });
                ([("content-type", "text/event-stream")], Body::from_stream(stream))
            }),
        )
        .route("/echo", post(async |body: Body| body));
    let (door, waifu) = (TestDoor::start().await, TestWaifu::with(routes).await);
    door.hello("news", waifu.address).await;
    let http = client();
    let mut events = http.get(format!("http://{}/news/events", door.address)).send().await.expect("an answer").bytes_stream();
    for number in 0..3 {
        pieces.send(number.to_string()).await.expect("somebody listens");
        let event = tokio::time::timeout(Duration::from_secs(5), events.next()).await.expect("not held back").expect("an event");
        assert_eq!(event.expect("readable"), format!("data: {number}\n\n").as_bytes());
    }
    // What is sent is answered while it is still being sent.
    let (up, sent) = mpsc::channel::<Result<String, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(sent));
    up.send(Ok("first".to_owned())).await.expect("room");
    let mut echo = http.post(format!("http://{}/news/echo", door.address)).body(body).send().await.expect("an answer").bytes_stream();
    for piece in ["first", "second"] {
        let came = tokio::time::timeout(Duration::from_secs(5), echo.next()).await.expect("not held back").expect("a piece");
        assert_eq!(came.expect("readable"), piece.as_bytes());
        if piece == "first" {
            up.send(Ok("second".to_owned())).await.expect("room");
        }
    }
}

#[tokio::test]
async fn w06_a_quarter_of_a_gigabyte_passes_at_flat_memory() {
    const SIZE: usize = 256 << 20;
    let routes = Router::new()
        .route(
            "/down",
            get(async || {
                let left = SIZE;
                let limited = endless().into_data_stream().scan(left, |left, piece| {
                    let piece = piece.map(|piece| piece.slice(..piece.len().min(*left)));
                    *left -= piece.as_ref().map_or(0, bytes::Bytes::len);
                    let end = piece.as_ref().is_ok_and(bytes::Bytes::is_empty);
                    async move { (!end).then_some(piece) }
                });
                Body::from_stream(limited)
            }),
        )
        .route(
            "/up",
            post(async |body: Body| {
                let mut stream = body.into_data_stream();
                let mut length = 0;
                while let Some(Ok(piece)) = stream.next().await {
                    length += piece.len();
                }
                length.to_string()
            }),
        );
    let (door, waifu) = (TestDoor::start().await, TestWaifu::with(routes).await);
    door.hello("big", waifu.address).await;
    let http = client();
    let before = resident();
    let mut down = http.get(format!("http://{}/big/down", door.address)).send().await.expect("an answer").bytes_stream();
    let (mut length, mut most) = (0, 0);
    while let Some(piece) = down.next().await {
        length += piece.expect("readable").len();
        most = most.max(resident());
    }
    assert_eq!(length, SIZE);
    let piece = bytes::Bytes::from_static(&[b'y'; 64 * 1024]);
    let up = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone())).take(SIZE / (64 * 1024));
    let answer = http.post(format!("http://{}/big/up", door.address)).body(reqwest::Body::wrap_stream(up)).send().await.expect("an answer");
    assert_eq!(answer.text().await.expect("readable"), SIZE.to_string());
    most = most.max(resident());
    let grown = most.saturating_sub(before) >> 20;
    assert!(grown < 32, "the memory grew by {grown} MiB");
}

/// Resident bytes of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = status.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}
