use manman_common::WorkerId;
use manman_common::wire::Scope;
use serde_json::{Value, json};

use crate::fleet::fake_worker::{FakeWorker, listen, process};
use crate::testing::{Answer, TestHost};

async fn reserve(host: &TestHost, name: &str) -> String {
    let reserved = host.send("POST", "/worker", &[], json!({"worker-name": name})).await.expect(200);
    assert_eq!(reserved["required"], json!(["worker-name", "ip-address", "api-url"]));
    reserved["id"].as_str().expect("an id").to_owned()
}

async fn register(host: &TestHost, token: Option<&str>, id: &str, body: Value) -> Answer {
    match token {
        Some(token) => host.call_as(token, "POST", &format!("/worker/{id}"), body).await,
        None => host.send("POST", &format!("/worker/{id}"), &[], body).await,
    }
}

fn secret(registered: &Value) -> String {
    registered["token"].as_str().unwrap_or_else(|| panic!("{registered:#}")).to_owned()
}

#[tokio::test]
async fn the_authors_own_bodies_work_with_plain_curl() {
    let host = TestHost::start().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let reserved = host.send("POST", "/worker", &form, Value::Null).await.expect(200);
    let id = reserved["id"].as_str().expect("an id").to_owned();
    let body = r#"{"worker-name": "attic", "ip-address": "192.168.1.10", "api-url": "http://192.168.1.10:9000"}"#;
    let registered = host.send("POST", &format!("/worker/{id}"), &form, Value::String(body.to_owned())).await.expect(201);
    assert_eq!((&registered["status"], &registered["session_epoch"]), (&json!("pending"), &json!(1)));
    let token = secret(&registered);
    let beat = host.call_as(&token, "POST", &format!("/worker/{id}/health"), Value::Null).await.expect(200);
    assert_eq!(beat["status"], "pending");
    let accepted = host.call("POST", "/worker/attic/accept", Value::Null).await.expect(200);
    assert_eq!((&accepted["status"], &accepted["address"]), (&json!("alive"), &json!("192.168.1.10")));
    host.call("POST", "/worker/attic/accept", Value::Null).await.problem(409, "conflict");
    let beat = host.call_as(&token, "POST", &format!("/worker/{id}/health"), Value::String("{}".to_owned())).await.expect(200);
    assert_eq!(beat["status"], "alive");
    // Again, with its own token: a further session of the same worker.
    let again = register(&host, Some(&token), &id, json!({"worker-name": "attic"})).await.expect(200);
    assert_eq!((&again["session_epoch"], &again["token"]), (&json!(2), &Value::Null));
    assert_eq!(host.get("/worker/attic").await.expect(200)["address"], "192.168.1.7", "without an address, the socket's peer");
}

#[tokio::test]
async fn a_strangers_request_leaves_the_owner_of_the_name_alone() {
    let host = TestHost::start().await;
    let (id, token) = host.worker("attic").await;
    let before = host.get("/worker/attic").await.expect(200);
    let join = host.token(Scope::Join, |_| ()).await;
    for token in [None, Some(join.as_str())] {
        // Under its id: refused, and told to people.
        register(&host, token, &id.to_string(), json!({"worker-name": "attic"})).await.problem(403, "forbidden");
        // Under another: it waits, though it was invited, since the name is taken.
        let other = reserve(&host, "attic").await;
        assert_ne!(other, id.to_string());
        let registered = register(&host, token, &other, json!({"worker-name": "ATTIC"})).await.expect(201);
        assert_eq!(registered["status"], "pending");
        let other = format!("/worker/{other}");
        host.call("POST", &format!("{other}/accept"), Value::Null).await.problem(409, "conflict");
    }
    let mut after = host.get("/worker/attic").await.expect(200);
    after["last_seen"] = before["last_seen"].clone();
    assert_eq!(after, before);
    let refused = host.get("/event?kind=worker.registration_refused").await.expect(200);
    assert_eq!(refused["items"].as_array().map(Vec::len), Some(1), "told once a minute at most");
    // By name two ask; which one is meant, the id tells.
    let problem = host.call("POST", "/worker/attic/accept", Value::Null).await.problem(409, "conflict");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("by its id")), "{problem:#}");
    let pending = host.get("/worker?status=pending").await.expect(200);
    let first = pending["items"][0]["id"].as_str().expect("an id").to_owned();
    host.call("PATCH", &format!("/worker/{first}"), json!({"name": "cellar"})).await.expect(200);
    assert_eq!(host.call("POST", "/worker/cellar/accept", Value::Null).await.expect(200)["status"], "alive");
    // With its own token the owner gets its own id.
    let own = host.call_as(&token, "POST", "/worker", json!({"name": "attic"})).await.expect(200);
    assert_eq!(own["id"], json!(id));
}

