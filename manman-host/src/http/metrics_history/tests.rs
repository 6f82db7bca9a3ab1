use manman_common::link::ToHost;
use manman_common::link::{Reply, ToWorker};
use manman_common::wire::{MetricsLimits, MetricsRange, MetricsSeries, Scope};
use serde_json::{Value, json};

use super::*;
use crate::fleet::fake_worker::{FakeWorker, eventually, listen};
use crate::testing::TestHost;

/// Answers the next call for metrics with this.
async fn answer(worker: &FakeWorker, status: u16, body: Value) -> String {
    let call = eventually(std::time::Duration::from_secs(10), || async {
        let mut inner = worker.state.lock();
        let found = inner.seen.iter().position(|frame| matches!(frame, ToWorker::Call(call) if call.path.contains("/metrics")));
        match found.map(|at| inner.seen.remove(at)) {
            Some(ToWorker::Call(call)) => Ok(call),
            _ => Err("no call".to_owned()),
        }
    })
    .await;
    worker.send(&ToHost::Reply { id: call.id, reply: Reply { status, body } });
    call.path
}

#[tokio::test]
async fn the_worker_is_asked_and_its_absence_is_told() {
    let host = TestHost::start().await;
    let mut worker = FakeWorker::join(&host, listen(&host).await, "attic").await;
    worker.link().await;
    worker.state.lock().mute = true;
    let made = host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": "oa"})).await.expect(201);
    let id = made["id"].as_str().expect("an id").to_owned();
    let history = MetricsHistory {
        range: MetricsRange::Day,
        step_seconds: 120,
        from: 1_800_000_000,
        series: MetricsSeries { cpu: vec![None, Some(0.25)], rx: vec![None, None], ..MetricsSeries::default() },
        limits: MetricsLimits { cpu: Some(1.5), ..MetricsLimits::default() },
    };
    let body = serde_json::to_value(&history).expect("JSON");

    let (asked, path) = tokio::join!(host.get("/server/oa/metrics?range=day"), answer(&worker, 200, body.clone()));
    assert_eq!((asked.expect(200), path), (body.clone(), format!("/server/{id}/metrics?range=day")));
    let (asked, path) = tokio::join!(host.get("/worker/attic/metrics"), answer(&worker, 200, body));
    asked.expect(200);
    assert_eq!(path, "/machine/metrics?range=hour");
    let (asked, _) = tokio::join!(host.get("/worker/attic/metrics"), answer(&worker, 200, json!({"range": "ever"})));
    asked.problem(502, "bad-gateway");
    let problem = serde_json::to_value(Problem::not_found("server", "oa")).expect("JSON");
    let (asked, _) = tokio::join!(host.get("/server/oa/metrics"), answer(&worker, 404, problem));
    asked.problem(404, "not-found");

    host.get("/server/oa/metrics?range=year").await.problem(400, "invalid");
    host.get("/server/nobody/metrics").await.problem(404, "not-found");
    let friend = host.call("POST", "/token", json!({"scope": "viewer", "label": "friend", "server_id": id})).await.expect(201);
    let friend = friend["token"].as_str().expect("a token").to_owned();
    host.call_as(&friend, "GET", "/worker/attic/metrics", Value::Null).await.problem(403, "forbidden");
    let join = host.token(Scope::Join, |_| ()).await;
    host.call_as(&join, "GET", "/server/oa/metrics", Value::Null).await.problem(403, "forbidden");

    worker.hang_up().await;
    let away = host.get("/server/oa/metrics").await.problem(503, "unavailable");
    assert!(away["retry_after"].is_u64(), "{away}");
    host.get("/worker/attic/metrics").await.problem(503, "unavailable");
}
