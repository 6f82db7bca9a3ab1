use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use manman_common::client::Socket;
use manman_common::wire::{Event, FeedChange, FeedMessage, Scope, ServerView, ServiceView, WorkerView};
use manman_common::{DesiredState, Phase, ServerId, WorkerId};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use uuid::Uuid;

use crate::clock;
use crate::fleet::fake_worker::{client, listen};
use crate::testing::TestHost;

const SOON: Duration = Duration::from_secs(10);

/// A console that keeps what it hears.
struct Console {
    socket: Socket,
    epoch: Uuid,
    seq: u64,
    servers: BTreeMap<ServerId, ServerView>,
    workers: BTreeMap<WorkerId, WorkerView>,
    services: BTreeMap<String, ServiceView>,
    events: BTreeMap<i64, Event>,
    snapshots: usize,
}

/// What ended a socket.
#[derive(Debug, PartialEq, Eq)]
struct Closed(u16);

impl Console {
    async fn open(address: SocketAddr, token: &str, query: &str) -> Self {
        let mut socket = client(address, token).websocket(&format!("/feed{query}")).await.expect("a socket");
        let FeedMessage::Hello { epoch, seq } = message(&mut socket).await.expect("open") else { panic!("no hello") };
        Self {
            socket,
            epoch,
            seq,
            servers: BTreeMap::new(),
            workers: BTreeMap::new(),
            services: BTreeMap::new(),
            events: BTreeMap::new(),
            snapshots: 0,
        }
    }

    /// With the first snapshot.
    async fn fresh(address: SocketAddr, token: &str) -> Self {
        let mut console = Self::open(address, token, "").await;
        console.hear().await.expect("open");
        assert_eq!(console.snapshots, 1);
        console
    }

    async fn hear(&mut self) -> Result<(), Closed> {
        match message(&mut self.socket).await? {
            FeedMessage::Hello { .. } => panic!("a second hello"),
            FeedMessage::Ping => {}
            FeedMessage::Snapshot { seq, servers, workers, services, events } => {
                self.snapshots += 1;
                self.seq = seq;
                self.servers = servers.into_iter().map(|view| (view.id, view)).collect();
                self.workers = workers.into_iter().map(|view| (view.id, view)).collect();
                self.services = services.into_iter().map(|view| (view.name.clone(), view)).collect();
                self.events = events.into_iter().map(|event| (event.id, event)).collect();
            }
            FeedMessage::Delta { seq, changes } => {
                assert!(seq > self.seq, "{seq} after {}", self.seq);
                self.seq = seq;
                for change in changes {
                    match change {
                        FeedChange::Server { id, value: Some(value) } => drop(self.servers.insert(id, *value)),
                        FeedChange::Server { id, value: None } => drop(self.servers.remove(&id)),
                        FeedChange::Worker { id, value: Some(value) } => drop(self.workers.insert(id, *value)),
                        FeedChange::Worker { id, value: None } => drop(self.workers.remove(&id)),
                        FeedChange::Service { id, value: Some(value) } => drop(self.services.insert(id, value)),
                        FeedChange::Service { id, value: None } => drop(self.services.remove(&id)),
                        FeedChange::Event { value } => drop(self.events.insert(value.id, value)),
                    }
                }
            }
        }
        Ok(())
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let heard = async {
                while !holds(self) {
                    self.hear().await.unwrap_or_else(|closed| panic!("{what}: {closed:?} ({place})"));
                }
            };
            assert!(tokio::time::timeout(SOON, heard).await.is_ok(), "in vain: {what} ({place})");
        }
    }

    fn server(&self, name: &str) -> Option<&ServerView> {
        self.servers.values().find(|view| view.name.as_str() == name)
    }

    /// What it shows, without what only time changes.
    fn shown(&self) -> Value {
        let mut value = json!({ "servers": self.servers, "workers": self.workers, "services": self.services });
        for part in ["workers", "services"] {
            for item in value[part].as_object_mut().expect("a map").values_mut() {
                item["last_seen"] = Value::Null;
                item["expires_in"] = Value::Null;
            }
        }
        value
    }
}

