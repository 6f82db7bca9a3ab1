//! Whose memory is trusted: databases that went back in time, copies, and hosts that forgot.

use std::time::Duration;

use manman_common::link::{InventoryItem, ToHost, ToWorker};
use manman_common::session::{Memory, Quarantine};
use manman_common::wire::WorkerEvent;
use manman_common::{Generation, Phase, ServerId, Timestamp};
use serde_json::{Value, json};

use crate::config::Config;
use crate::fleet::fake_worker::{FakeWorker, eventually, listen, process, status};
use crate::testing::TestHost;

pub(super) const SOON: Duration = Duration::from_secs(10);

pub(super) async fn host_and_worker(config: Config) -> (TestHost, FakeWorker) {
    let host = TestHost::with(config).await;
    let address = listen(&host).await;
    let mut worker = FakeWorker::join(&host, address, "attic").await;
    worker.remember().await;
    (host, worker)
}

pub(super) async fn server(host: &TestHost, name: &str) -> ServerId {
    let made = host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": name})).await.expect(201);
    made["id"].as_str().expect("an id").parse().expect("an id")
}

pub(super) async fn events(host: &TestHost, kind: &str) -> usize {
    let events = host.get("/event?limit=200").await.expect(200);
    events["items"].as_array().expect("events").iter().filter(|event| event["kind"] == kind).count()
}

pub(super) fn item(server: ServerId, generation: u64) -> InventoryItem {
    InventoryItem { server, generation: Generation::new(generation), phase: Phase::Ready, instance: None, epoch: 1 }
}

/// The same process once more, as it is in each further session.
pub(super) async fn again(worker: &mut FakeWorker) -> manman_common::wire::Registered {
    worker.register(worker.process.clone()).await.expect("a session")
}

/// The worker begins anew on its own data directory; the host knows at once that the old process is gone.
async fn restart(worker: &mut FakeWorker) -> manman_common::wire::Registered {
    worker.register(process("home")).await.expect("a session")
}

/// Nobody's silence is waited for.
fn quick() -> Config {
    Config { unknown_after: Duration::ZERO, ..Config::default() }
}

#[tokio::test]
async fn a_resume_token_is_handed_over_with_each_session_and_a_lost_answer_costs_nothing() {
    let (host, mut worker) = host_and_worker(quick()).await;
    let first = worker.memory.clone().expect("a memory");
    assert!(first.resume_token.as_ref().is_some_and(|token| token.starts_with("mm_resume_")), "{first:?}");
    assert_eq!(first.timeline, Some(host.app.fleet.timeline()));
    worker.beat(Vec::new()).await.expect("it has the token");
    // The answers of two registrations are lost: it shows what it has.
    for _ in 0..2 {
        let answer = again(&mut worker).await;
        assert_eq!(answer.terms.quarantine, None);
        assert_ne!(answer.resume_token, first.resume_token);
        worker.memory = Some(Memory { session_epoch: worker.epoch, ..first.clone() });
    }
    // The third arrives, and its first beat says so: only now is the older one void.
    again(&mut worker).await;
    worker.beat(Vec::new()).await.expect("a beat");
    worker.memory = Some(Memory { session_epoch: worker.epoch, ..first });
    assert_eq!(restart(&mut worker).await.terms.quarantine, Some(Quarantine::OldToken));
    let told: String =
        sqlx::query_scalar("select string_agg(data::text || message, ' ') from event").fetch_one(&host.app.db).await.expect("text");
    assert!(!told.contains("mm_resume"), "no event tells a token");
}