#[tokio::test]
async fn bad_registrations_name_the_field() {
    let host = TestHost::start().await;
    let id = reserve(&host, "attic").await;
    for (body, field) in [
        (json!({}), ""),
        (json!({"worker-name": "a/b"}), "worker-name"),
        (json!({"worker-name": "a", "ip-address": "no address"}), "ip-address"),
        (json!({"worker-name": "a", "api-url": "ftp://x"}), "api-url"),
        (json!({"worker-name": "a", "api-port": 70000}), "api-port"),
    ] {
        let problem = register(&host, None, &id, body.clone()).await.problem(400, "invalid");
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{body}");
    }
    register(&host, Some("mm_worker_wrong"), &id, json!({"worker-name": "a"})).await.problem(401, "unauthenticated");
    let stranger = WorkerId::from_uuid(uuid::Uuid::from_u128(1));
    register(&host, None, &stranger.to_string(), json!({"worker-name": "a"})).await.problem(404, "not-found");
    register(&host, None, "x/y", json!({"worker-name": "a"})).await.problem(404, "not-found");
    host.send("POST", &format!("/worker/{id}"), &[], Value::String("{broken".to_owned())).await.problem(400, "invalid");
    // After all that the id is still good.
    register(&host, None, &id, json!({"worker-name": "attic"})).await.expect(201);
}

#[tokio::test]
async fn only_a_worker_itself_beats_for_it() {
    let host = TestHost::start().await;
    let (attic, attic_token) = host.worker("attic").await;
    let (cellar, _) = host.worker("cellar").await;
    let path = format!("/worker/{cellar}/health");
    host.call_as(&attic_token, "POST", &path, Value::Null).await.problem(403, "forbidden");
    host.send("POST", &path, &[], Value::Null).await.problem(401, "unauthenticated");
    let nobody = WorkerId::from_uuid(uuid::Uuid::from_u128(1));
    host.call_as(&attic_token, "POST", &format!("/worker/{nobody}/health"), Value::Null).await.problem(404, "not-found");
    // A server of another worker is not spoken for.
    let server =
        host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": "oa", "worker_id": "cellar"})).await.expect(201);
    let status = json!({"id": server["id"], "generation": 1, "applied_generation": 1, "phase": "Ready"});
    host.call_as(&attic_token, "POST", &format!("/worker/{attic}/health"), json!({"servers": [status]})).await.expect(200);
    assert_eq!(host.get("/server/oa").await.expect(200)["phase"], "Pending");
    host.call_as(&attic_token, "POST", "/server/oa/health", status).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_rival_is_refused_and_a_restart_is_not() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    worker.link().await;
    let original = worker.process.clone();
    let rivals =
        [manman_common::wire::ProcessIdentity { boot_id: "another boot".to_owned(), ..process("home") }, process("a copy of home")];
    for rival in rivals {
        let refused = worker.register(rival).await.expect_err("a rival");
        let problem = refused.problem().expect("a problem");
        assert_eq!(problem.status, 409);
        assert!(problem.retry_after.is_some(), "{problem:?}");
    }
    worker.beat(Vec::new()).await.expect("the original notices nothing");
    assert_eq!(worker.register(original).await.expect("the same process").session_epoch.get(), 2);
    // The link of the old session was closed by it; a restart of the same directory gets in at once.
    worker.link().await;
    worker.hang_up().await;
    crate::fleet::fake_worker::eventually(std::time::Duration::from_secs(5), || async {
        if host.app.fleet.linked(worker.id) { Err("linked".to_owned()) } else { Ok(()) }
    })
    .await;
    let before = worker.epoch;
    worker.register(process("home")).await.expect("a restart");
    worker.beat(Vec::new()).await.expect("the new session");
    worker.epoch = before;
    let gone = worker.beat(Vec::new()).await.expect_err("the old session");
    assert_eq!(gone.problem().and_then(|problem| problem.reason), Some(manman_common::error::GoneReason::Superseded));
}

