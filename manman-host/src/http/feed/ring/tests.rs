//! Whatever happens, who applies what it is sent sees what a fresh snapshot shows.

use manman_common::Timestamp;
use manman_common::wire::{FeedChange, FeedMessage, ServiceKind};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;

/// A console, as far as the feed goes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    seq: u64,
    servers: BTreeMap<ServerId, ServerView>,
    workers: BTreeMap<WorkerId, WorkerView>,
    services: BTreeMap<String, ServiceView>,
    events: BTreeMap<i64, Event>,
}

impl Seen {
    fn hear(&mut self, text: &[u8]) {
        match serde_json::from_slice(text).expect("a message") {
            FeedMessage::Hello { .. } | FeedMessage::Ping => {}
            FeedMessage::Snapshot { seq, servers, workers, services, events } => {
                *self = Self {
                    seq,
                    servers: servers.into_iter().map(|view| (view.id, view)).collect(),
                    workers: workers.into_iter().map(|view| (view.id, view)).collect(),
                    services: services.into_iter().map(|view| (view.name.clone(), view)).collect(),
                    events: events.into_iter().map(|event| (event.id, event)).collect(),
                };
            }
            FeedMessage::Delta { seq, changes } => {
                assert!(seq > self.seq, "{seq} after {}", self.seq);
                self.seq = seq;
                for change in changes {
                    match change {
                        FeedChange::Server { id, value } => put(&mut self.servers, id, value.map(|value| *value)),
                        FeedChange::Worker { id, value } => put(&mut self.workers, id, value.map(|value| *value)),
                        FeedChange::Service { id, value } => put(&mut self.services, id, value),
                        FeedChange::Event { value } => drop(self.events.insert(value.id, value)),
                    }
                }
            }
        }
        while self.events.len() > EVENTS_SHOWN {
            self.events.pop_first();
        }
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

fn server_id(number: u8) -> ServerId {
    ServerId::from_uuid(Uuid::from_u128(100 + u128::from(number)))
}

/// Even servers are on one worker, odd ones on the other.
fn worker_id(number: u8) -> WorkerId {
    WorkerId::from_uuid(Uuid::from_u128(10 + u128::from(number % 2)))
}

fn server(number: u8, generation: u32) -> ServerView {
    let view = json!({
        "id": server_id(number), "name": format!("server-{number}"), "worker_id": worker_id(number), "worker_name": "attic",
        "game_id": "docker:manman/openarena", "desired": "running", "phase": "Ready", "generation": generation,
        "applied_generation": 1, "pending_restart": false, "instance": null, "restarts": 0, "exit": null, "players": null,
        "progress": null, "usage": null, "url": "\u{2028}\"</script>", "conditions": [], "ports": [], "variables": {}, "limits": {},
        "extra": {}, "created_at": Timestamp::EPOCH, "updated_at": Timestamp::EPOCH,
    });
    serde_json::from_value(view).expect("a view")
}

fn worker(number: u8, revision: u32) -> WorkerView {
    let view = json!({
        "id": worker_id(number), "name": "attic", "status": "alive", "status_since": Timestamp::EPOCH, "frozen": revision.is_multiple_of(2),
        "address": "192.168.1.10", "api_url": "http://192.168.1.10:9000", "labels": {"room": "attic"}, "capabilities": {}, "usage": null,
        "session_epoch": 1, "desired_revision": revision, "observed_revision": 1, "linked": true, "last_seen": null, "servers": 2,
        "created_at": Timestamp::EPOCH,
    });
    serde_json::from_value(view).expect("a view")
}

fn service_view(name: &str, port: u16) -> ServiceView {
    ServiceView {
        name: name.to_owned(),
        kind: ServiceKind::Service,
        ip: "192.168.1.9".to_owned(),
        port,
        status: "passing".to_owned(),
        expires_in: Some(30),
        url: None,
        binds: Vec::new(),
        tags: Vec::new(),
    }
}

fn event(id: i64, server: Option<u8>) -> Arc<Event> {
    Arc::new(Event {
        id,
        at: Timestamp::EPOCH,
        actor: "host".to_owned(),
        kind: "server.ready".to_owned(),
        worker_id: None,
        server_id: server.map(server_id),
        message: "it is ready".to_owned(),
        data: serde_json::Value::Null,
    })
}

#[derive(Clone, Debug)]
enum Step {
    Server(u8, Option<u32>),
    Worker(u8, Option<u32>),
    Service(u8, Option<u16>),
    Event(Option<u8>),
    /// All clients that listen hear what they miss.
    Deliver,
    /// This client does not listen for a while, or listens again.
    Toggle(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u8, proptest::option::weighted(0.8, 0..4_u32)).prop_map(|(number, value)| Step::Server(number, value)),
        2 => (0..2_u8, proptest::option::weighted(0.8, 0..4_u32)).prop_map(|(number, value)| Step::Worker(number, value)),
        2 => (0..3_u8, proptest::option::weighted(0.8, 0..4_u16)).prop_map(|(number, value)| Step::Service(number, value)),
        2 => proptest::option::of(0..4_u8).prop_map(Step::Event),
        3 => Just(Step::Deliver),
        1 => (0..4_usize).prop_map(Step::Toggle),
    ]
}

/// What a socket does.
fn deliver(board: &mut Board, sight: Sight, seen: &mut Option<Seen>) {
    let missing = seen.as_ref().map_or(Missing::TooMuch, |seen| board.since(seen.seq));
    let frame = match &missing {
        Missing::Deltas(deltas) => frame(sight, board.worker_of(sight), deltas),
        Missing::TooMuch => Frame::Anew,
    };
    match frame {
        Frame::Nothing => {
            if let Some(seen) = seen {
                seen.seq = board.seq();
            }
        }
        Frame::Text(text) => seen.as_mut().expect("it has a snapshot").hear(&text),
        Frame::Anew => seen.insert(Seen::default()).hear(&board.snapshot(sight)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deltas_on_an_old_snapshot_are_a_fresh_snapshot(steps in proptest::collection::vec(step(), 1..120)) {
        let mut board = Board::new(7);
        let sights = [Sight::Fleet, Sight::Fleet, Sight::Server(server_id(1)), Sight::Server(server_id(2))];
        let mut clients: Vec<(Sight, bool, Option<Seen>)> = sights.into_iter().map(|sight| (sight, true, None)).collect();
        let mut next_event = 1;
        for step in steps {
            let changes = match step {
                Step::Server(number, value) => vec![Change::Server(server_id(number), value.map(|value| server(number, value)))],
                Step::Worker(number, value) => vec![Change::Worker(worker_id(number), value.map(|value| worker(number, value)))],
                Step::Service(number, value) => {
                    let name = format!("service-{number}");
                    vec![Change::Service(name.clone(), value.map(|value| service_view(&name, value)))]
                }
                Step::Event(of) => {
                    next_event += 1;
                    vec![Change::Event(event(next_event, of))]
                }
                Step::Toggle(client) => {
                    clients[client].1 = !clients[client].1;
                    continue;
                }
                Step::Deliver => {
                    for (sight, _, seen) in clients.iter_mut().filter(|client| client.1) {
                        deliver(&mut board, *sight, seen);
                    }
                    continue;
                }
            };
            board.take(changes);
        }
        for (sight, _, seen) in &mut clients {
            deliver(&mut board, *sight, seen);
            let mut fresh = Seen::default();
            fresh.hear(&board.snapshot(*sight));
            prop_assert_eq!(seen.as_ref(), Some(&fresh));
            if let Sight::Server(only) = *sight {
                prop_assert!(fresh.servers.keys().all(|id| *id == only) && fresh.services.is_empty());
                prop_assert!(fresh.events.values().all(|event| event.server_id == Some(only)));
                prop_assert!(fresh.workers.values().all(|worker| worker.address.is_empty() && worker.labels.is_empty()));
            }
        }
    }
}

#[test]
fn what_is_as_it_was_has_no_number() {
    let mut board = Board::new(0);
    assert!(board.take(vec![Change::Server(server_id(1), Some(server(1, 1))), Change::Event(event(5, None))]));
    assert!(!board.take(vec![Change::Server(server_id(1), Some(server(1, 1))), Change::Event(event(5, None))]));
    assert!(!board.take(vec![Change::Worker(worker_id(1), None), Change::Service("gone".to_owned(), None)]));
    assert_eq!(board.seq(), 1);
}

#[test]
fn who_was_away_for_too_long_or_elsewhere_begins_anew() {
    let mut board = Board::new(0);
    for number in 0..u32::try_from(DELTAS_MAX).expect("few") + 10 {
        assert!(board.take(vec![Change::Server(server_id(1), Some(server(1, number)))]));
    }
    let newest = board.seq();
    assert!(matches!(board.since(newest), Missing::Deltas(deltas) if deltas.is_empty()));
    let kept = u64::try_from(DELTAS_MAX).expect("few");
    assert!(matches!(board.since(newest - kept), Missing::Deltas(deltas) if deltas.len() == DELTAS_MAX));
    assert!(matches!(board.since(newest - kept - 1), Missing::TooMuch));
    assert!(matches!(board.since(newest + 1), Missing::TooMuch), "a number that never was");
    // Of thousands of values of one thing the last one is sent.
    let Missing::Deltas(deltas) = board.since(newest - kept) else { panic!("they are kept") };
    let Frame::Text(text) = frame(Sight::Fleet, None, &deltas) else { panic!("a text") };
    assert!(matches!(serde_json::from_slice(&text).expect("sound"), FeedMessage::Delta { changes, .. } if changes.len() == 1));
}

#[test]
fn the_ring_is_bounded_in_bytes() {
    let mut board = Board::new(0);
    let long = "x".repeat(1024 * 1024);
    for number in 0..40 {
        let view = ServerView { url: Some(format!("{long}{number}")), ..server(1, number) };
        board.take(vec![Change::Server(server_id(1), Some(view))]);
    }
    assert!(board.ring_bytes <= BYTES_MAX && board.ring.len() < 40);
    assert_eq!(board.ring_bytes, board.ring.iter().map(|delta| delta.weight()).sum::<usize>());
}
