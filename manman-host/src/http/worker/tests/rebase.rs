//! A worker that follows again: what would be stopped is said first.

use manman_common::Phase;
use manman_common::wire::Scope;
use serde_json::{Value, json};

use super::trust::{SOON, again, events, host_and_worker, item, server};
use crate::config::Config;
use crate::fleet::fake_worker::{FakeWorker, eventually, status};
use crate::testing::TestHost;

/// A host that forgot: `runs` is wished to be stopped there and runs, `gone` is deleted and runs,
/// `idle` is as it should be, and one nobody knows of.
async fn regressed() -> (TestHost, FakeWorker) {
    let (host, mut worker) = host_and_worker(Config::default()).await;
    let (runs, gone, idle) = (server(&host, "runs").await, server(&host, "gone").await, server(&host, "idle").await);
    host.call("POST", "/server/runs/stop", Value::Null).await.expect(202);
    host.call("POST", "/server/idle/stop", Value::Null).await.expect(202);
    host.call("DELETE", "/server/gone?force=true", Value::Null).await.expect(202);
    worker.beat(vec![status(runs, 1, Phase::Ready), status(gone, 1, Phase::Ready), status(idle, 2, Phase::Stopped)]).await.expect("a beat");
    worker.memory.as_mut().expect("a memory").events_stored = 50;
    let stranger = manman_common::ServerId::from_uuid(uuid::Uuid::from_u128(5));
    worker.state.lock().inventory = vec![item(runs, 1), item(gone, 1), item(stranger, 3)];
    again(&mut worker).await;
    worker.link().await;
    eventually(SOON, || async { if events(&host, "worker.unknown_servers").await == 1 { Ok(()) } else { Err("untold".to_owned()) } }).await;
    (host, worker)
}

fn effects(view: &Value) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    view["servers"].as_array().expect("servers").iter().map(|server| (word(&server["name"]), word(&server["effect"]))).collect()
}

fn told(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, effect)| ((*name).to_owned(), (*effect).to_owned())).collect()
}

#[tokio::test]
async fn what_would_be_stopped_is_shown_and_wants_the_name() {
    let (host, worker) = regressed().await;
    let view = host.get("/worker/attic/rebase").await.expect(200);
    assert_eq!(view["rebase_needed"], true);
    assert_eq!(effects(&view), told(&[("gone", "is_deleted"), ("idle", "none"), ("runs", "stops"), ("-", "is_forgotten")]));
    for body in [json!({}), json!({ "confirm": "cellar" })] {
        let refused = host.call("POST", "/worker/attic/rebase", body).await.problem(409, "conflict");
        let detail = refused["detail"].as_str().expect("words");
        assert!(detail.contains("`runs` would be stopped") && detail.contains("`gone` would be deleted"), "{detail}");
    }
    assert!(!worker.beat(Vec::new()).await.expect("a beat").terms.rebased, "a refusal changes nothing");
    host.call("POST", "/worker/attic/rebase", json!({ "confirm": "attic" })).await.expect(200);
    let terms = worker.beat(Vec::new()).await.expect("a beat").terms;
    assert!(terms.rebased && terms.timeline == Some(host.app.fleet.timeline()), "{terms:?}");
    assert_eq!(host.get("/worker/attic").await.expect(200)["rebase_needed"], false);
    assert_eq!(events(&host, "worker.rebased").await, 1);
    assert_eq!(host.get("/server/runs").await.expect(200)["desired"], "stopped");
    // Asked again, there is nothing to do.
    host.call("POST", "/worker/attic/rebase", json!({})).await.problem(409, "conflict");
}

#[tokio::test]
async fn what_runs_is_kept_where_that_is_asked_for() {
    let (host, worker) = regressed().await;
    let view = host.call("POST", "/worker/attic/rebase", json!({ "keep": true })).await.expect(200);
    assert_eq!(effects(&view), told(&[("gone", "none"), ("idle", "none"), ("runs", "none"), ("-", "is_forgotten")]));
    for name in ["runs", "gone"] {
        assert_eq!(host.get(&format!("/server/{name}")).await.expect(200)["desired"], "running", "{name}");
    }
    assert_eq!(host.get("/server/idle").await.expect(200)["desired"], "stopped");
    assert!(worker.beat(Vec::new()).await.expect("a beat").terms.rebased);
    let event = host.get("/event?limit=200").await.expect(200);
    let event = event["items"].as_array().expect("events").iter().find(|event| event["kind"] == "worker.rebased").expect("told").clone();
    assert_eq!((&event["data"]["before"]["rebase_needed"], &event["data"]["after"]["keep"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn only_an_admin_looks_and_rebases() {
    let host = TestHost::start().await;
    let (_, own) = host.worker("attic").await;
    let operator = host.token(Scope::Operator, |_| ()).await;
    for token in [&operator, &own] {
        host.call_as(token, "GET", "/worker/attic/rebase", Value::Null).await.problem(403, "forbidden");
        host.call_as(token, "POST", "/worker/attic/rebase", json!({})).await.problem(403, "forbidden");
        host.call_as(token, "POST", "/worker/attic/fence", json!({ "confirm": "attic" })).await.problem(403, "forbidden");
    }
    // A worker that follows has nothing to confirm.
    let view = host.call("POST", "/worker/attic/rebase", json!({})).await.expect(200);
    assert_eq!(view["reason"], Value::Null);
    assert_eq!(events(&host, "worker.rebased").await, 0);
}
