//! How long a round takes that has nothing to do.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::{InstanceId, Phase, Timestamp};
use manman_worker_core::{Instance, InstanceRef, InstanceState, Mode, Observation, World, offer, plan, run_hash, seen};

use super::rig::spec;
use crate::clock;

#[test]
fn a_thousand_running_servers_that_need_nothing_are_planned_in_a_moment() {
    let now = Timestamp::from_micros(1_795_000_000_000_000);
    let mut records = BTreeMap::new();
    for number in 0..1000 {
        let _ = offer(&mut records, spec(number));
    }
    let mut observed = BTreeMap::new();
    for (server, record) in &mut records {
        let instance = Instance {
            server: *server,
            id: InstanceId::from_uuid(server.as_uuid()),
            reference: InstanceRef::Container("c".to_owned()),
            state: InstanceState::Running { since: now },
            generation: record.spec.generation,
            restart_seq: 0,
            run_hash: run_hash(&record.spec.run),
            degraded: false,
        };
        record.tried.installed = Some("image".to_owned());
        record.tried.instance = Some(instance.id);
        record.tried.ready_at = Some(now);
        observed.insert(*server, vec![instance]);
    }
    let install_keys: BTreeMap<_, _> = records.keys().map(|server| (*server, "image".to_owned())).collect();
    let started = clock::now();
    for (server, record) in &mut records {
        assert_eq!(seen(*server, record, &observed[server], Mode::Normal, now, false), []);
    }
    let observed = observed.into_iter().map(|(server, instances)| (server, Observation::Known(instances))).collect();
    let (in_flight, last) = (BTreeMap::new(), BTreeMap::new());
    let planned = plan(World {
        now,
        mode: Mode::Normal,
        records: &records,
        observed: &observed,
        in_flight: &in_flight,
        install_keys: &install_keys,
        last: &last,
        leased: &BTreeSet::new(),
        has_room: true,
    });
    let took = clock::now().since(started);
    assert_eq!((planned.steps.len(), planned.wake_at), (0, None));
    assert_eq!(planned.statuses.values().filter(|status| status.phase == Phase::Ready).count(), 1000);
    // The bar is 20 ms in a release build; this one is not, and shares its machine.
    assert!(took.as_millis() < 300, "took {took:?}");
}
