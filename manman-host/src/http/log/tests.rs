//! Logs from a worker that serves them by credit, through the host, to readers of each kind.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use manman_common::client::Socket;
use manman_common::link::{LOG_WINDOW, ToWorker};
use manman_common::logs::{LogEnd, LogMessage, LogQuery, records};
use manman_common::wire::{LogPointer, Scope};
use manman_common::{LogSeq, ServerId, Timestamp};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::fleet::fake_worker::{FakeWorker, client, eventually, listen};
use crate::testing::TestHost;

const SOON: Duration = Duration::from_secs(20);

async fn logging(host: &TestHost) -> (SocketAddr, FakeWorker, ServerId) {
    let address = listen(host).await;
    let mut worker = FakeWorker::join(host, address, "attic").await;
    worker.link().await;
    let made = host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": "oa"})).await.expect(201);
    let id = made["id"].as_str().expect("an id").parse().expect("an id");
    (address, worker, id)
}

async fn message(socket: &mut Socket) -> Message {
    loop {
        let message = tokio::time::timeout(SOON, socket.next()).await.expect("in time").expect("open").expect("sound");
        if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
            return message;
        }
    }
}

/// The numbers of the lines that come until `last` is among them.
async fn seqs_until(socket: &mut Socket, last: u64) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.last() != Some(&last) {
        match message(socket).await {
            Message::Binary(chunk) => seqs.extend(records(&chunk).map(|record| record.seq.get())),
            Message::Text(text) => match serde_json::from_str(&text).expect("a message") {
                LogMessage::Lines { items } => seqs.extend(items.iter().map(|line| line.seq.get())),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    seqs
}

fn lines(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("{n:0>80}"))
}

#[tokio::test]
async fn history_and_news_come_in_order_and_once() {
    let host = TestHost::start().await;
    let (address, worker, id) = logging(&host).await;
    worker.log(id, lines(1000));
    let pointer: LogPointer = client(address, &host.admin).server_log("oa").await.expect("a pointer");
    assert_eq!((pointer.first_seq, pointer.last_seq), (LogSeq::new(1), LogSeq::new(1000)));
    assert_eq!(pointer.stream_url, format!("ws://{address}/server/{id}/log/stream"));

    let person = client(address, &host.admin);
    let mut all = person.websocket("/server/oa/log/stream").await.expect("a socket");
    let mut chunks = person.websocket("/server/oa/log/stream?format=chunk&tail=10").await.expect("a socket");
    let mut since = person.websocket("/server/oa/log/stream?since_seq=990").await.expect("a socket");
    assert_eq!(seqs_until(&mut all, 1000).await, (1..=1000).collect::<Vec<_>>());
    assert_eq!(seqs_until(&mut chunks, 1000).await, (991..=1000).collect::<Vec<_>>());
    assert_eq!(seqs_until(&mut since, 1000).await, (991..=1000).collect::<Vec<_>>());
    worker.log(id, lines(3));
    for socket in [&mut all, &mut chunks, &mut since] {
        assert_eq!(seqs_until(socket, 1003).await, [1001, 1002, 1003]);
    }
}

#[tokio::test]
async fn a_plain_request_reads_history() {
    let host = TestHost::start().await;
    let (_, worker, id) = logging(&host).await;
    worker.log(id, ["one".to_owned(), "two \u{1b}[31mred".to_owned()]);
    let ndjson = host.get("/server/oa/log/stream?follow=false").await;
    let Value::String(text) = ndjson.expect(200) else { panic!("two lines are no JSON") };
    let texts: Vec<Value> = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["text"].clone()).collect();
    assert_eq!(texts, ["one", "two \u{1b}[31mred"]);
    let auth = format!("Bearer {}", host.admin);
    let plain = host.send("GET", "/server/oa/log/stream", &[("authorization", &auth), ("accept", "text/plain")], Value::Null).await;
    assert_eq!(plain.expect(200), "one\ntwo \u{1b}[31mred\n");
    let events = [("authorization", auth.as_str()), ("accept", "text/event-stream"), ("last-event-id", "1")];
    let events = host.send("GET", "/server/oa/log/stream?follow=false", &events, Value::Null).await.expect(200);
    let Value::String(events) = events else { panic!("{events}") };
    assert!(
        events.contains("id: 2\n") && events.contains("two ") && !events.contains("\"one\"") && events.contains("complete"),
        "{events}"
    );
    for (query, field) in [("grep=(", "grep"), ("format=xml", "format"), ("tail=1&since_seq=1", "tail")] {
        assert_eq!(host.get(&format!("/server/oa/log/stream?{query}")).await.problem(400, "invalid")["field"], field);
    }
}