async fn message(socket: &mut Socket) -> Result<FeedMessage, Closed> {
    loop {
        match tokio::time::timeout(SOON, socket.next()).await.expect("in time").expect("not just gone") {
            Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("a message of the feed")),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(Some(frame))) => return Err(Closed(frame.code.into())),
            other => panic!("{other:?}"),
        }
    }
}

async fn make(host: &TestHost, name: &str) -> ServerId {
    let made = host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": name})).await.expect(201);
    made["id"].as_str().expect("an id").parse().expect("an id")
}

#[tokio::test]
async fn a_change_is_heard_within_a_blink() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let (worker, worker_token) = host.worker("attic").await;
    let a = make(&host, "a").await;
    let mut console = Console::fresh(address, &host.admin).await;
    assert_eq!(console.servers.keys().copied().collect::<Vec<_>>(), [a]);
    assert_eq!(console.workers[&worker].servers, 1);
    assert!(console.services.contains_key("manman-host") || console.services.is_empty(), "{:?}", console.services.keys());
    assert!(console.events.values().any(|event| event.kind == "server.created"));

    let began = clock::instant();
    make(&host, "b").await;
    console.until("the new server", |console| console.server("b").is_some()).await;
    console.until("its event", |console| console.events.values().any(|event| event.message.contains("`b`"))).await;
    console.until("its worker's count", |console| console.workers[&worker].servers == 2).await;
    // Ten times what it takes: the machine of the tests is busy.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    let status = json!({ "id": a, "generation": 1, "applied_generation": 1, "phase": "Ready", "restarts": 3 });
    let beat = json!({ "observed_revision": 2, "servers": [status] });
    host.call_as(&worker_token, "POST", &format!("/worker/{worker}/health"), beat).await.expect(200);
    console.until("the beat's word", |console| console.servers[&a].phase == Phase::Ready && console.servers[&a].restarts == 3).await;

    host.call("POST", "/server/b/stop", Value::Null).await.expect(202);
    console.until("the wish", |console| console.server("b").is_some_and(|view| view.desired == DesiredState::Stopped)).await;
    host.call("PATCH", "/worker/attic", json!({ "frozen": true })).await.expect(200);
    console.until("the frozen worker", |console| console.workers[&worker].frozen).await;
    host.call("PATCH", "/worker/attic", json!({ "labels": { "room": "top" } })).await.expect(200);
    console.until("its label", |console| console.workers[&worker].labels.get("room").is_some_and(|room| room == "top")).await;
    host.call("DELETE", "/worker/attic?force=true", Value::Null).await;
    console.until("nothing", |console| console.workers.is_empty() && console.servers.is_empty()).await;
    assert_eq!(console.snapshots, 1);
}

#[tokio::test]
async fn who_comes_back_hears_only_what_it_missed() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    host.worker("attic").await;
    let mut console = Console::fresh(address, &host.admin).await;
    make(&host, "a").await;
    console.until("the server", |console| console.server("a").is_some()).await;
    let (epoch, seq) = (console.epoch, console.seq);
    drop(console);
    make(&host, "b").await;
    host.call("POST", "/server/a/stop", Value::Null).await.expect(202);
    let mut again = Console::open(address, &host.admin, &format!("?epoch={epoch}&since={seq}")).await;
    assert_eq!(again.epoch, epoch);
    again.seq = seq;
    again.until("the changes", |console| console.server("b").is_some() && console.server("a").is_some()).await;
    assert_eq!(again.snapshots, 0, "nothing that was known is sent again");
    for query in
        [format!("?epoch={}&since={seq}", clock::new_uuid()), format!("?since={seq}"), format!("?epoch={epoch}&since={}", seq + 10_000)]
    {
        let mut other = Console::open(address, &host.admin, &query).await;
        other.hear().await.expect("open");
        assert_eq!(other.snapshots, 1, "{query}");
    }
    host.get("/feed?since=x").await.problem(400, "invalid");
}

