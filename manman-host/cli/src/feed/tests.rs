//! The feed against a small host that loses connections, repeats itself and says what is missing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message as Sent, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use manman_common::logs::{LogRecord, LogStream};
use tokio::net::TcpListener;

use super::*;

#[test]
fn asks_for_what_follows_the_last_line() {
    let query = LogQuery { tail: Some(10), grep: Some("a b&c".into()), format: Some(LogFormat::Chunk), ..LogQuery::default() };
    assert_eq!(path("x", &query, None), "/server/x/log/stream?tail=10&grep=a+b%26c&format=chunk");
    assert_eq!(path("x", &query, Some(LogSeq::new(7))), "/server/x/log/stream?since_seq=7&grep=a+b%26c&format=chunk");
}

/// What the host sends on one connection before it drops it.
type Script = Vec<Sent>;

#[derive(Clone, Default)]
struct Host {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    queries: Arc<Mutex<Vec<String>>>,
}

fn chunk(seqs: std::ops::RangeInclusive<u64>) -> Sent {
    let mut out = Vec::new();
    for seq in seqs {
        let text = format!("line {seq}");
        LogRecord { seq: LogSeq::new(seq), time: "2026-11-20T12:00:00Z", stream: LogStream::Stdout, text: text.as_bytes() }
            .write_to(&mut out);
    }
    Sent::Binary(out.into())
}

fn said(message: &LogMessage) -> Sent {
    Sent::Text(serde_json::to_string(message).expect("JSON").into())
}

async fn stream(State(host): State<Host>, RawQuery(query): RawQuery, upgrade: WebSocketUpgrade) -> Response {
    host.queries.lock().expect("no panic").push(query.unwrap_or_default());
    let script = host.scripts.lock().expect("no panic").pop_front().unwrap_or_default();
    upgrade.on_upgrade(|mut socket| async move {
        for message in script {
            let _ = socket.send(message).await;
        }
    })
}

/// Everything that the feed gives out until its end.
async fn read(scripts: Vec<Script>, query: LogQuery) -> (Vec<u64>, Vec<LogGap>, Vec<String>, LogEnd) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let host = Host::default();
    *host.scripts.lock().expect("no panic") = scripts.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let router = Router::new().route("/server/x/log/stream", get(stream)).with_state(host.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::new(url.parse().expect("an address"), None).expect("a client");
    let mut feed = Feed::open(&client, "x", query).await.expect("it opens");
    let (mut seqs, mut gaps) = (Vec::new(), Vec::new());
    let end = loop {
        match tokio::time::timeout(Duration::from_secs(20), feed.next()).await.expect("in time").expect("no refusal") {
            Item::Chunk(chunk) => seqs.extend(feed.fresh(&chunk).map(|record| record.seq.get())),
            Item::Gap(gap) => gaps.push(gap),
            Item::Word(_) => {}
            Item::End(end) => break end,
        }
    };
    serving.abort();
    let queries = host.queries.lock().expect("no panic").clone();
    (seqs, gaps, queries, end)
}

#[tokio::test]
async fn goes_on_after_a_lost_connection_without_a_gap_or_a_double() {
    let complete = said(&LogMessage::End { reason: LogEnd::Complete });
    let scripts = vec![
        vec![chunk(1..=3), chunk(4..=5)],
        // The worker restarts in between; the host says so and is asked again.
        vec![chunk(4..=7), said(&LogMessage::End { reason: LogEnd::WorkerGone })],
        vec![chunk(8..=9), complete],
    ];
    let (seqs, gaps, queries, end) = read(scripts, LogQuery { tail: Some(100), ..LogQuery::default() }).await;
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(gaps, []);
    assert_eq!(queries, ["tail=100", "since_seq=5", "since_seq=7"]);
    assert_eq!(end, LogEnd::Complete);
}

#[tokio::test]
async fn what_is_missing_is_counted_and_not_asked_for_again() {
    let gap = LogGap { from_seq: LogSeq::new(3), to_seq: LogSeq::new(9), count: 7 };
    let scripts =
        vec![vec![chunk(1..=2), said(&LogMessage::Gap(gap))], vec![chunk(10..=10), said(&LogMessage::End { reason: LogEnd::ServerGone })]];
    let (seqs, gaps, queries, end) = read(scripts, LogQuery::default()).await;
    assert_eq!(seqs, [1, 2, 10]);
    assert_eq!(gaps, [gap]);
    assert_eq!(queries, ["", "since_seq=9"]);
    assert_eq!(end, LogEnd::ServerGone);
}

#[tokio::test]
async fn without_following_a_worker_that_is_gone_is_the_end() {
    let scripts = vec![vec![chunk(1..=2), said(&LogMessage::End { reason: LogEnd::WorkerGone })]];
    let (seqs, _, _, end) = read(scripts, LogQuery { follow: Some(false), ..LogQuery::default() }).await;
    assert_eq!((seqs, end), (vec![1, 2], LogEnd::WorkerGone));
}
