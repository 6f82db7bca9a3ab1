//! A server goes to another worker, once it can not run where it was.

use std::time::Duration;

use manman_common::wire::Scope;
use manman_common::{DesiredState, Phase, Revision, ServerId, SessionEpoch};
use serde_json::{Value, json};

use super::trust::{SOON, events, server};
use crate::config::Config;
use crate::db::server::revision_bump;
use crate::db::worker::{BeatFacts, worker_store_beats};
use crate::fleet::fake_worker::{FakeWorker, eventually, listen, process, status};
use crate::testing::TestHost;

async fn two_workers(config: Config) -> (TestHost, FakeWorker, FakeWorker, ServerId) {
    let host = TestHost::with(config).await;
    let address = listen(&host).await;
    let attic = FakeWorker::join(&host, address, "attic").await;
    let one = server(&host, "one").await;
    let mut cellar = FakeWorker::join(&host, address, "cellar").await;
    cellar.link().await;
    (host, attic, cellar, one)
}

async fn spec_arrives(worker: &FakeWorker, server: ServerId, desired: DesiredState, epoch: u64) {
    eventually(SOON, || async {
        match worker.has_spec(server) {
            Some(spec) if spec.desired == desired && spec.epoch == epoch => Ok(()),
            other => Err(format!("{:?}", other.map(|spec| (spec.desired, spec.epoch)))),
        }
    })
    .await;
}

async fn to_cellar(host: &TestHost) -> crate::testing::Answer {
    host.call("PATCH", "/server/one", json!({ "worker": "cellar" })).await
}

#[tokio::test]
async fn a_stopped_server_moves_and_the_old_worker_lets_go() {
    let (host, mut attic, cellar, one) = two_workers(Config::default()).await;
    attic.link().await;
    attic.beat(vec![status(one, 1, Phase::Ready)]).await.expect("a beat");
    let refused = to_cellar(&host).await.problem(409, "conflict");
    assert!(refused["detail"].as_str().expect("words").contains("is to run on `attic`"), "{refused}");
    host.call("POST", "/server/one/stop", Value::Null).await.expect(202);
    attic.beat(vec![status(one, 1, Phase::Ready)]).await.expect("a beat");
    let refused = to_cellar(&host).await.problem(409, "conflict");
    assert!(refused["detail"].as_str().expect("words").contains("has not reported it stopped yet"), "{refused}");
    attic.beat(vec![status(one, 2, Phase::Stopped)]).await.expect("a beat");
    let moved = to_cellar(&host).await.expect(200);
    assert_eq!(
        (&moved["worker_name"], &moved["epoch"], &moved["desired"], &moved["phase"]),
        (&json!("cellar"), &json!(2), &json!("stopped"), &json!("Pending"))
    );
    spec_arrives(&cellar, one, DesiredState::Stopped, 2).await;
    // The one before is told to let go, and to keep the files.
    spec_arrives(&attic, one, DesiredState::Deleted, 2).await;
    assert!(!attic.has_spec(one).expect("a spec").purge);
    // What it still says of it is not heard, until it says that it is gone.
    attic.beat(vec![status(one, 3, Phase::Stopping)]).await.expect("a beat");
    assert_eq!(host.get("/server/one").await.expect(200)["phase"], "Pending");
    for _ in 0..2 {
        attic.beat(vec![status(one, 3, Phase::Deleted)]).await.expect("a beat");
    }
    assert_eq!((events(&host, "server.moved").await, events(&host, "server.released").await), (1, 1));
    let holders: Vec<uuid::Uuid> = sqlx::query_scalar("select worker_id from server_port").fetch_all(&host.app.db).await.expect("ports");
    assert_eq!(holders, [cellar.id.as_uuid()]);
    // And back again: what it was to let go of is its own.
    cellar.beat(vec![status(one, 3, Phase::Stopped)]).await.expect("a beat");
    host.call("PATCH", "/server/one", json!({ "worker": "attic", "desired": "running" })).await.expect(200);
    spec_arrives(&attic, one, DesiredState::Running, 3).await;
    spec_arrives(&cellar, one, DesiredState::Deleted, 3).await;
}

#[tokio::test]
async fn beats_and_a_move_do_not_wait_for_each_other_for_ever() {
    let (host, attic, cellar, _) = two_workers(Config::default()).await;
    let (first, second) = (attic.id.min(cellar.id), attic.id.max(cellar.id));
    let mut moving = host.app.db.begin().await.expect("a transaction");
    revision_bump(&mut moving, first).await.expect("a revision");
    let beat =
        |id| BeatFacts { id, observed_revision: Revision::default(), usage: None, session_epoch: SessionEpoch::default(), state_seq: 0 };
    let (db, beats) = (host.app.db.clone(), [beat(second), beat(first)]);
    let (waiter, waits) = tokio::sync::oneshot::channel();
    let stored = tokio::spawn(async move {
        let mut conn = db.acquire().await?;
        // However Postgres goes through them: by default it takes so few in the order of the table.
        sqlx::raw_sql("set enable_hashjoin = off; set enable_mergejoin = off; set enable_seqscan = off").execute(&mut *conn).await?;
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *conn).await?;
        let _ = waiter.send(pid);
        worker_store_beats(&mut conn, &beats).await
    });
    let pid = waits.await.expect("it is about to write");
    eventually(SOON, || async {
        let waits = "select wait_event_type from pg_stat_activity where pid = $1";
        let event: Option<String> = sqlx::query_scalar(waits).bind(pid).fetch_one(&host.app.db).await.expect("an activity");
        if event.as_deref() == Some("Lock") { Ok(()) } else { Err(format!("it waits for {event:?}")) }
    })
    .await;
    revision_bump(&mut moving, second).await.expect("nobody holds it who waits for the first");
    moving.commit().await.expect("committed");
    stored.await.expect("no panic").expect("the beats are stored");
}

