//! The inner routes over a real socket, with a maker of databases that keeps them in memory.

use std::collections::HashMap;
use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::proxy::ProxyConfig;
use crate::proxy::tests::{PEER, TestDoor, TestWaifu, client, eventually};

#[derive(Default)]
struct InMemory(tokio::sync::Mutex<HashMap<WaifuName, String>>);

#[async_trait]
impl Databases for InMemory {
    async fn provide(&self, name: &WaifuName, secret: &Secret) -> Result<Credentials, ProvideError> {
        let mut known = self.0.lock().await;
        let hash = match known.get(name) {
            Some(hash) => hash.clone(),
            None => hash_secret(secret).await.expect("a hash"),
        };
        if !verify_secret(secret, &hash).await.expect("readable") {
            return Err(ProvideError::WrongSecret);
        }
        known.insert(name.clone(), hash);
        let text = |what: &str| format!("{what}_{name}");
        Ok(Credentials { database: text("w"), user: text("w"), password: text("p"), host: "127.0.0.1".to_owned(), port: 5432 })
    }

    async fn rotate(&self, name: &WaifuName, secret: &Secret, fresh: Option<&Secret>) -> Result<Credentials, ProvideError> {
        let mut credentials = self.provide(name, secret).await?;
        if let Some(fresh) = fresh {
            self.0.lock().await.insert(name.clone(), hash_secret(fresh).await.expect("a hash"));
        }
        credentials.password.push('+');
        Ok(credentials)
    }

    async fn remove(&self, name: &WaifuName, secret: &Secret) -> Result<manman_common::Timestamp, ProvideError> {
        if !self.0.lock().await.contains_key(name) {
            return Err(ProvideError::Unknown);
        }
        self.provide(name, secret).await.map(|_| manman_common::Timestamp::from_micros(0))
    }

    async fn list(&self) -> Result<Vec<DatabaseView>, ProvideError> {
        Ok(Vec::new())
    }

    async fn tidy(&self) -> Result<(), ProvideError> {
        Ok(())
    }

    async fn secret_hash(&self, name: &WaifuName) -> Result<Option<String>, ProvideError> {
        Ok(self.0.lock().await.get(name).cloned())
    }
}

/// The inner listener of an orchestrator.
async fn inner(orchestrator: &Arc<Orchestrator>) -> SocketAddr {
    let router = open_routes::<()>(Arc::clone(orchestrator)).merge(admin_routes(Arc::clone(orchestrator)));
    let (router, _) = router.split_for_parts();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await });
    address
}

async fn post(address: SocketAddr, path: &str, body: Value) -> (u16, Value, Option<String>) {
    let http = client();
    let response = http.post(format!("http://{address}{path}")).json(&body).send().await.expect("an answer");
    let (status, retry) =
        (response.status().as_u16(), response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned));
    (status, response.json().await.unwrap_or(Value::Null), retry)
}

#[tokio::test]
async fn w01_hello_is_heard_inside_and_unknown_outside() {
    let (door, waifu) = (TestDoor::start().await, TestWaifu::start().await);
    let inside = inner(&door.orchestrator).await;
    let body = json!({ "name": "links", "host": waifu.address.to_string(), "additionalBinds": { "https://link.waifu": "/link" } });
    let wanted = json!({
        "name": "links",
        "url": format!("http://{}/links/", door.address),
        "lease_seconds": 0,
        "binds": { "accepted": ["https://link.waifu"], "rejected": [] },
    });
    let (status, reply, _) = post(inside, "/__internal/hello", body.clone()).await;
    assert_eq!((status, &reply), (201, &wanted));
    let (status, reply, _) = post(inside, "/__internal/hello", body.clone()).await;
    assert_eq!((status, &reply), (200, &wanted));
    let (status, ..) = post(door.address, "/__internal/hello", body.clone()).await;
    assert_eq!(status, 404);
    let leased = json!({ "name": "leased", "host": waifu.address.to_string(), "expire": 30 });
    let (_, reply, _) = post(inside, "/__internal/hello", leased).await;
    assert_eq!(reply["lease_seconds"], 30);
    let (status, problem, _) = post(inside, "/__internal/hello", json!({ "name": "x" })).await;
    assert_eq!(status, 400, "{problem}");
    let http = client();
    let page = http.post(format!("http://{inside}/__internal/hello")).header("origin", "http://evil").json(&body).send().await;
    assert_eq!(page.expect("an answer").status(), 403, "a page in a browser is no service");
}

