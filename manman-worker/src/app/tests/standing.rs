//! The worker's standing with its host: joining, waiting, being thrown out.

use std::time::Duration;

use manman_common::error::GoneReason;
use manman_common::{Kind, Problem, WorkerStatus};

use super::{ExitReason, TestHost, TestWorker, config, joining, server_id, spec};

#[tokio::test]
async fn a_stranger_waits_until_a_person_accepts_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(config(directory.path(), Some(&host))).await;
    host.until("two beats", |state| (state.beats.len() >= 2).then_some(())).await;
    assert!(host.lock().hellos.is_empty(), "no link before it is accepted");
    assert_eq!(worker.get("/status?format=json").await.json()["status"], "pending");
    host.accept_all();
    host.linked().await;
    let state = worker.ready.link.borrow().clone();
    assert_eq!(state.status, Some(WorkerStatus::Alive));
    worker.stop().await;
}

#[tokio::test]
async fn a_revoked_session_is_followed_by_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    host.lock().gone = Some(GoneReason::Revoked);
    host.until("a second session", |state| (state.hellos.last()?.session_epoch.get() == 2 && state.link.is_some()).then_some(())).await;
    assert_eq!(host.lock().workers.len(), 1, "it is the same worker");
    worker.stop().await;
}

#[tokio::test]
async fn a_superseded_worker_keeps_quiet_and_what_it_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.wish(spec(1, 1));
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("it to be stored", |state| (state.acked == state.revision).then_some(())).await;
    host.lock().gone = Some(GoneReason::Superseded);
    let mut link = worker.ready.link.clone();
    link.wait_for(|state| state.superseded).await.expect("the worker lives");
    let said = |state: &super::host::HostState| (state.beats.len(), state.registrations.len());
    let before = said(&host.lock());
    // That nothing comes can only be seen by waiting: two heartbeats long.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(said(&host.lock()), before, "it is quiet");
    let kept = worker.get(&format!("/server/{}", server_id(1))).await;
    assert_eq!(kept.status, 200, "{kept:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_whose_host_has_removed_it_asks_as_a_new_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    let first = worker.ready.link.borrow().registration.clone().expect("it is registered");
    {
        let mut state = host.lock();
        state.gone = Some(GoneReason::Tombstoned);
        state.workers.clear();
    }
    let mut link = worker.ready.link.clone();
    link.wait_for(|state| state.linked && state.registration.as_ref().is_some_and(|now| now.worker_id != first.worker_id))
        .await
        .expect("the worker lives");
    worker.stop().await;
}

#[tokio::test]
async fn a_host_that_asks_for_patience_gets_it_and_its_absence_ends_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.lock().refuse_register = Some(Problem::new(Kind::Conflict, "another process of this worker is alive").retry_after(1));
    let began = tokio::time::Instant::now();
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    worker.stop().await;

    let mut away = config(&directory.path().join("other"), None);
    away.host = Some("http://127.0.0.1:1".parse().expect("nobody is there"));
    let worker = TestWorker::start(away).await;
    assert_eq!(worker.get("/status").await.body, "ok");
    let made = worker.post("/server", r#"{"game_id": "docker:a/b", "desired": "stopped", "name": "mine"}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    worker.stop().await;
}

#[tokio::test]
async fn the_last_beat_says_goodbye() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    let late = worker.post("/shutdown?reason=requested&session_epoch=0", "").await;
    assert_eq!(late.status, 409, "{late:?}");
    assert_eq!(worker.post("/shutdown?keep_servers=false&reason=requested&session_epoch=1", "").await.status, 200);
    assert_eq!(worker.ended().await, ExitReason::Drained);
    let last = host.lock().beats.last().and_then(|beat| beat.status);
    assert_eq!(last, Some(WorkerStatus::Shutdown));
}

#[tokio::test]
async fn a_stale_worker_asks_its_host_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    // The session that it is about has been followed by this one.
    let old = worker.post("/shutdown?keep_servers=true&reason=stale&session_epoch=0", "").await;
    assert_eq!(old.json()["stale"], false, "{old:?}");
    let asked = worker.post("/shutdown?keep_servers=true&reason=stale&session_epoch=1", "").await;
    assert_eq!((asked.status, asked.json()["host"].as_str()), (200, Some("reachable")), "{asked:?}");
    host.until("a second session", |state| (state.hellos.last()?.session_epoch.get() == 2).then_some(())).await;

    host.stop();
    let asked = worker.post("/shutdown?keep_servers=true&reason=stale&session_epoch=2", "").await;
    assert_eq!(asked.json()["host"].as_str(), Some("unreachable"), "{asked:?}");
    let reason = worker.ended().await;
    assert_eq!((reason, reason.exit_code()), (ExitReason::Stale, 75));
}

#[tokio::test]
async fn a_copy_of_a_running_workers_directory_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (original, copy) = (directory.path().join("original"), directory.path().join("copy"));
    let worker = TestWorker::start(config(&original, None)).await;
    let second = crate::run(config(&original, None), std::future::pending()).await;
    let error = second.expect_err("one directory, one worker").to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    worker.stop().await;

    // The worker of the copied directory is another process, which lives.
    let mut living = std::process::Command::new("sleep").arg("60").spawn().expect("sleep is there");
    {
        let store = crate::store::Store::open(&original).expect("a store").store;
        let (pid, ticks) = (living.id(), crate::identity::read_start_ticks(living.id()).expect("it lives"));
        store
            .update_meta(move |meta| {
                let process = meta.process.as_mut().expect("it has run");
                process.pid = pid;
                process.start_ticks = ticks;
            })
            .await
            .expect("it is stored");
    }
    let copied = std::process::Command::new("cp").arg("-a").arg(&original).arg(&copy).status().expect("cp is there");
    assert!(copied.success());
    let refused = crate::run(config(&copy, None), std::future::pending()).await;
    living.kill().expect("it is ours");
    living.wait().expect("it ends");
    let error = refused.expect_err("it is a copy");
    assert!(error.to_string().contains("copy") && error.hint().is_some(), "{error}");
}
