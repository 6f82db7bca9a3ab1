use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use manman_common::link::Reply;
use manman_common::{Generation, Revision, ServerId, SessionEpoch, Timestamp, WorkerId};
use manman_worker_core::{LocalChange, Record, change_here, offer};
use rusqlite::Connection;

use super::{CallState, Commit, NewEvent, Store, StoreError};
use crate::clock;
use crate::reconcile::test_spec as spec;

impl Store {
    /// A disk with room for this many pages of the database and no more.
    pub(crate) async fn set_room(&self, pages: u32) {
        let set = move |transaction: &rusqlite::Transaction<'_>| {
            transaction
                .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
                .map_err(|source| StoreError::sql("set the room", source))
        };
        self.transaction("set the room", set).await.expect("a pragma");
    }
}

fn open(directory: &Path) -> Store {
    let opened = Store::open(directory).expect("opens");
    assert!(opened.set_aside.is_none());
    opened.store
}

/// Returns once the store's thread has closed the file, which takes its log away with it.
async fn close(store: Store, directory: &Path) {
    drop(store);
    let log = directory.join("worker.sqlite-wal");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while log.exists() {
        assert!(tokio::time::Instant::now() < deadline, "the file is not closed");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

fn record(number: u128) -> Record {
    let mut records = std::collections::BTreeMap::new();
    let _ = offer(&mut records, spec(number));
    records.into_values().next().expect("just offered")
}

fn event(kind: &str, metric: bool) -> NewEvent {
    NewEvent {
        at: clock::now(),
        kind: kind.to_owned(),
        server_id: Some(ServerId::from_uuid(clock::new_uuid())),
        message: "something happened".to_owned(),
        data: serde_json::json!({ "n": 1 }),
        metric,
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_the_process_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let mut changed = record(1);
    changed.tried.crashes = 3;
    changed.tried.not_before = Some(clock::now());
    assert!(change_here(&mut changed, LocalChange::Delete { purge: true }));
    let commit = Commit {
        records: vec![changed.clone(), record(2)],
        events: vec![event("server.started", false)],
        observed_revision: Some(Revision::new(7)),
        frozen: Some(true),
        ..Commit::default()
    };
    store.commit(commit).await.expect("stored");
    assert_eq!(*store.event_seq().borrow(), 1);
    // Not closed, as after SIGKILL: what counts is what is in the files now.
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["worker.sqlite", "worker.sqlite-wal"] {
        std::fs::copy(directory.path().join(name), copy.path().join(name)).expect("copied");
    }
    let loaded = open(copy.path()).load().await.expect("loads");
    assert_eq!(loaded.records[&changed.spec.id], changed);
    assert_eq!((loaded.records.len(), loaded.unreadable.len()), (2, 0));
    assert_eq!((loaded.meta.observed_revision, loaded.meta.frozen), (Revision::new(7), true));
    let mode = std::fs::metadata(directory.path().join("worker.sqlite")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn every_commit_is_on_the_disk_when_it_is_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let read = |transaction: &rusqlite::Transaction<'_>| {
        let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        Ok((pragma("journal_mode").expect("a pragma"), pragma("synchronous").expect("a pragma")))
    };
    let (journal, synchronous) = store.transaction("read pragmas", read).await.expect("read");
    assert_eq!((journal, synchronous), ("wal".to_owned().into(), 2.into()));
}

#[tokio::test]
async fn a_broken_file_is_set_aside_and_the_worker_still_knows_who_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let worker = WorkerId::from_uuid(clock::new_uuid());
    let change = move |meta: &mut super::Meta| {
        meta.worker_id = Some(worker);
        meta.token = Some("mm_worker_x".to_owned());
        meta.session_epoch = SessionEpoch::new(4);
        meta.observed_revision = Revision::new(9);
    };
    store.update_meta(change).await.expect("stored");
    store.commit(Commit { records: vec![record(1)], ..Commit::default() }).await.expect("stored");
    close(store, directory.path()).await;
    let path = directory.path().join("worker.sqlite");
    for damage in [Damage::NoDatabase, Damage::TornPages] {
        damage.inflict(&path);
        let opened = Store::open(directory.path()).expect("opens all the same");
        let aside = opened.set_aside.expect("it says so");
        assert!(aside.path.exists() && !aside.reason.is_empty());
        let loaded = opened.store.load().await.expect("loads");
        assert_eq!((loaded.meta.worker_id, loaded.meta.session_epoch), (Some(worker), SessionEpoch::new(4)));
        assert_eq!((loaded.meta.observed_revision, loaded.records.len()), (Revision::default(), 0), "the host says it again");
        opened.store.commit(Commit { records: (0..200).map(record).collect(), ..Commit::default() }).await.expect("stored");
        close(opened.store, directory.path()).await;
    }
}

enum Damage {
    NoDatabase,
    TornPages,
}

impl Damage {
    fn inflict(&self, path: &Path) {
        match self {
            Self::NoDatabase => std::fs::write(path, b"this is no database, whatever its name says").expect("written"),
            Self::TornPages => {
                // Into the file first, so that there are pages to tear.
                Connection::open(path)
                    .and_then(|it| it.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())))
                    .expect("a checkpoint");
                let mut bytes = std::fs::read(path).expect("readable");
                assert!(bytes.len() > 20_000, "only {} bytes", bytes.len());
                bytes[8192..16384].fill(0xa5);
                std::fs::write(path, bytes).expect("written");
            }
        }
        let _ = std::fs::remove_file(path.with_extension("sqlite-wal"));
    }
}