#[tokio::test]
async fn a_stalled_reader_slows_nobody_and_misses_nothing() {
    let host = TestHost::start().await;
    let (address, worker, id) = logging(&host).await;
    let person = client(address, &host.admin);
    let mut stalled = person.websocket("/server/oa/log/stream?format=chunk").await.expect("a socket");
    let mut quick = person.websocket("/server/oa/log/stream?format=chunk").await.expect("a socket");
    // Many windows, so that it can not all lie in buffers on the way.
    let count = usize::try_from(LOG_WINDOW).expect("it fits") * 24 / 128;
    worker.log(id, lines(count));
    let last = count as u64;
    let seqs = seqs_until(&mut quick, last).await;
    assert_eq!(seqs.len(), count);
    // Commands and beats pass as ever.
    worker.beat(Vec::new()).await.expect("a beat");
    let seqs = seqs_until(&mut stalled, last).await;
    assert!(seqs.iter().copied().eq(1..=last), "nothing is missing, doubled or out of order");
}

#[tokio::test]
async fn a_worker_that_goes_ends_its_streams() {
    let host = TestHost::start().await;
    let (address, mut worker, id) = logging(&host).await;
    worker.log(id, lines(2));
    let person = client(address, &host.admin);
    let mut socket = person.websocket("/server/oa/log/stream").await.expect("a socket");
    seqs_until(&mut socket, 2).await;
    worker.hang_up().await;
    let Message::Text(text) = message(&mut socket).await else { panic!("an end") };
    assert_eq!(serde_json::from_str::<LogMessage>(&text).expect("a message"), LogMessage::End { reason: LogEnd::WorkerGone });
    host.get("/server/oa/log").await.problem(409, "not-alive");
    worker.link().await;
    worker.log(id, lines(1));
    let mut socket = person.websocket("/server/oa/log/stream?since_seq=2").await.expect("a socket");
    assert_eq!(seqs_until(&mut socket, 3).await, [3]);
}

#[tokio::test]
async fn a_revoked_token_closes_its_streams_and_no_others() {
    let host = TestHost::start().await;
    let (address, worker, id) = logging(&host).await;
    worker.log(id, lines(2));
    let mut token_id = None;
    let viewer = host.token(Scope::Viewer, |token| token_id = Some(token.id)).await;
    let mut theirs = client(address, &viewer).websocket("/server/oa/log/stream").await.expect("a socket");
    let mut ours = client(address, &host.admin).websocket("/server/oa/log/stream").await.expect("a socket");
    seqs_until(&mut theirs, 2).await;
    seqs_until(&mut ours, 2).await;
    host.call("DELETE", &format!("/token/{}", token_id.expect("an id")), Value::Null).await.expect(204);
    let Message::Text(text) = message(&mut theirs).await else { panic!("an end") };
    assert_eq!(serde_json::from_str::<LogMessage>(&text).expect("a message"), LogMessage::End { reason: LogEnd::Revoked });
    worker.log(id, lines(1));
    assert_eq!(seqs_until(&mut ours, 3).await, [3]);
    assert!(client(address, &viewer).websocket("/server/oa/log/stream").await.is_err());
}