#[tokio::test]
async fn a_restored_database_is_quarantined_until_a_person_lifts_it() {
    let (host, mut worker) = host_and_worker(quick()).await;
    worker.memory.as_mut().expect("a memory").state_seq = 70;
    worker.beat(Vec::new()).await.expect("a beat");
    worker.memory.as_mut().expect("a memory").state_seq = 40;
    assert_eq!(restart(&mut worker).await.terms.quarantine, Some(Quarantine::StateBehind));
    worker.memory.as_mut().expect("a memory").state_seq = 41;
    assert_eq!(restart(&mut worker).await.terms.quarantine, Some(Quarantine::StateBehind), "it stays so");
    assert_eq!(worker.beat(Vec::new()).await.expect("a beat").terms.quarantine, Some(Quarantine::StateBehind));
    assert_eq!(host.get("/worker/attic").await.expect(200)["quarantine"], "state_behind");
    assert_eq!(events(&host, "worker.quarantined").await, 1);
    // Specs come as ever: what to do with them is the worker's.
    let one = server(&host, "one").await;
    worker.link().await;
    eventually(SOON, || async { worker.has_spec(one).map(drop).ok_or_else(|| "no spec".to_owned()) }).await;
}

#[tokio::test]
async fn an_empty_database_remembers_nothing_wrong() {
    let (_host, mut worker) = host_and_worker(quick()).await;
    worker.memory.as_mut().expect("a memory").state_seq = 70;
    worker.beat(Vec::new()).await.expect("a beat");
    worker.memory = Some(Memory { blank: true, ..Memory::default() });
    assert_eq!(restart(&mut worker).await.terms.quarantine, None);
    worker.memory.as_mut().expect("a memory").state_seq = 3;
    assert_eq!(restart(&mut worker).await.terms.quarantine, None, "it counts from its own beginning");
}

#[tokio::test]
async fn on_its_own_machine_a_worker_is_trusted_again_by_itself() {
    let (host, mut worker) = host_and_worker(Config { rebase_after: Duration::from_millis(10), ..quick() }).await;
    worker.memory.as_mut().expect("a memory").state_seq = 70;
    worker.beat(Vec::new()).await.expect("a beat");
    worker.memory.as_mut().expect("a memory").state_seq = 40;
    restart(&mut worker).await;
    worker.link().await;
    eventually(SOON, || async {
        match worker.beat(Vec::new()).await.expect("a beat").terms.quarantine {
            None => Ok(()),
            Some(why) => Err(why.as_str().to_owned()),
        }
    })
    .await;
    assert_eq!(events(&host, "worker.rebased").await, 1);
    assert_eq!(restart(&mut worker).await.terms.quarantine, None, "and it stays trusted");
}

#[tokio::test]
async fn in_another_directory_only_a_person_lifts_it() {
    let (host, mut worker) = host_and_worker(Config { rebase_after: Duration::ZERO, ..quick() }).await;
    worker.memory.as_mut().expect("a memory").state_seq = 70;
    worker.beat(Vec::new()).await.expect("a beat");
    worker.memory.as_mut().expect("a memory").state_seq = 40;
    let elsewhere = process("elsewhere");
    assert_eq!(worker.register(elsewhere).await.expect("a session").terms.quarantine, Some(Quarantine::StateBehind));
    worker.link().await;
    host.app.fleet.lift_quarantines(&host.app).await;
    assert_eq!(worker.beat(Vec::new()).await.expect("a beat").terms.quarantine, Some(Quarantine::StateBehind));
}

#[tokio::test]
async fn two_machines_under_one_identity_are_told_once() {
    let (host, mut worker) = host_and_worker(Config::default()).await;
    worker.beat(Vec::new()).await.expect("a beat");
    let copy = process("a copy");
    for _ in 0..4 {
        worker.register(copy.clone()).await.expect_err("a rival");
        worker.beat(Vec::new()).await.expect("the original goes on");
    }
    assert_eq!(events(&host, "worker.rival").await, 1);
    assert_eq!(host.get("/worker/attic").await.expect(200)["quarantine"], Value::Null, "the original is not harmed");
}

#[tokio::test]
async fn who_speaks_after_another_took_over_makes_both_suspect() {
    let (host, mut worker) = host_and_worker(quick()).await;
    worker.beat(Vec::new()).await.expect("a beat");
    let before = worker.epoch;
    worker.register(process("a copy")).await.expect("the original seems to be gone");
    let now = std::mem::replace(&mut worker.epoch, before);
    for _ in 0..3 {
        worker.beat(Vec::new()).await.expect_err("its session is over");
    }
    worker.epoch = now;
    assert_eq!(worker.beat(Vec::new()).await.expect("a beat").terms.quarantine, Some(Quarantine::Rival));
    assert_eq!((events(&host, "worker.rival").await, events(&host, "worker.quarantined").await), (1, 1));
}

