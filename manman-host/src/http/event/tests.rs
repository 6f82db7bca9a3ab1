use std::time::Duration;

use futures_util::StreamExt as _;
use manman_common::wire::{Event, Scope};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::fleet::fake_worker::{client, listen};
use crate::testing::TestHost;

const SOON: Duration = Duration::from_secs(10);

async fn next(socket: &mut manman_common::client::Socket) -> Event {
    loop {
        match tokio::time::timeout(SOON, socket.next()).await.expect("in time").expect("open").expect("sound") {
            Message::Text(text) => return serde_json::from_str(&text).expect("an event"),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn events_are_listed_in_pages_and_filtered() {
    let host = TestHost::start().await;
    let (worker, _) = host.worker("attic").await;
    for name in ["a", "b", "c"] {
        host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": name})).await.expect(201);
    }
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = host.get(&format!("/event?limit=2{cursor}")).await.expect(200);
        ids.extend(page["items"].as_array().expect("items").iter().filter_map(|event| event["id"].as_i64()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!(ids.len() >= 4 && ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    let of_b = host.get("/event?server_id=b").await.expect(200);
    assert!(of_b["items"].as_array().is_some_and(
        |items| !items.is_empty() && items.iter().all(|event| event["kind"].as_str().is_some_and(|kind| kind.starts_with("server.")))
    ));
    let joined = host.get(&format!("/event?worker_id={worker}&kind=worker.joined")).await.expect(200);
    assert_eq!(joined["items"].as_array().map(Vec::len), Some(1), "{joined:#}");
    host.get("/event?limit=0").await.problem(400, "invalid");
    host.get("/event?cursor=x").await.problem(400, "invalid");
}

#[tokio::test]
async fn a_stream_misses_nothing_between_two_connections() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    host.worker("attic").await;
    let person = client(address, &host.admin);
    let mut socket = person.websocket("/event/stream?kind=server.created").await.expect("a socket");
    let make = async |name: &str| {
        host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": name})).await.expect(201);
    };
    make("a").await;
    let first = next(&mut socket).await;
    drop(socket);
    make("b").await;
    let mut socket = person.websocket(&format!("/event/stream?kind=server.created&since={}", first.id)).await.expect("a socket");
    make("c").await;
    let (second, third) = (next(&mut socket).await, next(&mut socket).await);
    assert!(first.id < second.id && second.id < third.id);
    assert!(second.message.contains("`b`") && third.message.contains("`c`"), "{second:?} {third:?}");
}

#[tokio::test]
async fn who_sees_one_server_sees_its_events_alone() {
    let host = TestHost::start().await;
    host.worker("attic").await;
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        let made = host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": name})).await.expect(201);
        ids.push(made["id"].as_str().expect("an id").to_owned());
    }
    let only = ids[0].parse().expect("an id");
    let viewer = host.token(Scope::Viewer, |token| token.server_id = Some(only)).await;
    let seen = host.call_as(&viewer, "GET", "/event", Value::Null).await.expect(200);
    assert!(
        seen["items"].as_array().is_some_and(|items| !items.is_empty() && items.iter().all(|event| event["server_id"] == ids[0].as_str()))
    );
    host.call_as(&viewer, "GET", "/event?server_id=b", Value::Null).await.problem(403, "forbidden");
    host.call_as(&viewer, "GET", "/metrics", Value::Null).await.problem(403, "forbidden");
    let metrics = host.get("/metrics").await.expect(200);
    let Value::String(metrics) = metrics else { panic!("text") };
    for line in [
        "manman_workers{status=\"alive\"} 1",
        "manman_http_requests_total{status=\"2xx\"}",
        "manman_http_request_seconds_bucket{le=\"+Inf\"}",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}