#[tokio::test]
async fn streams_that_are_closed_are_closed_at_the_worker() {
    let host = TestHost::start().await;
    let (address, worker, id) = logging(&host).await;
    worker.log(id, lines(1));
    let person = client(address, &host.admin);
    for _ in 0..3 {
        let mut socket = person.websocket("/server/oa/log/stream").await.expect("a socket");
        seqs_until(&mut socket, 1).await;
    }
    eventually(SOON, || async {
        let closed =
            worker.state.lock().seen.iter().filter(|frame| matches!(frame, manman_common::link::ToWorker::LogClose { .. })).count();
        if closed == 3 && host.app.fleet.readers.count() == 0 { Ok(()) } else { Err(format!("{closed} closed")) }
    })
    .await;
}

/// What the worker was asked for last.
fn asked(worker: &FakeWorker) -> LogQuery {
    let inner = worker.state.lock();
    let opened = inner.seen.iter().rev().find_map(|frame| match frame {
        ToWorker::LogOpen { query, .. } => Some(query.clone()),
        _ => None,
    });
    opened.expect("a log was opened")
}

#[tokio::test]
async fn pages_and_searches_are_the_workers_to_answer() {
    let host = TestHost::start().await;
    let (_, worker, id) = logging(&host).await;
    worker.log(id, lines(3));
    let stream = |query: &str| format!("/server/oa/log/stream?{query}");
    host.get(&stream("before_seq=500&limit=100")).await.expect(200);
    let page = LogQuery { before_seq: Some(LogSeq::new(500)), limit: Some(100), follow: Some(false), ..LogQuery::default() };
    assert_eq!(asked(&worker), page);
    host.get(&stream("grep=a.b(&literal=true&ignore_case=true&limit=5&until_seq=9")).await.expect(200);
    let found = LogQuery {
        grep: Some("a.b(".to_owned()),
        literal: true,
        ignore_case: true,
        limit: Some(5),
        until_seq: Some(LogSeq::new(9)),
        follow: Some(false),
        ..LogQuery::default()
    };
    assert_eq!(asked(&worker), found);
    let at: Timestamp = "2026-11-20T12:00:00Z".parse().expect("a time");
    let pointer = host.get("/server/oa/log?at=2026-11-20T13:00:00%2B01:00").await.expect(200);
    assert_eq!(asked(&worker), LogQuery { at: Some(at), limit: Some(1), follow: Some(false), ..LogQuery::default() });
    assert_eq!(pointer["at_seq"], 1);
    assert_eq!(host.get("/server/oa/log").await.expect(200).get("at_seq"), None);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=5&tail=5", "limit"),
        ("limit=5&follow=true", "follow"),
        ("at=2026-11-20T12:00:00Z&since_seq=4", "at"),
        ("literal=true", "literal"),
        ("grep=(a%7B1000%7D)%7B1000%7D", "grep"),
    ] {
        assert_eq!(host.get(&stream(query)).await.problem(400, "invalid")["field"], field, "{query}");
    }
    host.get(&stream("at=noon")).await.problem(400, "invalid");
}

#[tokio::test]
async fn a_log_is_a_file_to_keep() {
    let host = TestHost::start().await;
    let (_, worker, id) = logging(&host).await;
    worker.log(id, ["one".to_owned(), "two \u{1b}[31mred".to_owned()]);
    let text = host.get("/server/oa/log/download").await;
    assert_eq!(text.expect(200), "one\ntwo \u{1b}[31mred\n");
    let dated = host.get("/server/oa/log/download?format=text&timestamps=true&until_seq=2").await.expect(200);
    assert!(dated.as_str().is_some_and(|text| text.starts_with("2026-11-20T12:00:00.000000001Z one\n")), "{dated}");
    assert_eq!(asked(&worker), LogQuery { until_seq: Some(LogSeq::new(2)), follow: Some(false), ..LogQuery::default() });
    let json = host.get("/server/oa/log/download?format=json").await.expect(200);
    assert!(json.as_str().is_some_and(|lines| lines.lines().count() == 2), "{json}");
    assert_eq!(host.get("/server/oa/log/download?format=xml").await.problem(400, "invalid")["field"], "format");
}