#[tokio::test]
async fn from_a_silent_machine_only_a_fence_moves_it() {
    let quick =
        Config { settle: Duration::ZERO, unknown_after: Duration::from_secs(1), kill_after: Duration::from_secs(600), ..Config::default() };
    let (host, mut attic, cellar, one) = two_workers(quick).await;
    attic.beat(vec![status(one, 1, Phase::Ready)]).await.expect("a beat");
    eventually(SOON, || async {
        let seen = host.get("/worker/attic").await.expect(200);
        cellar.beat(Vec::new()).await.expect("a beat");
        if seen["status"] == "unknown" { Ok(()) } else { Err(seen["status"].to_string()) }
    })
    .await;
    let refused = to_cellar(&host).await.problem(409, "conflict");
    assert!(refused["hint"].as_str().expect("a hint").contains("manman worker fence attic"), "{refused}");
    for name in ["", "cellar", "Attic "] {
        host.call("POST", "/worker/attic/fence", json!({ "confirm": name })).await.problem(409, "conflict");
    }
    host.call("POST", "/worker/attic/fence", json!({ "confirm": "attic" })).await.expect(200);
    host.call("POST", "/worker/attic/fence", json!({ "confirm": "attic" })).await.expect(200);
    assert_eq!(events(&host, "worker.fenced").await, 1);
    to_cellar(&host).await.expect(200);
    spec_arrives(&cellar, one, DesiredState::Running, 2).await;
    // It was not off after all: its session is over, and first of all it hears to let go.
    attic.beat(vec![status(one, 1, Phase::Ready)]).await.expect_err("its session is over");
    attic.register(process("home")).await.expect("a session");
    assert_eq!(events(&host, "worker.fence_lifted").await, 1);
    // No beat is acknowledged, and so no lease begins, before it has.
    let early = attic.beat(vec![status(one, 1, Phase::Ready)]).await.expect_err("not yet");
    assert_eq!(early.problem().map(|problem| problem.status), Some(503));
    attic.link().await;
    spec_arrives(&attic, one, DesiredState::Deleted, 2).await;
    eventually(SOON, || async { attic.beat(Vec::new()).await.map_err(|error| error.to_string()) }).await;
}

#[tokio::test]
async fn a_lease_that_is_over_lets_go_of_it() {
    let (host, attic, _cellar, one) = two_workers(Config { server_unknown_after: Duration::ZERO, ..Config::default() }).await;
    let set = |seconds: Value| host.call("PATCH", "/server/one", json!({ "lease_seconds": seconds }));
    assert_eq!(set(json!(5)).await.problem(400, "invalid")["field"], "lease_seconds");
    assert_eq!(set(json!(60)).await.expect(200)["lease_seconds"], 60);
    attic.beat(vec![status(one, 1, Phase::Ready)]).await.expect("a beat");
    let age = |seconds: u64| {
        let machine = host.app.fleet.machine(attic.id).expect("a machine");
        let mut state = machine.lock();
        state.last_seen = crate::clock::instant().checked_sub(Duration::from_secs(seconds)).expect("an earlier moment");
        state.status = manman_common::WorkerStatus::Unknown;
    };
    age(3600);
    let refused = to_cellar(&host).await.problem(409, "conflict");
    assert!(refused["detail"].as_str().expect("words").contains("has not heard of the server's lease"), "{refused}");
    attic.beat(vec![status(one, 2, Phase::Ready)]).await.expect("a beat");
    age(61);
    let refused = to_cellar(&host).await.problem(409, "conflict");
    assert!(
        refused["retry_after"].as_u64().is_some_and(|seconds| seconds > 25),
        "the ladder's time and a margin are waited for: {refused}"
    );
    age(3600);
    assert_eq!(to_cellar(&host).await.expect(200)["worker_name"], "cellar");
}

#[tokio::test]
async fn a_move_is_a_move_and_nothing_else() {
    let (host, attic, _cellar, one) = two_workers(Config::default()).await;
    host.call("POST", "/server/one/stop", Value::Null).await.expect(202);
    attic.beat(vec![status(one, 2, Phase::Stopped)]).await.expect("a beat");
    let both = json!({ "worker": "cellar", "limits": { "pids": 100 } });
    assert_eq!(host.call("PATCH", "/server/one", both).await.problem(400, "invalid")["field"], "worker");
    assert_eq!(host.call("PATCH", "/server/one", json!({ "worker": "nowhere" })).await.problem(400, "invalid")["field"], "worker");
    let only = one;
    let confined = host.token(Scope::Operator, |token| token.server_id = Some(only)).await;
    host.call_as(&confined, "PATCH", "/server/one", json!({ "worker": "cellar" })).await.problem(403, "forbidden");
    let same = host.call("PATCH", "/server/one", json!({ "worker": "attic" })).await.expect(200);
    assert_eq!((&same["generation"], &same["epoch"]), (&json!(2), &json!(1)));
    assert_eq!(events(&host, "server.moved").await, 0);
}
