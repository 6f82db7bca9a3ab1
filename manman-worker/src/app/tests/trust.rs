//! What worker and host make of each other's memory.

use std::path::Path;

use manman_common::session::{Machine, Memory, Quarantine, SessionTerms};
use manman_common::{SessionEpoch, WorkerStatus};
use uuid::Uuid;

use super::{TestHost, TestWorker, joining, server_id, spec};
use crate::store::{Meta, Store};

fn timeline(n: u128) -> SessionTerms {
    SessionTerms { timeline: Some(Uuid::from_u128(n)), ..SessionTerms::default() }
}

fn last_memory(host: &TestHost) -> Memory {
    host.lock().registrations.last().and_then(|body| body.memory.clone()).expect("a worker shows its memory")
}

/// Changes what is stored while no worker is at work.
async fn stored(directory: &Path, change: impl FnOnce(&mut Meta) + Send + 'static) {
    let store = Store::open(directory).expect("opens").store;
    store.update_meta(change).await.expect("stored");
}

async fn sees(worker: &TestWorker, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let status = worker.get("/status?format=json").await.json();
        if holds(&status) {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for: {what}; last seen: {status:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn each_session_shows_what_the_one_before_gave() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.lock().terms = timeline(1);
    host.wish(spec(1, 1));
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("it to be stored", |state| (state.acked == state.revision).then_some(())).await;
    let first = last_memory(&host);
    assert!(first.blank && first.resume_token.is_none() && first.machine.is_some(), "{first:?}");
    host.until("a beat that counts", |state| state.beats.last().filter(|beat| beat.state_seq > first.state_seq).map(drop)).await;
    worker.stop().await;

    let told = host.lock().beats.last().expect("it has beaten").state_seq;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("a second session", |state| (state.resume_tokens.len() == 2).then_some(())).await;
    let second = last_memory(&host);
    assert!(second.state_seq >= told, "{second:?} after {told}");
    let expected = Memory {
        resume_token: Some("mm_resume_0".to_owned()),
        session_epoch: SessionEpoch::new(1),
        have_revision: host.lock().revision,
        timeline: Some(Uuid::from_u128(1)),
        blank: false,
        ..second.clone()
    };
    assert_eq!(second, expected);
    host.until("its inventory", |state| state.hellos.last()?.inventory.iter().any(|item| item.epoch == 1).then_some(())).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_quarantine_holds_without_the_host_and_until_it_is_lifted() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    host.lock().terms.quarantine = Some(Quarantine::OldToken);
    let status = sees(&worker, "the quarantine", |status| status["quarantine"] == "old_token").await;
    assert!(status["attention"].as_str().is_some_and(|text| text.contains("manman worker rebase attic")), "{status}");
    worker.stop().await;

    host.stop();
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    sees(&worker, "the quarantine of before", |status| status["quarantine"] == "old_token").await;
    worker.stop().await;

    let findings = crate::doctor::doctor(&super::config(directory.path(), None)).await;
    let lines = crate::Report::to_lines(&findings);
    assert!(lines.contains("✗ memory: quarantined"), "{lines}");
    let outlook = crate::plan_cmd::plan(&super::config(directory.path(), None)).await.expect("it looks");
    assert!(crate::Report::to_lines(&outlook).contains("quarantined"), "{}", crate::Report::to_lines(&outlook));
}

#[tokio::test]
async fn another_timeline_is_followed_with_reserve_until_a_person_confirms_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.lock().terms = timeline(1);
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    host.lock().terms = timeline(2);
    let status = sees(&worker, "the reserve", |status| status["rebase_needed"] == true).await;
    assert_eq!(status["quarantine"], serde_json::Value::Null);
    host.lock().terms.rebased = true;
    let status = sees(&worker, "the end of it", |status| status["rebase_needed"] == false).await;
    assert_eq!(status["attention"], serde_json::Value::Null);
    worker.stop().await;
}

#[tokio::test]
async fn a_disk_that_wakes_up_elsewhere_is_held_before_anything_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    worker.stop().await;
    host.stop();
    let elsewhere = |name: &str| Machine { hardware: vec![format!("hw {name}")], software: vec![format!("sw {name}")] };
    let there = elsewhere("there");
    stored(directory.path(), move |meta| meta.trust.machine = Some(there)).await;
    let here = crate::machine::this_machine(directory.path());
    if here.is_same(&elsewhere("there")) {
        // A machine without any identity can not tell itself from another.
        return;
    }
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    let status = worker.get("/status?format=json").await.json();
    assert_eq!(status["quarantine"], "other_machine", "from the first moment on: {status}");
    worker.stop().await;
}

#[tokio::test]
async fn a_lost_database_is_blank_and_stops_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.lock().terms = timeline(1);
    host.wish(spec(1, 1));
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("it to be stored", |state| (state.acked == state.revision).then_some(())).await;
    worker.stop().await;
    for file in ["worker.sqlite", "worker.sqlite-wal", "worker.sqlite-shm"] {
        let _ = std::fs::write(directory.path().join(file), b"this is not what it was, and nobody can make anything of it");
    }
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("a second session", |state| (state.resume_tokens.len() == 2).then_some(())).await;
    let memory = last_memory(&host);
    assert!(memory.blank && memory.resume_token.is_none(), "{memory:?}");
    assert_eq!((memory.session_epoch, memory.timeline), (SessionEpoch::new(1), None), "who it is it knows still");
    host.until("the spec to be stored again", |state| (state.acks >= 2).then_some(())).await;
    let known = worker.get(&format!("/server/{}", server_id(1))).await;
    assert_eq!(known.status, 200, "{known:?}");
    assert_eq!(worker.ready.link.borrow().status, Some(WorkerStatus::Alive));
    worker.stop().await;
}
