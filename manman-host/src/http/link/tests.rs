//! Links over real sockets, with a worker that behaves and with others that do not.

use std::time::Duration;

use futures_util::StreamExt as _;
use manman_common::link::{PollAnswer, PollRequest, ToHost, ToWorker};
use manman_common::wire::WorkerEvent;
use manman_common::{Phase, RunId, ServerId, Timestamp};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::clock;
use crate::fleet::fake_worker::{FakeWorker, eventually, listen, status, text};
use crate::testing::TestHost;

const SOON: Duration = Duration::from_secs(10);

async fn server(host: &TestHost, name: &str) -> ServerId {
    let made = host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": name})).await.expect(201);
    made["id"].as_str().expect("an id").parse().expect("an id")
}

async fn has_generation(worker: &FakeWorker, server: ServerId, generation: u64) {
    eventually(SOON, || async {
        match worker.has_spec(server) {
            Some(spec) if spec.generation.get() == generation => Ok(()),
            other => Err(format!("{:?}", other.map(|spec| spec.generation))),
        }
    })
    .await;
}

#[tokio::test]
async fn specs_reach_the_worker_and_its_word_comes_back() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    let early = server(&host, "early").await;
    worker.link().await;
    has_generation(&worker, early, 1).await;
    let late = server(&host, "late").await;
    has_generation(&worker, late, 1).await;
    host.call("POST", "/server/early/stop", Value::Null).await.expect(202);
    has_generation(&worker, early, 2).await;

    worker.send(&ToHost::Status { servers: vec![status(late, 1, Phase::Ready)] });
    eventually(SOON, || async {
        let seen = host.get("/server/late").await.expect(200);
        if seen["phase"] == "Ready" { Ok(()) } else { Err(seen["phase"].to_string()) }
    })
    .await;
    // A word on an older generation changes nothing any more.
    host.call("PATCH", "/server/late", json!({"limits": {"pids": 100}})).await.expect(200);
    worker.beat(vec![status(late, 2, Phase::Stopping)]).await.expect("a beat");
    worker.beat(vec![status(late, 1, Phase::Ready)]).await.expect("a beat");
    assert_eq!(host.get("/server/late").await.expect(200)["phase"], "Stopping");

    let acked = host.get("/worker/attic").await.expect(200);
    assert_eq!((&acked["linked"], &acked["status"]), (&json!(true), &json!("alive")));
    eventually(SOON, || async {
        let seen = host.get("/worker/attic").await.expect(200);
        if seen["observed_revision"] == seen["desired_revision"] { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn what_changed_while_the_link_was_down_is_pulled() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    worker.link().await;
    let one = server(&host, "one").await;
    has_generation(&worker, one, 1).await;
    worker.hang_up().await;
    host.call("POST", "/server/one/stop", Value::Null).await.expect(202);
    let two = server(&host, "two").await;
    worker.link().await;
    has_generation(&worker, one, 2).await;
    has_generation(&worker, two, 1).await;
    let seen = worker.state.lock().seen.iter().filter(|frame| matches!(frame, ToWorker::Index { .. })).count();
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn a_gone_server_frees_its_ports_and_is_sent_no_more() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    worker.link().await;
    let one = server(&host, "one").await;
    has_generation(&worker, one, 1).await;
    host.call("DELETE", "/server/one?force=true", Value::Null).await.expect(202);
    has_generation(&worker, one, 2).await;
    let ports = async || -> i64 { sqlx::query_scalar("select count(*) from server_port").fetch_one(&host.app.db).await.expect("a count") };
    assert_eq!(ports().await, 1, "its process may still hold the port");
    worker.send(&ToHost::Status { servers: vec![status(one, 2, Phase::Deleted)] });
    eventually(SOON, || async { if ports().await == 0 { Ok(()) } else { Err("taken".to_owned()) } }).await;
    worker.hang_up().await;
    worker.link().await;
    let index = worker.state.lock().seen.iter().find_map(|frame| match frame {
        ToWorker::Index { servers, .. } => Some(servers.len()),
        _ => None,
    });
    assert_eq!(index, Some(0));
}

#[tokio::test]
async fn events_are_stored_once() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    worker.link().await;
    let event = |seq: u64| WorkerEvent {
        seq,
        at: Timestamp::EPOCH,
        kind: "server.crashed".to_owned(),
        server_id: None,
        message: format!("crash\u{0} {seq}"),
        data: Value::Null,
    };
    for batch in [vec![event(1), event(2)], vec![event(1), event(2), event(3)]] {
        worker.send(&ToHost::Events { events: batch });
    }
    eventually(SOON, || async {
        let inner = worker.state.lock();
        let stored = |frame: &ToWorker| if let ToWorker::EventsStored { up_to } = frame { Some(*up_to) } else { None };
        let stored: Vec<u64> = inner.seen.iter().filter_map(stored).collect();
        if stored == [2, 3] { Ok(()) } else { Err(format!("{stored:?}")) }
    })
    .await;
    let listed = host.get("/event?kind=server.crashed").await.expect(200);
    let messages: Vec<&str> = listed["items"].as_array().expect("items").iter().filter_map(|event| event["message"].as_str()).collect();
    assert_eq!(messages, ["crash\u{fffd} 3", "crash\u{fffd} 2", "crash\u{fffd} 1"], "newest first, each once");
}

#[tokio::test]
async fn garbage_closes_the_link_and_nothing_else() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    for garbage in [
        Message::Text("{}".into()),
        Message::Text("not json".into()),
        Message::Text(r#"{"frame":"no_such_frame"}"#.into()),
        Message::Binary(vec![1, 2, 3].into()),
        Message::Text(format!("{{\"frame\":\"pull\",\"servers\":{:?}}}", vec!["x"; 10]).into()),
    ] {
        worker.link().await;
        worker.send_raw(garbage);
        worker.link_closed().await;
    }
    // Before the Hello, too.
    for first in [Message::Text("{}".into()), Message::Binary(vec![0; 9].into()), text(&ToHost::Pull { servers: Vec::new() })] {
        let mut socket = worker.dial().await;
        futures_util::SinkExt::send(&mut socket, first).await.expect("it is open");
        let last = tokio::time::timeout(SOON, socket.next()).await.expect("it is closed");
        assert!(matches!(last, Some(Ok(Message::Close(Some(_))))), "{last:?}");
    }
    worker.link().await;
    assert_eq!(host.get("/worker/attic").await.expect(200)["linked"], true);
}

#[tokio::test]
async fn a_frame_that_is_too_long_closes_the_link() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    worker.link().await;
    worker.send_raw(Message::Text("x".repeat(manman_common::link::FRAME_MAX + 1).into()));
    worker.link_closed().await;
    worker.link().await;
}