#[tokio::test]
async fn a_file_of_a_newer_manman_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(open(directory.path()));
    let path = directory.path().join("worker.sqlite");
    Connection::open(&path).and_then(|it| it.pragma_update(None, "user_version", 999)).expect("a pragma");
    match Store::open(directory.path()) {
        Err(StoreError::Newer { found: 999, .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opens"),
    }
    assert_eq!(Connection::open(&path).and_then(|it| it.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))), Ok(1));
}

#[tokio::test]
async fn a_full_disk_keeps_all_or_nothing_and_works_again_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    store.commit(Commit { records: vec![record(1)], ..Commit::default() }).await.expect("stored");
    store.set_room(12).await;
    let much = Commit {
        records: (0..400).map(record).collect(),
        events: vec![event("server.started", false)],
        observed_revision: Some(Revision::new(5)),
        ..Commit::default()
    };
    let error = store.commit(much.clone()).await.expect_err("there is no room");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert_eq!((error.to_string().as_str(), error.hint().is_some()), ("the disk is full: could not store a record", true));
    let loaded = store.load().await.expect("loads");
    assert_eq!((loaded.records.len(), loaded.meta.observed_revision), (1, Revision::default()));
    assert_eq!(store.events_after(0, 10).await.expect("readable"), []);
    store.set_room(1_000_000).await;
    store.commit(much).await.expect("stored");
    assert_eq!(store.load().await.expect("loads").records.len(), 400);
}

#[tokio::test]
async fn one_bad_row_fails_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    store.commit(Commit { records: vec![record(1), record(2)], ..Commit::default() }).await.expect("stored");
    let spoil = |transaction: &rusqlite::Transaction<'_>| {
        let sql = "UPDATE record SET spec = '{\"id\": 3}' WHERE server = (SELECT min(server) FROM record)";
        transaction.execute(sql, []).map_err(|source| StoreError::sql("spoil a row", source))
    };
    assert_eq!(store.transaction("spoil a row", spoil).await.expect("spoilt"), 1);
    let loaded = store.load().await.expect("loads");
    assert_eq!((loaded.records.len(), loaded.unreadable.len()), (1, 1));
    assert!(loaded.unreadable[0].contains("could not read its spec"), "{:?}", loaded.unreadable);
}

