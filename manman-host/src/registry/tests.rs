//! The registry within the host: behind one door only, in the database, and fed by beats.

use std::time::Duration;

use manman_common::Phase;
use serde_json::{Value, json};

use super::*;
use crate::fleet::fake_worker::{FakeWorker, eventually, listen, status};
use crate::http::router::{Door, router};
use crate::testing::TestHost;

/// A host whose requests come in by the internal door.
async fn inside() -> TestHost {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut host = TestHost::start().await;
    host.router = router(&host.app, Door::Internal);
    host
}

const SOON: Duration = Duration::from_secs(15);

async fn until_at(host: &TestHost, name: &str, wanted: Option<(&str, u16)>, within: Duration) {
    let wanted = wanted.map(|(ip, port)| json!({"ip": ip, "port": port}));
    eventually(within, || async {
        let answer = host.send("GET", &format!("/discover/{name}"), &[], Value::Null).await;
        // Asking too often is no news of the service.
        let at = (answer.status == 200).then_some(answer.body);
        if answer.status != 429 && at == wanted { Ok(()) } else { Err(format!("{name} is at {at:?}")) }
    })
    .await;
}

#[tokio::test]
async fn l13_nothing_of_it_is_at_the_front_door() {
    let mut host = TestHost::start().await;
    let routes = [
        ("PUT", "/self-register"),
        ("POST", "/self-register"),
        ("DELETE", "/self-register/a"),
        ("PUT", "/register"),
        ("DELETE", "/register/a"),
        ("GET", "/discover"),
        ("GET", "/discover/"),
        ("GET", "/discover/manman-host"),
        ("GET", "/health"),
    ];
    let body = || json!({"name": "a", "expire": 60, "expiry": 60, "ip": "10.0.0.1", "port": 80});
    for (method, path) in routes {
        // With the right to everything as well as with none.
        host.send(method, path, &[], body()).await.problem(404, "not-found");
        host.call(method, path, body()).await.problem(404, "not-found");
    }
    assert_eq!(host.send("GET", "/openapi.json", &[], Value::Null).await.expect(200)["paths"]["/discover"], Value::Null);
    host.router = router(&host.app, Door::Internal);
    for (method, path) in routes {
        assert_ne!(host.send(method, path, &[], body()).await.status, 401, "{method} {path}");
    }
    assert!(host.send("GET", "/openapi.json", &[], Value::Null).await.expect(200)["paths"]["/discover"].is_object());
    assert_eq!(host.send("GET", "/health", &[], Value::Null).await.expect(200), OWN_NAME);
    // The rest of the API wants its token here as there.
    host.send("GET", "/server", &[], Value::Null).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn l16_records_are_in_the_database_and_outlive_the_host() {
    let host = inside().await;
    for (name, expire) in [("links", 600), ("eternal", 0), ("brief", 1)] {
        let added = host.send("PUT", "/self-register", &[], json!({"name": name, "expire": expire, "port": 80})).await.expect(201);
        assert_eq!((&added["result"], &added["ip"]), (&json!("added"), &json!("192.168.1.7")));
    }
    let rival = json!({"name": "links", "expire": 600, "port": 81});
    let ignored = host.send("PUT", "/self-register", &[], rival).await;
    assert_eq!((ignored.status.as_u16(), &ignored.body["result"]), (409, &json!("ignored")), "the host's own layers leave the word alone");
    // From the network nobody speaks for others.
    let other = json!({"name": "nas", "expiry": 60, "ip": "10.0.0.1", "port": 80});
    host.send("PUT", "/register", &[], other).await.expect(403);
    let kept = async || -> Vec<String> {
        sqlx::query_scalar("select name from registry_entry order by name").fetch_all(&host.app.db).await.expect("names")
    };
    eventually(SOON, || async {
        let names = kept().await;
        if names == ["eternal", "links"] { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    let next = in_database(host.app.db.clone());
    next.restore().await.expect("records");
    assert_eq!(next.locate("links").map(|at| (at.ip, at.port)), Some(("192.168.1.7".to_owned(), 80)));
    assert_eq!(next.len(), 2);
    let text: Vec<String> = sqlx::query_scalar("select record::text from registry_entry").fetch_all(&host.app.db).await.expect("records");
    assert!(text.iter().all(|record| !record.contains("mm_service_")));
}

/// Issue C, item 4: `GET /discover/my-server` is the ip and port of the running game.
#[tokio::test]
async fn a_ready_game_is_found_by_its_name_as_long_as_its_worker_is_heard_of() {
    let host = inside().await;
    let address = listen(&host).await;
    let worker = FakeWorker::join(&host, address, "attic").await;
    let body = json!({"game_id": "docker:manman/openarena", "name": "oa"});
    let server = host.call("POST", "/server", body).await.expect(201);
    let id = server["id"].as_str().expect("an id").parse().expect("an id");
    let port = u16::try_from(server["ports"][0]["port"].as_u64().expect("a port")).expect("a port");
    worker.beat(vec![status(id, 1, Phase::Starting)]).await.expect("a beat");
    until_at(&host, "manman-host", Some(("127.0.0.1", 8080)), SOON).await;
    until_at(&host, "oa", None, SOON).await;
    worker.beat(vec![status(id, 1, Phase::Ready)]).await.expect("a beat");
    until_at(&host, "oa", Some(("192.168.1.10", port)), SOON).await;
    // Nobody takes it while it runs.
    let rival = host.send("PUT", "/self-register", &[], json!({"name": "oa", "expire": 60, "port": 1})).await;
    assert_eq!(rival.status, 409);
    worker.beat(vec![status(id, 1, Phase::Stopped)]).await.expect("a beat");
    until_at(&host, "oa", None, Duration::from_secs(3)).await;
    let mut again = status(id, 1, Phase::Ready);
    again.restarts = 1;
    worker.beat(vec![again]).await.expect("a beat");
    until_at(&host, "oa", Some(("192.168.1.10", port)), SOON).await;
    // Its whole machine falls silent.
    let silent = crate::clock::instant();
    until_at(&host, "oa", None, Duration::from_secs(30)).await;
    assert!(silent.elapsed() > Duration::from_secs(10), "two beats may be lost");
    worker.beat(vec![status(id, 1, Phase::Ready)]).await.expect("a beat");
    until_at(&host, "oa", Some(("192.168.1.10", port)), SOON).await;
}
