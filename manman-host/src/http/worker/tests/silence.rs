//! Staleness and the kill attempt, with short times.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::routing::post;
use manman_common::Phase;
use manman_common::error::GoneReason;
use serde_json::{Value, json};

use crate::config::Config;
use crate::fleet::fake_worker::{FakeWorker, eventually, listen, registration, status};
use crate::fleet::kill::KillPlan;
use crate::testing::TestHost;

const SOON: Duration = Duration::from_secs(15);

fn quick() -> Config {
    Config { settle: Duration::ZERO, unknown_after: Duration::from_secs(1), kill_after: Duration::from_secs(3), ..Config::default() }
}

async fn events(host: &TestHost, kind: &str) -> Vec<String> {
    let listed = host.get(&format!("/event?kind={kind}")).await.expect(200);
    listed["items"].as_array().expect("items").iter().filter_map(|event| event["message"].as_str().map(str::to_owned)).collect()
}

async fn until_status(host: &TestHost, wanted: &str) {
    eventually(SOON, || async {
        let seen = host.get("/worker/attic").await.expect(200);
        if seen["status"] == wanted { Ok(()) } else { Err(seen["status"].to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_silent_worker_is_unknown_with_its_servers_and_comes_back() {
    let host = TestHost::with(Config { kill_after: Duration::from_secs(600), ..quick() }).await;
    let address = listen(&host).await;
    let worker = FakeWorker::join(&host, address, "attic").await;
    let server = host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": "oa"})).await.expect(201);
    let id = server["id"].as_str().expect("an id").parse().expect("an id");
    worker.beat(vec![status(id, 1, Phase::Ready)]).await.expect("a beat");
    until_status(&host, "unknown").await;
    let seen = host.get("/server/oa").await.expect(200);
    assert_eq!((&seen["phase"], &seen["last_phase"]), (&json!("Unknown"), &json!("Ready")));
    let stored: Value = sqlx::query_scalar("select status from server").fetch_one(&host.app.db).await.expect("a status");
    assert_eq!(stored["phase"], "Ready", "the worker's last word is never written over");
    worker.beat(Vec::new()).await.expect("its session goes on");
    until_status(&host, "alive").await;
    assert_eq!(host.get("/server/oa").await.expect(200)["phase"], "Ready");
    assert_eq!(events(&host, "worker.unknown").await.len(), 1);
}

type Asked = Arc<Mutex<Vec<String>>>;

/// A worker's own listener, which takes note of what it is asked.
async fn listener(asked: &Asked) -> String {
    async fn shutdown(State(asked): State<Asked>, RawQuery(query): RawQuery, headers: axum::http::HeaderMap) -> &'static str {
        let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        asked.lock().expect("a lock").push(format!("{} {token}", query.unwrap_or_default()));
        "ok"
    }
    let router = axum::Router::new().route("/shutdown", post(shutdown)).with_state(Arc::clone(asked));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_worker_that_stays_silent_is_asked_to_go_and_a_word_ends_the_attempt() {
    let host = TestHost::with(quick()).await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    let asked = Asked::default();
    let mut body = registration("attic", Some(worker.process.clone()));
    body.api_url = Some(listener(&asked).await);
    body.api_token = Some("its own token".to_owned());
    worker.epoch = worker.client.worker_register(worker.id, &body).await.expect("registered").session_epoch;
    worker.link().await;
    worker.hang_up().await;
    until_status(&host, "unknown").await;
    eventually(SOON, || async { if asked.lock().expect("a lock").is_empty() { Err("not asked".to_owned()) } else { Ok(()) } }).await;
    let first = asked.lock().expect("a lock")[0].clone();
    assert_eq!(first, format!("keep_servers=true&reason=stale&session_epoch={} Bearer its own token", worker.epoch));
    eventually(SOON, || async {
        let tries = events(&host, "worker.kill_attempt").await;
        if tries.len() == 1 && tries[0].contains("answered 200") { Ok(()) } else { Err(format!("{tries:?}")) }
    })
    .await;
    // It wakes up: its session is over, and its word ends the attempt.
    let gone = worker.beat(Vec::new()).await.expect_err("revoked");
    assert_eq!(gone.problem().and_then(|problem| problem.reason), Some(GoneReason::Revoked));
    eventually(SOON, || async {
        let ended = events(&host, "worker.kill_cancelled").await;
        if ended.len() == 1 { Ok(()) } else { Err(format!("{ended:?}")) }
    })
    .await;
    let registered = worker.register(worker.process.clone()).await.expect("it registers again");
    assert!(registered.token.is_none(), "it keeps its token");
    until_status(&host, "alive").await;
    worker.beat(Vec::new()).await.expect("and goes on");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(asked.lock().expect("a lock").len(), 1);
}

#[tokio::test]
async fn half_of_a_fleet_at_once_is_doubted() {
    let host = TestHost::with(quick()).await;
    let address = listen(&host).await;
    for name in ["attic", "cellar", "shed"] {
        FakeWorker::join(&host, address, name).await;
    }
    host.app.fleet.watch().long_running(Duration::from_secs(60));
    eventually(SOON, || async {
        let alerts = events(&host, "host.settling").await;
        if alerts.len() == 1 { Ok(()) } else { Err(format!("{alerts:?}")) }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(events(&host, "host.settling").await.len(), 1, "one alert");
    assert_eq!(host.get("/worker/attic").await.expect(200)["status"], "alive");
    assert!(host.app.fleet.settling_seconds() > 50);
}

#[tokio::test]
async fn a_process_on_this_machine_gets_its_signal_and_no_other_does() {
    let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("there is a sleep");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it lives");
    let ticks = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)?.parse().ok()).expect("field 22");
    let host = TestHost::with(quick()).await;
    let secs = Duration::from_secs;
    host.app.fleet.watch().kill_plan = KillPlan { ask_at: [secs(0); 3], term_at: secs(1), kill_at: secs(2) };
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    let own = manman_common::wire::ProcessIdentity {
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux has it").trim().to_owned(),
        pid: child.id(),
        start_ticks: ticks,
        ..worker.process.clone()
    };
    worker.register(own).await.expect("registered");
    let ended = eventually(SOON, || {
        let seen = child.try_wait();
        std::future::ready(match seen {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
    })
    .await;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(15));
    let tries = events(&host, "worker.kill_attempt").await;
    assert!(tries.iter().any(|message| message.contains("SIGTERM")), "{tries:?}");
}