#[tokio::test]
async fn a_call_is_carried_out_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let id = clock::new_command_id();
    let now = clock::now();
    assert_eq!(store.call_begin(id, now).await.expect("stored"), CallState::New);
    assert_eq!(store.call_begin(id, now).await.expect("stored"), CallState::Begun);
    let reply = Reply { status: 200, body: serde_json::json!({ "lines": ["map: q3dm17"] }) };
    store.call_finish(id, reply.clone()).await.expect("stored");
    assert_eq!(store.call_begin(id, now).await.expect("stored"), CallState::Done(reply.clone()));
    let in_days = |days: i64| Timestamp::from_micros(now.as_micros() + days * 24 * 3600 * 1_000_000);
    let look_in = async |days| {
        // Old ones are cleared away when a new one comes.
        assert_eq!(store.call_begin(clock::new_command_id(), in_days(days)).await.expect("stored"), CallState::New);
        store.call_begin(id, in_days(days)).await.expect("stored")
    };
    assert_eq!(look_in(8).await, CallState::Done(reply.clone()), "the host has not said that it has it");
    store.replies_stored(vec![id], SessionEpoch::new(3)).await.expect("stored");
    store.update_meta(|meta| meta.session_epoch = SessionEpoch::new(3)).await.expect("stored");
    assert_eq!(look_in(8).await, CallState::Done(reply.clone()), "a duplicate of this session may be on its way");
    store.update_meta(|meta| meta.session_epoch = SessionEpoch::new(4)).await.expect("stored");
    assert_eq!(look_in(6).await, CallState::Done(reply), "a week is a week");
    assert_eq!(look_in(8).await, CallState::New);
    assert_eq!(look_in(40).await, CallState::New, "what the host never asks for is not kept for ever either");
}

#[tokio::test]
async fn a_transaction_that_changes_anything_is_counted_and_one_that_does_not_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let begin = store.state_seq();
    store.commit(Commit { records: vec![record(1)], ..Commit::default() }).await.expect("stored");
    store.append_events(vec![event("a", false), event("b", false)]).await.expect("stored");
    assert_eq!(store.state_seq(), begin + 2, "one for each transaction");
    store.update_meta(|meta| meta.frozen = true).await.expect("stored");
    assert_eq!(store.call_begin(clock::new_command_id(), clock::now()).await.expect("stored"), CallState::New);
    assert_eq!(store.state_seq(), begin + 4);
    store.load().await.expect("loads");
    store.events_after(0, 10).await.expect("readable");
    assert_eq!(store.memory().await.expect("readable").state_seq, begin + 4, "looking is no change");
    close(store, directory.path()).await;
    assert_eq!(open(directory.path()).state_seq(), begin + 4);
}

#[tokio::test]
async fn a_new_database_is_blank_and_the_identity_file_makes_it_no_older() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    assert!(store.memory().await.expect("readable").blank);
    let session = |meta: &mut super::Meta| {
        meta.session_epoch = SessionEpoch::new(5);
        meta.token = Some("mm_worker_x".to_owned());
        meta.trust.resume_token = Some("mm_resume_x".to_owned());
        meta.had_session = true;
    };
    store.update_meta(session).await.expect("stored");
    assert!(!store.memory().await.expect("readable").blank);
    close(store, directory.path()).await;
    let identity = std::fs::read_to_string(directory.path().join("identity.json")).expect("it is there");
    assert!(identity.contains("mm_worker_x") && !identity.contains("mm_resume_x"), "{identity}");

    std::fs::write(directory.path().join("worker.sqlite"), "not a database at all, but long enough to be read as one").expect("written");
    let opened = Store::open(directory.path()).expect("opens");
    assert!(opened.set_aside.is_some());
    let memory = opened.store.memory().await.expect("readable");
    assert!(memory.blank, "what was set aside is not remembered");
    assert_eq!((memory.session_epoch, memory.resume_token), (SessionEpoch::new(5), None));
}