#[tokio::test]
async fn of_two_links_the_newer_is_the_link_and_a_stranger_gets_none() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    worker.link().await;
    // The same process again: its old socket may be half dead.
    let mut second = worker.dial().await;
    futures_util::SinkExt::send(&mut second, text(&worker.hello())).await.expect("it is open");
    worker.link_closed().await;
    assert!(matches!(frame(&mut second).await, ToWorker::Welcome { .. }));

    // Another process with the same token and epoch: a copy of the directory.
    let ToHost::Hello(mut hello) = worker.hello() else { panic!("a hello") };
    hello.run_id = RunId::from_uuid(clock::new_uuid());
    let mut copy = worker.dial().await;
    futures_util::SinkExt::send(&mut copy, text(&ToHost::Hello(hello.clone()))).await.expect("it is open");
    let goodbye = frame(&mut copy).await;
    assert!(matches!(goodbye, ToWorker::Goodbye { reason: manman_common::error::GoneReason::Superseded, .. }), "{goodbye:?}");

    // An epoch from before the host was set back.
    hello.session_epoch = hello.session_epoch.next();
    let mut future = worker.dial().await;
    futures_util::SinkExt::send(&mut future, text(&ToHost::Hello(hello))).await.expect("it is open");
    let goodbye = frame(&mut future).await;
    assert!(matches!(goodbye, ToWorker::Goodbye { reason: manman_common::error::GoneReason::Revoked, .. }), "{goodbye:?}");
    assert_eq!(host.get("/worker/attic").await.expect(200)["linked"], true, "the second link goes on");
}