#[tokio::test]
async fn w02_names_that_are_not_labels_are_refused() {
    let config = OrchestratorConfig { reserved: HashSet::from(["server".to_owned()]), ..OrchestratorConfig::default() };
    let door = TestDoor::with(config, ProxyConfig::default()).await;
    for name in ["a/b", "..", "__internal", "", "a.b", "Server", "\u{43b}inks"] {
        let request = serde_json::from_value(json!({ "name": name, "host": "h" })).expect("a hello");
        let problem = door.orchestrator.hello(PEER, request).await.expect_err("refused");
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some("name")), "{name}");
    }
}

#[tokio::test]
async fn w01_a_live_name_is_not_taken_over() {
    let (door, one, other) = (TestDoor::start().await, TestWaifu::start().await, TestWaifu::start().await);
    let inside = inner(&door.orchestrator).await;
    let hello = |name: &str, host: &TestWaifu, more: Value| {
        let mut body = json!({ "name": name, "host": host.address.to_string() });
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        post(inside, "/__internal/hello", body)
    };
    // By its lease.
    assert_eq!(hello("leased", &one, json!({ "expire": 2 })).await.0, 201);
    let (status, _, retry) = hello("leased", &other, json!({ "expire": 60 })).await;
    assert!(status == 409 && retry.is_some(), "{status} {retry:?}");
    let (_, reply, _) = hello("leased", &one, json!({ "expire": 50 })).await;
    assert_eq!(reply["lease_seconds"], 2, "a renewal is for the time that was said first");
    eventually("after the end of the lease the rival wins", async || match hello("leased", &other, json!({ "expire": 60 })).await {
        (201, ..) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // By its health.
    assert_eq!(hello("healthy", &one, json!({})).await.0, 201);
    assert_eq!(hello("healthy", &other, json!({})).await.0, 409);
    // By its secret.
    let secret = json!({ "secret": "a secret of 16+ bytes" });
    assert_eq!(hello("secret", &one, secret.clone()).await.0, 201);
    assert_eq!(hello("secret", &one, json!({})).await.0, 200, "from the same host it need not be shown again");
    assert_eq!(hello("secret", &other, json!({})).await.0, 403);
    assert_eq!(hello("secret", &other, json!({ "secret": "another one, that is wrong" })).await.0, 403);
    assert_eq!(hello("secret", &other, secret).await.0, 200);
    assert_eq!(door.orchestrator.incidents().await.total(), 2);
    // Who is gone loses it.
    one.stop().await;
    assert_eq!(hello("healthy", &other, json!({})).await.0, 200);
}

#[tokio::test]
async fn w10_a_wrong_secret_is_an_incident_and_six_have_to_wait() {
    let door = TestDoor::start().await;
    let inside = inner(&door.orchestrator).await;
    let ask = |name: &str, secret: &str| post(inside, "/__internal/database", json!({ "name": name, "secret": secret }));
    let (status, ..) = ask("links", "the right secret").await;
    assert_eq!(status, 503, "without a maker of databases there are none");
    door.orchestrator.set_databases(Arc::new(InMemory::default()));
    let (status, first, _) = ask("links", "the right secret").await;
    assert_eq!((status, first["port"].as_u64()), (200, Some(5432)));
    assert_eq!(ask("links", "the right secret").await.1, first, "the answer is the same each time");
    for number in 1..=5 {
        let (status, problem, _) = ask("links", "the wrong secret").await;
        assert_eq!((status, problem["status"].as_u64()), (403, Some(403)), "try {number}");
    }
    for secret in ["the wrong secret", "the right secret"] {
        let (status, _, retry) = ask("links", secret).await;
        assert!(status == 429 && retry.is_some(), "{status} {retry:?}");
    }
    assert_eq!(ask("other", "another's secret").await.0, 200, "another name is not affected");
    let http = client();
    let seen: Value =
        http.get(format!("http://{inside}/__internal/incidents")).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&seen["total"], &seen["items"][0]["name"], &seen["items"][0]["count"]), (&json!(5), &json!("links"), &json!(5)));
    assert_eq!(door.orchestrator.counts().incidents, 5);
    assert!(!seen.to_string().contains("secret\":") && !seen.to_string().contains("the wrong"), "{seen}");
    for (name, secret) in [("links", "short"), ("a/b", "a secret of 16+ bytes")] {
        assert_eq!(ask(name, secret).await.0, 400);
    }
}