#[tokio::test]
async fn who_may_see_one_server_hears_of_that_one_alone() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let (worker, worker_token) = host.worker("attic").await;
    let (a, b) = (make(&host, "a").await, make(&host, "b").await);
    let friend = host.token(Scope::Viewer, |token| token.server_id = Some(a)).await;
    let mut all = Console::fresh(address, &host.admin).await;
    let mut one = Console::fresh(address, &friend).await;
    host.call("POST", "/server/b/stop", Value::Null).await.expect(202);
    host.call("POST", "/server/a/stop", Value::Null).await.expect(202);
    make(&host, "c").await;
    all.until("all", |console| console.server("c").is_some()).await;
    one.until("its own", |console| console.servers[&a].desired == DesiredState::Stopped).await;
    one.until("its events", |console| console.events.values().any(|event| event.kind == "server.stop" || event.message.contains("stop")))
        .await;
    assert_eq!(one.servers.len(), 1);
    assert!(one.services.is_empty());
    assert!(one.events.values().all(|event| event.server_id == Some(a)), "{:?}", one.events);
    let seen = &one.workers[&worker];
    assert_eq!((seen.name.as_str(), seen.address.as_str(), seen.usage), ("attic", "", None));
    assert!(seen.capabilities.drivers.is_empty() && all.servers.contains_key(&b));
    // A worker and a machine that wants to join have no business here.
    let join = host.token(Scope::Join, |_| ()).await;
    for token in [&worker_token, &join] {
        host.call_as(token, "GET", "/feed", Value::Null).await.problem(403, "forbidden");
    }
    host.send("GET", "/feed", &[], Value::Null).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_socket_ends_with_its_session_and_with_the_host() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let made = host.call("POST", "/token", json!({ "scope": "viewer", "label": "friend" })).await.expect(201);
    let mut revoked = Console::fresh(address, made["token"].as_str().expect("a secret")).await;
    let brief = host.token(Scope::Viewer, |token| token.expires_at = Some(clock::now().plus(Duration::from_secs(2)))).await;
    let mut expired = Console::fresh(address, &brief).await;
    let mut stays = Console::fresh(address, &host.admin).await;
    host.call("DELETE", &format!("/token/{}", made["id"].as_str().expect("an id")), Value::Null).await.expect(204);
    let ended = async |console: &mut Console| loop {
        if let Err(closed) = console.hear().await {
            return closed;
        }
    };
    assert_eq!(ended(&mut revoked).await, Closed(4401));
    assert_eq!(ended(&mut expired).await, Closed(4401));
    host.app.fleet.hang_up();
    assert_eq!(ended(&mut stays).await, Closed(1012));
}

#[tokio::test]
async fn a_page_of_another_origin_and_a_plain_request_open_nothing() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().build().expect("a client");
    let ask = |origin: &'static str| {
        http.get(format!("http://{address}/feed"))
            .bearer_auth(&host.admin)
            .header("origin", origin)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    assert_eq!(ask("http://evil.example").send().await.expect("an answer").status(), 403);
    assert_eq!(ask("null").send().await.expect("an answer").status(), 403);
    host.get("/feed").await.problem(400, "invalid");
    let own: &'static str = format!("http://{address}").leak();
    let opened = ask(own).send().await.expect("an answer");
    assert_eq!(opened.status(), 101);
    assert_eq!(opened.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

/// One that reads nothing holds up nobody, and sees all that is once it reads.
#[tokio::test]
async fn a_slow_console_slows_no_other() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let (worker, token) = host.worker("attic").await;
    let a = make(&host, "a").await;
    let mut slow = Console::fresh(address, &host.admin).await;
    let mut quick = Console::fresh(address, &host.admin).await;
    let long = "x".repeat(200_000);
    for restarts in 1..=60_u32 {
        let status = json!({
            "id": a, "generation": 1, "applied_generation": 1, "phase": "Ready", "restarts": restarts, "extra": { "noise": format!("{restarts}{long}") }
        });
        let beat = json!({ "observed_revision": 1, "servers": [status] });
        host.call_as(&token, "POST", &format!("/worker/{worker}/health"), beat).await.expect(200);
        quick.until("the newest", |console| console.servers[&a].restarts == restarts).await;
    }
    slow.until("the newest", |console| console.servers[&a].restarts == 60).await;
    assert_eq!(slow.shown(), quick.shown());
}

