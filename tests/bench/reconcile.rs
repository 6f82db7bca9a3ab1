//! A round of the plan over servers that need nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use manman_common::status::Phase;
use manman_common::{InstanceId, ServerId, ServerSpec, Timestamp};
use manman_worker_core::{Instance, InstanceRef, InstanceState, Mode, Observation, Origin, Record, Tried, World, plan, run_hash};
use uuid::Uuid;

use crate::row;

const SERVERS: u128 = 1_000;

pub(crate) fn measure() {
    let (mut records, mut observed, mut install_keys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for number in 1..=SERVERS {
        let server = ServerId::from_uuid(Uuid::from_u128(number));
        let spec = spec(server, number);
        let instance = Instance {
            server,
            id: InstanceId::from_uuid(Uuid::from_u128(number << 64)),
            reference: InstanceRef::Container(format!("{number:064x}")),
            state: InstanceState::Running { since: Timestamp::EPOCH },
            generation: spec.generation,
            restart_seq: spec.restart_seq,
            run_hash: run_hash(&spec.run),
            degraded: false,
        };
        let mut record = Record { spec, origin: Origin::Host, offered_hash: 0, changed_here: false, tried: Tried::default() };
        record.tried.installed = Some("image".to_owned());
        record.tried.instance = Some(instance.id);
        record.tried.ready_at = Some(Timestamp::EPOCH);
        records.insert(server, record);
        observed.insert(server, Observation::Known(vec![instance]));
        install_keys.insert(server, "image".to_owned());
    }
    let (in_flight, mut last) = (BTreeMap::new(), BTreeMap::new());
    let mut took = Vec::new();
    for round in 0..20 {
        let world = World {
            now: Timestamp::from_micros(round * 1_000_000),
            mode: Mode::Normal,
            records: &records,
            observed: &observed,
            in_flight: &in_flight,
            install_keys: &install_keys,
            last: &last,
            leased: &BTreeSet::new(),
            has_room: true,
        };
        let start = Instant::now();
        let round = plan(world);
        took.push(start.elapsed().as_secs_f64());
        assert!(round.steps.is_empty(), "the servers were to need nothing: {:?}", round.steps.first());
        assert!(round.statuses.values().all(|status| status.phase == Phase::Ready), "the servers were to be Ready");
        last = round.statuses;
    }
    // What merely copying the answer costs, for scale.
    let start = Instant::now();
    std::hint::black_box(last.clone());
    let copy = start.elapsed().as_secs_f64();
    let median = crate::stats::percentile(&mut took, 50.0);
    row(
        "reconcile 1,000 servers that need nothing",
        &format!("{:.2} ms a round", median * 1e3),
        &format!("{:.1} times a copy of its 1,000 statuses", median / copy),
    );
}

fn spec(server: ServerId, number: u128) -> ServerSpec {
    let json = serde_json::json!({
        "id": server, "name": format!("server-{number}"), "generation": 3, "desired": "running",
        "run": {
            "game_id": "docker:manman/openarena", "argv": ["+set", "dedicated", "1"], "env": {"A": "b"},
            "ports": [{"name": "game", "protocol": "udp", "port": 27960}],
            "stop": [{"console": "quit", "wait_seconds": 20}], "query": {"protocol": "quake3", "port": 27960},
        },
    });
    serde_json::from_value(json).expect("a spec as the host sends it")
}