#[tokio::test]
async fn w13_a_restart_keeps_routes_on_probation() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("orchestrator/state.json");
    let (clock, hand) = crate::clock::Clock::by_hand();
    let start = async || {
        let config = OrchestratorConfig { check_every: std::time::Duration::from_millis(200), ..OrchestratorConfig::default() };
        let orchestrator = Orchestrator::with_clock(config, Box::new(FileStore::new(&path)), clock.clone()).await.expect("an orchestrator");
        TestDoor::of(orchestrator, ProxyConfig::default()).await
    };
    let waifu = TestWaifu::start().await;
    let door = start().await;
    door.say(json!({ "name": "links", "host": waifu.address.to_string(), "additionalBinds": { "https://link.waifu": "/l" } })).await;
    door.say(json!({ "name": "short", "host": waifu.address.to_string(), "expire": 1 })).await;
    door.say(json!({ "name": "long", "host": waifu.address.to_string(), "expire": 1000 })).await;
    drop(door);
    hand.turn(std::time::Duration::from_millis(1001));
    let door = start().await;
    eventually("the route is back without a new hello", async || match door.get("/links/").await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.head),
    })
    .await;
    let bound = door.raw("GET /x HTTP/1.1\r\nHost: link.waifu\r\nConnection: close\r\n\r\n").await;
    assert_eq!((bound.status, waifu.seen().last().map(String::as_str)), (200, Some("GET /l/x")));
    assert_eq!(door.get("/long/").await.status, 200, "a lease that runs holds");
    assert_eq!(door.get("/short/").await.status, 404, "one that has ended meanwhile does not");
    drop(door);
    // A waifu that went away meanwhile stays on probation, and is not forwarded to.
    waifu.stop().await;
    let door = start().await;
    assert_eq!(door.get("/links/").await.status, 503);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("it is there").permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn w12_traefik_is_led_to_the_front_door_alone() {
    let (door, waifu) = (TestDoor::start().await, TestWaifu::start().await);
    assert_eq!(door.orchestrator.traefik(), json!({}), "without hosts there is nothing to route");
    door.say(json!({ "name": "links", "host": waifu.address.to_string(), "additionalBinds": { "https://link.waifu": "/l", "http://p.waifu": "/" } })).await;
    let dynamic = door.orchestrator.traefik();
    assert_eq!(dynamic["http"]["routers"]["manman-link-waifu"], json!({ "rule": "Host(`link.waifu`)", "service": "manman", "tls": {} }));
    assert_eq!(dynamic["http"]["routers"]["manman-p-waifu"], json!({ "rule": "Host(`p.waifu`)", "service": "manman" }));
    let url = &dynamic["http"]["services"]["manman"]["loadBalancer"]["servers"][0]["url"];
    assert_eq!(url, &json!(format!("http://{}", door.address)));
}

