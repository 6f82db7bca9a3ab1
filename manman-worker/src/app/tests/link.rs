//! What goes over the link.

use manman_common::link::{Call, ToHost, ToWorker};
use manman_common::logs::{LogEnd, LogQuery, records};
use manman_common::{CommandId, DesiredState, Generation, InstanceId, Phase, Revision, ServerSpec};
use serde_json::json;
use uuid::Uuid;

use super::{TestHost, TestWorker, joining, server_id, spec};
use crate::clock;
use crate::logs::{LogBook, Retention};

fn call(method: &str, path: &str, body: serde_json::Value) -> Call {
    Call { id: clock::new_command_id(), method: method.to_owned(), path: path.to_owned(), body, ttl_ms: 10_000, expect_instance: None }
}

#[tokio::test]
async fn wishes_come_down_and_statuses_go_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.wish(spec(1, 1));
    host.wish(spec(2, 4));
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("what there is to be stored", |state| (state.acked == state.revision).then_some(())).await;
    assert_eq!(host.lock().pulls, 1, "both were pulled at once");
    let generation = host.until("a status of 2", |state| state.statuses.get(&server_id(2)).map(|status| status.generation)).await;
    assert_eq!(generation, Generation::new(4));

    // News need no pull.
    host.wish(spec(3, 1));
    host.until("the news to be stored", |state| (state.acked == state.revision).then_some(())).await;
    assert_eq!(host.lock().pulls, 1);
    // There is no driver for it here, and that is told.
    host.until("a status of 3", |state| (state.statuses.get(&server_id(3))?.phase == Phase::Failed).then_some(())).await;

    // News with a gap before them begin anew, and nothing is missing then.
    {
        let mut state = host.lock();
        state.revision = state.revision.next();
        state.specs.insert(server_id(4), spec(4, 1));
    }
    host.wish(spec(5, 1));
    host.until("a second Hello", |state| (state.hellos.len() == 2).then_some(())).await;
    host.until("all to be stored", |state| (state.acked == state.revision).then_some(())).await;
    host.until("a status of 4", |state| state.statuses.get(&server_id(4)).map(drop)).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_restarted_worker_says_what_it_has_and_pulls_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.wish(spec(1, 1));
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("it to be stored", |state| (state.acked == state.revision).then_some(())).await;
    worker.stop().await;
    host.until("the link to end", |state| state.link.is_none().then_some(())).await;

    let worker = TestWorker::start(super::config(directory.path(), Some(&host))).await;
    host.linked().await;
    host.until("another Ack", |state| (state.acks >= 2).then_some(())).await;
    {
        let state = host.lock();
        assert_eq!(state.pulls, 1, "nothing had changed");
        let hello = state.hellos.last().expect("it said hello");
        assert_eq!(hello.have_revision, Revision::new(1));
        assert_eq!(hello.inventory.iter().map(|item| item.server).collect::<Vec<_>>(), [server_id(1)]);
        assert_eq!(hello.session_epoch.get(), 2, "each run is a session");
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_frame_that_is_no_frame_is_answered_by_a_new_link() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    for (count, bad) in [(2, "{\"frame\":\"dance\"}"), (3, "no JSON"), (4, "{\"frame\":\"specs\",\"revision\":-1}")] {
        host.send_text(bad);
        host.until("another Hello", |state| (state.hellos.len() == count && state.link.is_some()).then_some(())).await;
    }
    assert_eq!(worker.get("/status").await.status, 200);
    worker.stop().await;
}

#[tokio::test]
async fn a_call_is_carried_out_once_and_its_result_is_sent_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    let create = call("POST", "/server", json!({"id": server_id(9), "name": "mine", "game_id": "docker:a/b", "desired": "stopped"}));
    let first = host.call(create.clone()).await;
    assert_eq!(first.status, 201, "{first:?}");
    // Carried out a second time it would find the server there and answer 200.
    assert_eq!(host.call(create.clone()).await, first);
    let again = Call { id: clock::new_command_id(), ..create.clone() };
    assert_eq!(host.call(again).await.status, 200);
    worker.stop().await;
    host.until("the link to end", |state| state.link.is_none().then_some(())).await;

    // The next run of the worker knows it, too.
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    assert_eq!(host.call(create).await, first);
    worker.stop().await;
}

#[tokio::test]
async fn a_late_call_is_not_begun_and_one_for_another_instance_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.wish(spec(1, 1));
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("a status", |state| state.statuses.get(&server_id(1)).map(drop)).await;

    let late = host.call(Call { ttl_ms: 0, ..call("POST", "/freeze", json!(null)) }).await;
    assert_eq!(late.status, 504, "{late:?}");
    let status = host.call(call("GET", "/status", json!(null))).await;
    assert_eq!(status.body["status"], "alive", "it was not begun");

    let path = format!("/server/{}/start", server_id(1));
    let instance = InstanceId::from_uuid(Uuid::from_u128(3));
    let refused = host.call(Call { expect_instance: Some(instance), ..call("POST", &path, json!(null)) }).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let shown = host.call(call("GET", &format!("/server/{}", server_id(1)), json!(null))).await;
    assert_eq!(shown.body["desired"], "stopped", "it was not started");
    let strange = host.call(call("P P", "/freeze", json!(null))).await;
    assert_eq!(strange.status, 400);
    let nowhere = host.call(call("GET", "no path at all", json!(null))).await;
    assert_eq!(nowhere.status, 400, "{nowhere:?}");
    worker.stop().await;
}