/// Whatever is done to a fleet, who listened all along sees what who comes now does.
#[tokio::test]
async fn after_any_work_the_view_is_what_a_fresh_one_is() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let (worker, token) = host.worker("attic").await;
    let mut old = Console::fresh(address, &host.admin).await;
    let mut order = 4711_u64;
    let mut below = |end: u64| {
        order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (order >> 33) % end
    };
    let mut names: Vec<String> = Vec::new();
    for round in 0..60 {
        let name = if names.is_empty() { String::new() } else { names[below(names.len() as u64) as usize].clone() };
        match below(6) {
            choice if choice == 0 || names.is_empty() => {
                // One that is frozen takes nothing new.
                host.call("PATCH", "/worker/attic", json!({ "frozen": false })).await.expect(200);
                make(&host, &format!("s{round}")).await;
                names.push(format!("s{round}"));
            }
            1 => drop(host.call("POST", &format!("/server/{name}/stop"), Value::Null).await),
            2 => drop(host.call("POST", &format!("/server/{name}/start"), Value::Null).await),
            3 => {
                host.call("DELETE", &format!("/server/{name}"), Value::Null).await;
                names.retain(|one| *one != name);
            }
            4 => drop(host.call("PATCH", "/worker/attic", json!({ "frozen": below(2) == 0 })).await),
            _ => {
                let id = host.get(&format!("/server/{name}")).await.body["id"].clone();
                let phase = ["Starting", "Ready", "Stopping", "Stopped"][below(4) as usize];
                let status = json!({ "id": id, "generation": 1, "applied_generation": 1, "phase": phase, "restarts": round });
                let beat = json!({ "observed_revision": 1, "servers": [status] });
                drop(host.call_as(&token, "POST", &format!("/worker/{worker}/health"), beat).await);
            }
        }
    }
    host.call("PATCH", "/worker/attic", json!({ "frozen": false })).await.expect(200);
    make(&host, "the-last").await;
    old.until("the end", |console| console.server("the-last").is_some()).await;
    let mut listed = Vec::new();
    for item in host.get("/server?limit=200").await.expect(200)["items"].as_array().expect("items") {
        listed.push(item["id"].as_str().expect("an id").parse::<ServerId>().expect("an id"));
    }
    assert_eq!(old.servers.keys().copied().collect::<Vec<_>>(), listed);
    let fresh = Console::fresh(address, &host.admin).await;
    old.until("what a fresh one shows", |console| console.shown() == fresh.shown()).await;
    assert_eq!(old.snapshots, 1);
}

/// A browser that speaks HTTP/2 with us opens its sockets within it.
#[tokio::test]
async fn it_opens_over_http_2_as_well() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    // The server's settings come with its first answer.
    let first = hyper::Request::get(format!("http://{address}/")).body(axum::body::Body::empty()).expect("a request");
    assert_eq!(sender.send_request(first).await.expect("an answer").status(), 200);
    for path in ["/feed", "/event/stream"] {
        let request = hyper::Request::connect(format!("http://{address}{path}"))
            .extension(hyper::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .header("authorization", format!("Bearer {}", host.admin))
            .body(axum::body::Body::empty())
            .expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}: {:?}", response.headers());
        let upgraded = hyper::upgrade::on(response).await.expect("a socket");
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        if path == "/feed" {
            let heard = tokio::time::timeout(SOON, socket.next()).await.expect("in time").expect("open").expect("sound");
            assert!(heard.to_text().is_ok_and(|text| text.contains("hello")), "{heard:?}");
        }
    }
    let plain = hyper::Request::connect(format!("{address}")).body(axum::body::Body::empty()).expect("a request");
    assert!(sender.send_request(plain).await.is_ok_and(|answer| !answer.status().is_success()));
}
