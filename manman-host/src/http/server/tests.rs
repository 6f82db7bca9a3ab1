//! Servers through the real router and a real database.

use manman_common::wire::Scope;
use manman_common::{ServerId, WorkerId};
use serde_json::{Value, json};

use crate::testing::TestHost;

const OPENARENA: &str = "docker:manman/openarena";

async fn create(host: &TestHost, body: Value) -> Value {
    host.call("POST", "/server", body).await.expect(201)
}

/// What the worker would say of a server.
async fn report(host: &TestHost, worker: WorkerId, token: &str, server: &Value, phase: &str) {
    let generation = &server["generation"];
    let status = json!({ "id": server["id"], "generation": generation, "applied_generation": generation, "phase": phase });
    host.call_as(token, "POST", &format!("/worker/{worker}/health"), json!({ "servers": [status] })).await.expect(200);
}

#[tokio::test]
async fn a_wish_is_made_seen_and_changed() {
    let host = TestHost::start().await;
    let (worker, token) = host.worker("attic").await;
    let made = host.call("POST", "/server", json!({ "game_id": OPENARENA, "name": "oa" })).await;
    let location = made.headers["location"].to_str().expect("text").to_owned();
    let server = made.expect(201);
    assert_eq!(location, format!("/server/{}", server["id"].as_str().expect("an id")));
    assert_eq!((&server["phase"], &server["generation"], &server["worker_name"]), (&json!("Pending"), &json!(1), &json!("attic")));
    assert_eq!(server["url"], "192.168.1.10:27960");
    assert_eq!(server["variables"]["PASSWORD"], Value::Null, "a secret has no value in a view");
    assert_eq!(server["variables"]["SERVER_NAME"], "oa");

    // Name and id mean the same server, and starting what is to run is nothing new.
    assert_eq!(host.get("/server/OA").await.expect(200)["id"], server["id"]);
    assert_eq!(host.call("POST", "/server/oa/start", Value::Null).await.expect(200)["generation"], 1);

    report(&host, worker, &token, &server, "Ready").await;
    assert_eq!(host.get("/server/oa").await.expect(200)["phase"], "Ready");
    let changed = host.call("PATCH", "/server/oa", json!({ "variables": { "MAP": "oa_ctf" } })).await.expect(200);
    assert_eq!(
        (&changed["generation"], &changed["pending_restart"], &changed["variables"]["MAP"]),
        (&json!(2), &json!(true), &json!("oa_ctf"))
    );
    let back = host.call("PUT", "/server/oa", json!({ "variables": { "MAP": null } })).await.expect(200);
    assert_eq!(back["variables"]["MAP"], "oa_dm1");

    let stopped = host.call("POST", "/server/oa/stop", Value::Null).await.expect(202);
    assert_eq!((&stopped["generation"], &stopped["server"]["desired"]), (&json!(4), &json!("stopped")));
    host.call("POST", "/server/oa/stop", Value::Null).await.expect(200);
    host.call("POST", "/server/oa/kill", Value::Null).await.expect(202);
}