#[tokio::test]
async fn a_worker_is_removed_and_its_tombstone_speaks() {
    let host = TestHost::start().await;
    let (id, token) = host.worker("attic").await;
    host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": "oa"})).await.expect(201);
    host.call("DELETE", "/worker/attic", Value::Null).await.problem(409, "conflict");
    let removed = host.call("DELETE", "/worker/attic?force=true", Value::Null).await.expect(200);
    assert_eq!(removed["asked"], false, "it has neither a link nor a listener");
    let gone = host.call_as(&token, "POST", &format!("/worker/{id}/health"), Value::Null).await.problem(410, "gone");
    assert_eq!(gone["reason"], "tombstoned");
    let gone = host.call_as(&token, "POST", "/worker", Value::Null).await.problem(410, "gone");
    assert_eq!(gone["reason"], "tombstoned");
    host.get("/worker/attic").await.problem(404, "not-found");
    host.get("/server/oa").await.problem(404, "not-found");
    let ports: i64 = sqlx::query_scalar("select count(*) from server_port").fetch_one(&host.app.db).await.expect("a count");
    assert_eq!(ports, 0);
    host.worker("attic").await;
}

#[tokio::test]
async fn only_those_who_manage_workers_do() {
    let host = TestHost::start().await;
    let (id, own) = host.worker("attic").await;
    let operator = host.token(Scope::Operator, |_| ()).await;
    for token in [&operator, &own] {
        host.call_as(token, "PATCH", "/worker/attic", json!({"frozen": true})).await.problem(403, "forbidden");
        host.call_as(token, "DELETE", "/worker/attic", Value::Null).await.problem(403, "forbidden");
        host.call_as(token, "POST", "/worker/attic/accept", Value::Null).await.problem(403, "forbidden");
        host.call_as(token, "POST", "/worker/attic/drain", Value::Null).await.problem(403, "forbidden");
    }
    host.call_as(&operator, "GET", "/worker", Value::Null).await.expect(200);
    host.call_as(&own, "GET", "/worker", Value::Null).await.problem(403, "forbidden");
    host.call_as(&own, "GET", &format!("/worker/{id}"), Value::Null).await.expect(200);
    host.send("GET", "/worker", &[], Value::Null).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_worker_that_made_its_own_token_is_known_by_it_though_the_answer_was_lost() {
    let host = TestHost::start().await;
    let join = host.token(Scope::Join, |_| ()).await;
    let own = format!("mm_worker_{}", "k".repeat(43));
    let body = json!({"worker-name": "attic", "own-token": own});
    host.call_as(&own, "POST", "/worker", Value::Null).await.problem(401, "unauthenticated");
    let id = reserve(&host, "attic").await;
    register(&host, Some(&join), &id, json!({"worker-name": "attic", "own-token": "short"})).await.problem(400, "invalid");
    let registered = register(&host, Some(&join), &id, body.clone()).await.expect(201);
    assert_eq!(secret(&registered), own);
    // It was killed before it had stored that: nobody but it has this token.
    let again = host.call_as(&own, "POST", "/worker", Value::Null).await.expect(200);
    assert_eq!(again["id"], json!(id));
    let registered = register(&host, Some(&own), &id, json!({"worker-name": "attic"})).await.expect(200);
    assert_eq!((&registered["id"], &registered["status"]), (&json!(id), &json!("alive")));
    // A token serves one worker.
    let other = reserve(&host, "shed").await;
    register(&host, Some(&join), &other, json!({"worker-name": "shed", "own-token": own})).await.problem(409, "conflict");
}