#[tokio::test]
async fn w10_incidents_are_told_to_a_webhook_and_not_to_ourselves() {
    let door = TestDoor::start().await;
    door.orchestrator.set_databases(Arc::new(InMemory::default()));
    let (told, mut tellings) = tokio::sync::mpsc::unbounded_channel();
    let receive = axum::routing::post(move |body: axum::Json<Value>| {
        let told = told.clone();
        async move { told.send(body.0).map_err(|_| axum::http::StatusCode::GONE) }
    });
    let receiver = TestWaifu::with(axum::Router::new().route("/hooks/x", receive)).await;
    let webhook: Webhook = format!("http://{}/hooks/x?from=manman", receiver.address).parse().expect("a webhook");
    // One that leads back to the front door is told nothing, and harms nobody.
    let circle: Webhook = format!("http://{}/hooks/x", door.address).parse().expect("a webhook");
    let telling = [webhook, circle].map(|webhook| tokio::spawn(Arc::clone(&door.orchestrator).tell_incidents(webhook)));
    eventually("both listen", async || match door.orchestrator.incident_news.receiver_count() {
        2 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    door.orchestrator.database(PEER, "links", "the right secret".to_owned()).await.expect("a database");
    door.orchestrator.database(PEER, "links", "the wrong secret".to_owned()).await.expect_err("refused");
    let seen = tokio::time::timeout(std::time::Duration::from_secs(5), tellings.recv()).await.expect("in time").expect("it is told");
    assert_eq!((&seen["incident"]["name"], &seen["incident"]["peer"]), (&json!("links"), &json!("127.0.0.1")));
    assert!(seen["text"].as_str().is_some_and(|text| text.contains("links")) && !seen.to_string().contains("the wrong"), "{seen}");
    telling.into_iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn w10_a_rotated_secret_holds_for_hello_and_database_alike() {
    let (door, one, other) = (TestDoor::start().await, TestWaifu::start().await, TestWaifu::start().await);
    door.orchestrator.set_databases(Arc::new(InMemory::default()));
    let inside = inner(&door.orchestrator).await;
    let (old, new) = ("the first secret", "the second secret");
    assert_eq!(post(inside, "/__internal/hello", json!({ "name": "links", "host": one.address.to_string(), "secret": old })).await.0, 201);
    assert_eq!(post(inside, "/__internal/database", json!({ "name": "links", "secret": old })).await.0, 200);
    let rotate = json!({ "name": "links", "secret": old, "newSecret": new });
    assert_eq!(post(inside, "/__internal/database/rotate", rotate.clone()).await.0, 200);
    assert_eq!(post(inside, "/__internal/database/rotate", rotate).await.0, 403, "the old one is no good for a second time");
    assert_eq!(post(inside, "/__internal/database", json!({ "name": "links", "secret": new })).await.0, 200);
    let moved = |secret: &str| json!({ "name": "links", "host": other.address.to_string(), "secret": secret });
    assert_eq!(post(inside, "/__internal/hello", moved(old)).await.0, 403);
    assert_eq!(post(inside, "/__internal/hello", moved(new)).await.0, 200);
}

#[test]
fn w01_every_route_is_described() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let orchestrator = runtime.block_on(Orchestrator::start(OrchestratorConfig::default(), Box::new(NoStore))).expect("an orchestrator");
    let api = open_routes::<()>(Arc::clone(&orchestrator)).merge(admin_routes(orchestrator)).into_openapi();
    let text = serde_json::to_value(&api).expect("JSON");
    for (path, method) in [
        ("/__internal/hello", "post"),
        ("/__internal/database", "post"),
        ("/__internal/database", "delete"),
        ("/__internal/database", "get"),
        ("/__internal/database/rotate", "post"),
        ("/__internal/waifu", "get"),
        ("/__internal/incidents", "get"),
        ("/__internal/traefik", "get"),
    ] {
        assert!(text["paths"][path][method]["responses"].is_object(), "{method} {path} is not described");
    }
    assert!(text["components"]["schemas"]["HelloRequest"]["properties"]["additionalBinds"].is_object(), "{text}");
}