#[tokio::test]
async fn bad_wishes_name_the_field_and_leave_nothing_behind() {
    let host = TestHost::start().await;
    host.worker("attic").await;
    for (body, status, kind, field) in [
        (json!({ "game_id": "yum:openarena" }), 400, "invalid", "game_id"),
        (json!({ "game_id": "docker:UPPER/case" }), 400, "invalid", "game_id"),
        (json!({}), 400, "invalid", ""),
        (json!({ "game_id": OPENARENA, "colour": "red" }), 400, "invalid", "colour"),
        (json!({ "game_id": OPENARENA, "name": "a/b" }), 400, "invalid", "name"),
        (json!({ "game_id": OPENARENA, "ports": [{ "port": 70000 }] }), 400, "invalid", "ports[0].port"),
        (json!({ "game_id": OPENARENA, "ports": [{ "port": "x" }] }), 400, "invalid", "ports[0].port"),
        (json!({ "game_id": OPENARENA, "worker_id": "cellar" }), 400, "invalid", "worker_id"),
        (json!({ "game_id": OPENARENA, "variables": { "MAX_PLAYERS": "900" } }), 400, "invalid", "variables.MAX_PLAYERS"),
        (json!({ "game_id": OPENARENA, "variables": { "NOPE": "1" } }), 400, "invalid", "variables.NOPE"),
        (json!({ "game_id": OPENARENA, "desired": "deleted" }), 400, "invalid", "desired"),
        (json!({ "game_id": OPENARENA, "limits": { "memory_bytes": 12 } }), 400, "invalid", "limits.memory_bytes"),
        (json!({ "game_id": "steamcmd:4" }), 400, "invalid", "game_id"),
        (json!({ "game_id": "steamcmd:4", "start": { "argv": ["./x"] } }), 409, "conflict", "worker_id"),
    ] {
        let shown = body.to_string();
        let problem = host.call("POST", "/server", body).await.problem(status, kind);
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{shown}: {problem:#}");
    }
    let ports: i64 = sqlx::query_scalar("select count(*) from server_port").fetch_one(&host.app.db).await.expect("a count");
    assert_eq!(ports, 0);
    assert_eq!(host.get("/server").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn of_two_racing_for_a_port_one_gets_it() {
    let host = TestHost::start().await;
    host.worker("attic").await;
    let body = |number: u32| json!({ "game_id": OPENARENA, "name": format!("oa{number}"), "ports": [{ "port": 28000 }] });
    let answers = futures_util::future::join_all((0..8).map(|number| host.call("POST", "/server", body(number)))).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.problem(409, "port-taken")["field"], "ports[0].port");
    }
    // A port that nobody named gives way.
    let next = create(&host, json!({ "game_id": OPENARENA })).await;
    let third = create(&host, json!({ "game_id": OPENARENA })).await;
    assert_eq!((&next["ports"][0]["port"], &third["ports"][0]["port"]), (&json!(27960), &json!(27961)));
    assert_eq!((&next["name"], &third["name"]), (&json!("openarena"), &json!("openarena-2")));
}

#[tokio::test]
async fn a_key_makes_one_server_however_often_it_is_sent() {
    let host = TestHost::start().await;
    host.worker("attic").await;
    let auth = format!("Bearer {}", host.admin);
    let headers = [("authorization", auth.as_str()), ("idempotency-key", "k1")];
    let body = json!({ "game_id": OPENARENA });
    let answers = futures_util::future::join_all((0..4).map(|_| host.send("POST", "/server", &headers, body.clone()))).await;
    let ids: std::collections::BTreeSet<String> = answers.into_iter().map(|answer| answer.expect(201)["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
    let other = host.send("POST", "/server", &headers, json!({ "game_id": OPENARENA, "name": "other" })).await;
    assert_eq!(other.problem(409, "conflict")["field"], "Idempotency-Key");
    assert_eq!(host.get("/server").await.expect(200)["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn lost_updates_are_refused() {
    let host = TestHost::start().await;
    host.worker("attic").await;
    create(&host, json!({ "game_id": OPENARENA, "name": "oa" })).await;
    let auth = format!("Bearer {}", host.admin);
    let patch = |tag: &'static str, body: Value| {
        let auth = auth.clone();
        let host = &host;
        async move { host.send("PATCH", "/server/oa", &[("authorization", &auth), ("if-match", tag)], body).await }
    };
    patch("\"1\"", json!({ "limits": { "pids": 100 } })).await.expect(200);
    patch("\"1\"", json!({ "limits": { "pids": 200 } })).await.problem(412, "precondition-failed");
    patch("*", json!({ "generation": 1 })).await.problem(409, "stale-generation");
    let same = patch("*", json!({ "limits": { "pids": 100 } })).await.expect(200);
    assert_eq!(same["generation"], 2, "nothing new is no new generation");
    assert_eq!(patch("*", json!({ "limits": { "pids": null } })).await.expect(200)["limits"], json!({}));
}

#[tokio::test]
async fn a_deleted_server_keeps_its_ports_until_it_is_gone() {
    let host = TestHost::start().await;
    let (worker, token) = host.worker("attic").await;
    let server = create(&host, json!({ "game_id": OPENARENA, "name": "oa" })).await;
    host.call("DELETE", "/server/oa", Value::Null).await.problem(409, "conflict");
    let deleted = host.call("DELETE", "/server/oa?force=true", Value::Null).await.expect(202);
    // Its name is free, its port is not.
    let second = create(&host, json!({ "game_id": OPENARENA, "name": "oa" })).await;
    assert_eq!(second["ports"][0]["port"], 27961);
    let mut gone = server.clone();
    gone["generation"] = deleted["generation"].clone();
    report(&host, worker, &token, &gone, "Deleted").await;
    let path = format!("/server/{}", server["id"].as_str().expect("an id"));
    host.get(&path).await.problem(404, "not-found");
    let third = create(&host, json!({ "game_id": OPENARENA })).await;
    assert_eq!(third["ports"][0]["port"], 27960);
}

#[tokio::test]
async fn pages_hold_each_server_once() {
    let host = TestHost::start().await;
    let (worker, _) = host.worker("attic").await;
    for _ in 0..25 {
        create(&host, json!({ "game_id": "docker:manman/teeworlds", "desired": "stopped" })).await;
    }
    create(&host, json!({ "game_id": OPENARENA })).await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = host.get(&format!("/server?limit=10{cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().expect("items").iter().map(|item| item["id"].to_string()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let unique: std::collections::BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), unique.len()), (26, 26));
    let of_game = host.get(&format!("/server?game_id={OPENARENA}&worker_id={worker}")).await.expect(200);
    assert_eq!(of_game["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(host.get("/server?limit=0").await.problem(400, "invalid")["field"], "limit");
    assert_eq!(host.get("/server?cursor=x").await.problem(400, "invalid")["field"], "cursor");
}

#[tokio::test]
async fn waiting_ends_when_it_is_reached() {
    let host = TestHost::start().await;
    let (worker, token) = host.worker("attic").await;
    let server = create(&host, json!({ "game_id": OPENARENA, "name": "oa", "desired": "stopped" })).await;
    let mut wish = server.clone();
    wish["generation"] = json!(2);
    let (answer, ()) = tokio::join!(host.call("POST", "/server/oa/start?wait=20s", Value::Null), async {
        // Only once the wish is stored can the worker have heard of it.
        for _ in 0..2000 {
            if host.get("/server/oa").await.expect(200)["generation"] == 2 {
                break;
            }
            tokio::task::yield_now().await;
        }
        report(&host, worker, &token, &wish, "Starting").await;
        report(&host, worker, &token, &wish, "Ready").await;
    });
    assert_eq!(answer.expect(202)["reached"], true);
    let answer = host.call("POST", "/server/oa/stop?wait=50ms", Value::Null).await.expect(202);
    assert_eq!(answer["reached"], false);
    host.call("POST", "/server/oa/stop?wait=soon", Value::Null).await.problem(400, "invalid");
}

#[tokio::test]
async fn a_frozen_worker_gets_nothing_new() {
    let host = TestHost::start().await;
    host.worker("attic").await;
    create(&host, json!({ "game_id": OPENARENA, "name": "oa", "desired": "stopped" })).await;
    host.call("PUT", "/worker/attic", json!({ "frozen": true })).await.expect(200);
    let problem = host.call("POST", "/server", json!({ "game_id": OPENARENA, "worker_id": "attic" })).await.problem(409, "not-alive");
    assert!(problem["hint"].as_str().unwrap_or_default().contains("unfreeze"), "{problem:#}");
    host.call("POST", "/server", json!({ "game_id": OPENARENA })).await.problem(409, "conflict");
    host.call("POST", "/server/oa/start", Value::Null).await.problem(409, "not-alive");
}

#[tokio::test]
async fn tokens_reach_what_is_theirs() {
    let host = TestHost::start().await;
    let (_, attic) = host.worker("attic").await;
    let (_, cellar) = host.worker("cellar").await;
    let server = create(&host, json!({ "game_id": OPENARENA, "name": "oa", "worker_id": "attic" })).await;
    create(&host, json!({ "game_id": OPENARENA, "name": "ob", "worker_id": "cellar" })).await;
    let id: ServerId = server["id"].as_str().expect("an id").parse().expect("an id");
    let health = format!("/server/{id}/health");
    host.call_as(&attic, "POST", &health, Value::Null).await.expect(200);
    host.call_as(&cellar, "POST", &health, Value::Null).await.problem(403, "forbidden");
    host.call_as(&attic, "POST", "/server/oa/stop", Value::Null).await.problem(403, "forbidden");
    host.call_as(&cellar, "GET", "/server/oa", Value::Null).await.problem(403, "forbidden");
    let own = host.call_as(&attic, "GET", "/server", Value::Null).await.expect(200);
    assert_eq!(own["items"].as_array().map(Vec::len), Some(1));

    let viewer = host.token(Scope::Viewer, |_| ()).await;
    host.call_as(&viewer, "GET", "/server/oa", Value::Null).await.expect(200);
    host.call_as(&viewer, "POST", "/server/oa/stop", Value::Null).await.problem(403, "forbidden");
    let friend = host.token(Scope::Operator, |token| token.server_id = Some(id)).await;
    host.call_as(&friend, "POST", "/server/oa/stop", Value::Null).await.expect(202);
    host.call_as(&friend, "POST", "/server/ob/stop", Value::Null).await.problem(403, "forbidden");
    host.call_as(&friend, "POST", "/server", json!({ "game_id": OPENARENA })).await.problem(403, "forbidden");
    let seen = host.call_as(&friend, "GET", "/server", Value::Null).await.expect(200);
    assert_eq!(seen["items"].as_array().map(Vec::len), Some(1));
}