#[tokio::test]
async fn events_keep_their_order_and_a_rebuilt_outbox_goes_behind_what_the_host_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let seqs = async |store: &Store, after| -> Vec<u64> {
        store.events_after(after, 100).await.expect("readable").into_iter().map(|event| event.seq).collect()
    };
    store.append_events(vec![event("a", false), event("b", false), event("c", false)]).await.expect("stored");
    assert_eq!(seqs(&store, 1).await, [2, 3]);
    store.events_stored_by_host(2, clock::now()).await.expect("cleared");
    assert_eq!(seqs(&store, 0).await, [3]);
    store.events_stored_by_host(100, clock::now()).await.expect("moved");
    assert_eq!(seqs(&store, 0).await, [103], "the host has 100 events that this file never numbered");
    assert_eq!(*store.event_seq().borrow(), 103);
    store.append_events(vec![event("d", false)]).await.expect("stored");
    drop(store);
    let store = open(directory.path());
    assert_eq!(seqs(&store, 0).await, [103, 104]);
}

#[tokio::test]
async fn a_full_outbox_drops_metrics_and_never_the_life_of_a_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    store.append_events((0..100).map(|_| event("usage", true)).collect()).await.expect("stored");
    store.append_events((0..50_000).map(|_| event("server.crashed", false)).collect()).await.expect("stored");
    let count = |transaction: &rusqlite::Transaction<'_>| {
        let sql = "SELECT sum(metric), sum(1 - metric), (SELECT metrics_dropped FROM meta) FROM outbox";
        let row = transaction.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        row.map_err(|source| StoreError::sql("count", source))
    };
    assert_eq!(store.transaction("count", count).await.expect("counted"), (0i64, 50_000i64, 100i64));
    store.append_events(vec![event("server.crashed", false)]).await.expect("stored");
    assert_eq!(store.transaction("count", count).await.expect("counted"), (0i64, 50_001i64, 100i64));
    store.events_stored_by_host(1, clock::now()).await.expect("the host is back");
    let last = store.events_after(50_100, 10).await.expect("readable").pop().expect("it is told");
    assert_eq!((last.kind.as_str(), &last.data["count"]), ("worker.events_dropped", &serde_json::json!(100)));
    store.events_stored_by_host(last.seq, clock::now()).await.expect("cleared");
    assert_eq!(store.events_after(0, 10).await.expect("readable"), [], "it is told once");
}

#[tokio::test]
async fn an_outbox_of_too_many_bytes_drops_metrics_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let long = |kind, metric| NewEvent { message: "x".repeat(1024 * 1024), ..event(kind, metric) };
    store.append_events((0..10).map(|_| long("usage", true)).collect()).await.expect("stored");
    store.append_events((0..60).map(|_| long("server.crashed", false)).collect()).await.expect("stored");
    let left = |transaction: &rusqlite::Transaction<'_>| {
        let sql = "SELECT sum(metric), sum(1 - metric), (SELECT outbox_rows FROM meta), (SELECT outbox_bytes FROM meta) FROM outbox";
        let row = transaction.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        row.map_err(|source| StoreError::sql("count", source))
    };
    let (metrics, lives, rows, bytes): (i64, i64, i64, i64) = store.transaction("count", left).await.expect("counted");
    assert_eq!((metrics, lives, rows), (0, 60, 60));
    assert!((60 << 20..64 << 20).contains(&bytes), "{bytes}");
    store.events_stored_by_host(70, clock::now()).await.expect("cleared");
    let (_, _, rows, bytes): (i64, i64, i64, i64) = store.transaction("count", left).await.expect("counted");
    assert!(rows == 1 && bytes < 4096, "one tells of the metrics, {rows} rows and {bytes} bytes are counted");
}

#[tokio::test]
async fn statuses_are_remembered() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let status: manman_common::ServerStatus = serde_json::from_value(serde_json::json!({
        "id": spec(1).id, "generation": 3, "applied_generation": 2, "phase": "Ready"
    }))
    .expect("a status");
    store.commit(Commit { statuses: vec![status.clone()], ..Commit::default() }).await.expect("stored");
    assert_eq!(store.load().await.expect("loads").statuses[&status.id], status);
    assert_eq!(status.generation, Generation::new(3));
}