#[tokio::test]
async fn events_arrive_once_over_broken_links() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.wish(spec(1, 1));
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("a status", |state| state.statuses.get(&server_id(1)).map(drop)).await;
    let wish = |generation, desired| ServerSpec { desired, ..spec(1, generation) };
    for generation in 2..6 {
        worker.post(&format!("/server/{}/start", server_id(1)), "").await;
        host.send_text("a broken frame ends the link");
        host.until("the link to end and come back", |state| {
            (state.hellos.len() as u64 == generation && state.link.is_some()).then_some(())
        })
        .await;
        host.wish(wish(generation, DesiredState::Stopped));
        host.until("it to be stored", |state| (state.acked == state.revision).then_some(())).await;
    }
    let changed = |state: &super::host::HostState| state.events.values().filter(|event| event.kind == "server.changed_here").count();
    host.until("four events", |state| (changed(state) >= 4).then_some(())).await;
    {
        let state = host.lock();
        assert_eq!(changed(&state), 4);
        assert_eq!(state.doubled_events, 0);
        let seqs: Vec<u64> = state.events.keys().copied().collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "without a gap");
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_log_comes_as_fast_as_the_host_grants() {
    let directory = tempfile::tempdir().expect("a directory");
    // Twice as much as may be on its way at one time.
    let line = "x".repeat(1000);
    {
        let dir = directory.path().join(format!("servers/{}/log", server_id(1)));
        let book = LogBook::open(&dir, Retention::default()).expect("a log");
        for _ in 0..2200 {
            book.note(&line).expect("it is written");
        }
    }
    let host = TestHost::start().await;
    host.wish(spec(1, 1));
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("a status", |state| state.statuses.get(&server_id(1)).map(drop)).await;
    host.send(&ToWorker::LogOpen { stream: 7, server: server_id(1), query: LogQuery { follow: Some(false), ..LogQuery::default() } });
    let window = usize::try_from(manman_common::link::LOG_WINDOW).expect("it fits");
    let sent = |state: &super::host::HostState| state.log.get(&7).map_or(0, Vec::len);
    host.until("most of a window", |state| (sent(state) > window / 2).then_some(())).await;
    // A call goes and comes behind all that the window allows.
    host.call(call("GET", "/status", json!(null))).await;
    assert!(sent(&host.lock()) <= window, "no more than was granted");
    host.send(&ToWorker::LogCredit { stream: 7, bytes: u64::MAX });
    host.until("the end", |state| {
        let ended = ToHost::LogEnded { stream: 7, end: LogEnd::Complete };
        state.log_frames.contains(&ended).then_some(())
    })
    .await;
    let seqs: Vec<u64> = records(&host.lock().log[&7]).map(|record| record.seq.get()).collect();
    assert!(seqs.len() >= 2200, "{} came", seqs.len());
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "without a gap or a double");

    host.send(&ToWorker::LogOpen { stream: 9, server: server_id(2), query: LogQuery::default() });
    // It is asked for what it can not know yet.
    host.call(call("GET", "/status", json!(null))).await;
    host.wish(spec(2, 1));
    host.until("the log of a server that was not here yet", |state| {
        let opened = |frame: &ToHost| matches!(frame, ToHost::LogOpened { stream: 9, .. });
        state.log_frames.iter().any(opened).then_some(())
    })
    .await;

    host.send(&ToWorker::LogOpen { stream: 8, server: server_id(99), query: LogQuery::default() });
    host.until("a word on a server that is not here", |state| {
        state.log_frames.contains(&ToHost::LogEnded { stream: 8, end: LogEnd::ServerGone }).then_some(())
    })
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn a_call_that_a_crash_cut_off_is_not_begun_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let id: CommandId = clock::new_command_id();
    {
        let store = crate::store::Store::open(directory.path()).expect("a store").store;
        let _ = store.call_begin(id, clock::now()).await.expect("it is stored");
    }
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    let reply = host.call(Call { id, ..call("POST", "/freeze", json!(null)) }).await;
    assert_eq!(reply.status, 502, "{reply:?}");
    assert_eq!(worker.get("/status?format=json").await.json()["status"], "alive");
    worker.stop().await;
}

#[tokio::test]
async fn where_no_websocket_passes_a_long_poll_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    host.lock().refuse_upgrade = Some(501);
    host.wish(spec(1, 1));
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.until("a status", |state| state.statuses.get(&server_id(1)).map(drop)).await;
    assert_eq!(host.lock().acked, Revision::new(1));
    // Neither side waits for the end of a round to speak.
    let began = tokio::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(host.call(call("GET", "/status", json!(null))).await.status, 200);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "took {:?}", began.elapsed());
    host.wish(spec(2, 1));
    host.until("a status", |state| state.statuses.get(&server_id(2)).map(drop)).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_drained_answers_before_it_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = TestHost::start().await;
    let worker = TestWorker::start(joining(directory.path(), &host)).await;
    host.linked().await;
    let reply = host.call(call("POST", "/shutdown?keep_servers=true&reason=requested", json!(null))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(worker.ended().await, crate::ExitReason::HandedOver);
}