async fn frame(socket: &mut manman_common::client::Socket) -> ToWorker {
    loop {
        match tokio::time::timeout(SOON, socket.next()).await.expect("in time") {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("a frame"),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("no frame: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_freeze_reaches_a_worker_that_was_away() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    let frozen = host.call("PATCH", "/worker/attic", json!({"frozen": true})).await.expect(200);
    assert_eq!((&frozen["frozen"], &frozen["status"]), (&json!(true), &json!("frozen")));
    worker.link().await;
    eventually(SOON, || async { if worker.state.lock().frozen { Ok(()) } else { Err("not frozen".to_owned()) } }).await;
    host.call("PATCH", "/worker/attic", json!({"frozen": false})).await.expect(200);
    assert!(!worker.state.lock().frozen);
    assert_eq!(host.get("/worker/attic").await.expect(200)["status"], "alive");
}

#[tokio::test]
async fn a_long_poll_carries_the_same_frames() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let worker = FakeWorker::join(&host, address, "attic").await;
    let one = server(&host, "one").await;
    let poll = async |round: u64, frames: Vec<ToHost>| {
        let request = PollRequest { session_epoch: worker.epoch, round, frames };
        worker.client.worker_poll(worker.id, &request).await
    };
    let first = poll(1, vec![worker.hello()]).await.expect("welcome");
    assert!(matches!(first.frames[0], ToWorker::Welcome { .. }), "{first:?}");
    assert_eq!(poll(1, Vec::new()).await.expect("the same").frames, first.frames);

    // Whatever the first answer did not hold comes with the next; a repeated round is answered alike.
    let mut frames = first.frames;
    let mut round = 1;
    while !frames.iter().any(|frame| matches!(frame, ToWorker::Index { .. })) {
        round += 1;
        frames.extend(poll(round, Vec::new()).await.expect("an index").frames);
    }
    round += 1;
    let specs = poll(round, vec![ToHost::Pull { servers: vec![one] }]).await.expect("specs");
    assert!(matches!(&specs.frames[..], [ToWorker::Specs { specs, .. }] if specs.len() == 1), "{specs:?}");
    let repeated: PollAnswer = poll(round, vec![ToHost::Pull { servers: vec![one] }]).await.expect("the same");
    assert_eq!(repeated.frames, specs.frames);
    // Two rounds may overtake each other on their way.
    let (early, late) = (round + 2, round + 1);
    let ahead = poll(early, Vec::new());
    let behind = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        poll(late, vec![ToHost::Pull { servers: vec![one] }]).await
    };
    // The one behind does not hold up the one ahead, which came first and waits for its turn.
    let (ahead, behind) = tokio::time::timeout(SOON, async { tokio::join!(ahead, behind) }).await.expect("nobody waits for the time-out");
    let both: Vec<ToWorker> = behind.expect("in its turn").frames.into_iter().chain(ahead.expect("in its turn").frames).collect();
    assert!(!both.is_empty() && both.iter().all(|frame| matches!(frame, ToWorker::Specs { .. })), "{both:?}");
    round += 2;
    let jump = poll(round + 5, Vec::new()).await.expect_err("a round is missing");
    assert_eq!(jump.problem().map(|problem| problem.status), Some(409));

    // A waiting round is set free by the next, and news wakes that one.
    let waiting = poll(round + 1, Vec::new());
    let next = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let news = poll(round + 2, vec![ToHost::Ack { revision: manman_common::Revision::new(1) }]);
        let wish = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            host.call("POST", "/server/one/stop", Value::Null).await.expect(202);
        };
        tokio::join!(news, wish).0
    };
    let (waited, news) = tokio::time::timeout(SOON, async { tokio::join!(waiting, next) }).await.expect("nobody waits for the time-out");
    assert_eq!(waited.expect("set free").frames, []);
    let news = news.expect("news");
    assert!(matches!(&news.frames[..], [ToWorker::Specs { .. }]), "{news:?}");
}