#[tokio::test]
async fn whoever_only_asks_to_join_is_no_witness_that_the_host_forgot() {
    let host = TestHost::start().await;
    let before = host.app.fleet.timeline();
    let reserved = host.send("POST", "/worker", &[], json!({ "worker-name": "stranger" })).await.expect(200);
    let path = format!("/worker/{}", reserved["id"].as_str().expect("an id"));
    let registered = host.send("POST", &path, &[], json!({ "worker-name": "stranger" })).await.expect(201);
    let token = registered["token"].as_str().expect("a token");
    let memory = Memory { events_stored: 1_000_000_000, ..Memory::default() };
    host.call_as(token, "POST", &path, json!({ "worker-name": "stranger", "memory": memory })).await.expect(200);
    assert_eq!(host.app.fleet.timeline(), before);
    assert_eq!(events(&host, "host.regressed").await, 0);
}

#[tokio::test]
async fn what_a_worker_let_go_of_does_not_come_back_with_the_epoch_of_its_new_owner() {
    let (host, mut worker) = host_and_worker(Config::default()).await;
    let one = server(&host, "one").await;
    worker.memory.as_mut().expect("a memory").events_stored = 50;
    worker.state.lock().inventory = vec![InventoryItem { phase: Phase::Deleted, epoch: 2, ..item(one, 40) }];
    again(&mut worker).await;
    worker.link().await;
    // Above what the worker has seen, and below the epoch in which it let go: it refuses this.
    eventually(SOON, || async {
        match worker.has_spec(one) {
            Some(spec) if spec.generation.get() == 41 && spec.epoch == 1 => Ok(()),
            other => Err(format!("{:?}", other.map(|spec| (spec.generation, spec.epoch)))),
        }
    })
    .await;
}

#[tokio::test]
async fn a_rebase_waits_for_the_workers_own_word() {
    let (host, mut worker) = host_and_worker(Config::default()).await;
    server(&host, "one").await;
    worker.memory.as_mut().expect("a memory").events_stored = 50;
    again(&mut worker).await;
    let problem = host.call("POST", "/worker/attic/rebase", json!({})).await.problem(409, "conflict");
    assert!(problem.to_string().contains("has not said yet"), "{problem:#}");
    worker.link().await;
    eventually(SOON, || async {
        let answer = host.call("POST", "/worker/attic/rebase", json!({ "confirm": "attic" })).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.body.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_host_that_forgot_takes_a_new_timeline_and_goes_on_above_what_was() {
    let (host, mut worker) = host_and_worker(Config::default()).await;
    let one = server(&host, "one").await;
    worker.link().await;
    eventually(SOON, || async { worker.has_spec(one).map(drop).ok_or_else(|| "no spec".to_owned()) }).await;
    let old = host.app.fleet.timeline();
    {
        let memory = worker.memory.as_mut().expect("a memory");
        memory.have_revision = manman_common::Revision::new(900);
        memory.events_stored = 50;
    }
    let stranger = ServerId::from_uuid(uuid::Uuid::from_u128(5));
    worker.state.lock().inventory = vec![item(one, 40), item(stranger, 3)];
    let answer = again(&mut worker).await;
    let new = host.app.fleet.timeline();
    assert_ne!(old, new);
    assert_eq!((answer.terms.timeline, answer.terms.rebased, answer.terms.quarantine), (Some(new), false, None));
    assert_eq!(events(&host, "host.regressed").await, 1);
    assert_eq!(host.get("/worker/attic").await.expect(200)["rebase_needed"], true);
    worker.state.lock().revision = manman_common::Revision::new(900);
    worker.link().await;
    eventually(SOON, || async {
        match worker.has_spec(one) {
            Some(spec) if spec.generation.get() == 41 => Ok(()),
            other => Err(format!("{:?}", other.map(|spec| spec.generation))),
        }
    })
    .await;
    assert!(worker.state.lock().revision.get() > 900, "what the host says from now on is news");
    assert_eq!(events(&host, "worker.unknown_servers").await, 1);
    // A second look at the same worker renews nothing.
    worker.memory.as_mut().expect("a memory").timeline = Some(old);
    again(&mut worker).await;
    assert_eq!((host.app.fleet.timeline(), events(&host, "host.regressed").await), (new, 1));
}

#[tokio::test]
async fn a_new_timeline_has_every_worker_register_again() {
    let (host, mut worker) = host_and_worker(Config::default()).await;
    let address = listen(&host).await;
    let mut other = FakeWorker::join(&host, address, "cellar").await;
    other.remember().await;
    other.link().await;
    worker.memory.as_mut().expect("a memory").events_stored = 50;
    again(&mut worker).await;
    other.link_closed().await;
    let gone = other.beat(Vec::new()).await.expect_err("it is to register again");
    assert_eq!(gone.problem().and_then(|problem| problem.reason), Some(manman_common::error::GoneReason::Revoked));
    assert_eq!(again(&mut other).await.terms.timeline, Some(host.app.fleet.timeline()));
    other.beat(Vec::new()).await.expect("a beat");
}

/// What a worker counted anew is neither lost nor told twice.
#[tokio::test]
async fn events_of_a_database_that_went_back_are_each_kept_once() {
    let (host, mut worker) = host_and_worker(Config::default()).await;
    worker.link().await;
    let event = |seq: u64, second: i64, words: &str| WorkerEvent {
        seq,
        at: Timestamp::from(chrono::DateTime::from_timestamp(1_800_000_000 + second, 0).expect("a moment")),
        kind: "server.crashed".to_owned(),
        server_id: None,
        message: words.to_owned(),
        data: Value::Null,
    };
    let stored = async |up_to: u64| {
        eventually(SOON, || async {
            let seen = worker.state.lock().seen.iter().any(|frame| matches!(frame, ToWorker::EventsStored { up_to: at } if *at == up_to));
            if seen { Ok(()) } else { Err("not stored".to_owned()) }
        })
        .await;
    };
    worker.send(&ToHost::Events { events: vec![event(1, 1, "a"), event(2, 2, "b"), event(3, 3, "c")] });
    stored(3).await;
    // Its database went back to where it had told of one: it tells the second under its number and
    // another number, and something new under a number that is taken.
    for _ in 0..2 {
        worker.send(&ToHost::Events { events: vec![event(2, 2, "b"), event(3, 9, "new"), event(7, 3, "c")] });
        worker.send(&ToHost::Events { events: vec![event(8, 10, "newer")] });
        stored(8).await;
        worker.state.lock().seen.clear();
    }
    let words: Vec<String> = sqlx::query_scalar("select message from event where kind = 'server.crashed' order by id")
        .fetch_all(&host.app.db)
        .await
        .expect("events");
    assert_eq!(words, ["a", "b", "c", "new", "newer"]);
}

#[tokio::test]
async fn what_has_been_answered_need_not_be_kept() {
    let (host, mut worker) = host_and_worker(Config::default()).await;
    let one = server(&host, "one").await;
    worker.link().await;
    worker.beat(vec![status(one, 1, Phase::Ready)]).await.expect("a beat");
    host.call("POST", "/server/one/command", json!({"command": "say hi"})).await.expect(200);
    eventually(SOON, || async {
        let state = worker.state.lock();
        let calls: Vec<_> = state.calls.iter().map(|call| call.id).collect();
        let stored: Vec<_> = state
            .seen
            .iter()
            .filter_map(|frame| if let ToWorker::RepliesStored { ids } = frame { Some(ids.clone()) } else { None })
            .flatten()
            .collect();
        if !calls.is_empty() && calls.iter().all(|id| stored.contains(id)) { Ok(()) } else { Err(format!("{calls:?} {stored:?}")) }
    })
    .await;
}
