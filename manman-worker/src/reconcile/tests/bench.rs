//! How long a round takes that has nothing to do.

use std::collections::BTreeMap;

use manman_common::{DesiredState, Timestamp};
use manman_worker_core::{Mode, Observation, World, offer, plan, seen};

use super::rig::{server_id, spec};

#[test]
fn a_thousand_servers_that_need_nothing_are_planned_in_a_moment() {
    let now = Timestamp::from_micros(1_795_000_000_000_000);
    let mut records = BTreeMap::new();
    for number in 0..1000 {
        let mut wish = spec(number);
        wish.desired = DesiredState::Stopped;
        let _ = offer(&mut records, wish);
    }
    let install_keys: BTreeMap<_, _> = records.keys().map(|server| (*server, "image".to_owned())).collect();
    for record in records.values_mut() {
        record.tried.installed = Some("image".to_owned());
    }
    let observed: BTreeMap<_, _> = (0..1000).map(|number| (server_id(number), Observation::Known(Vec::new()))).collect();
    let start = tokio::time::Instant::now();
    for (server, record) in &mut records {
        assert_eq!(seen(*server, record, &[], Mode::Normal, now, false), []);
    }
    let (in_flight, last) = (BTreeMap::new(), BTreeMap::new());
    let world = World {
        now,
        mode: Mode::Normal,
        records: &records,
        observed: &observed,
        in_flight: &in_flight,
        install_keys: &install_keys,
        last: &last,
    };
    let planned = plan(world);
    let took = start.elapsed();
    assert_eq!((planned.steps.len(), planned.statuses.len()), (0, 1000));
    // The bar is 20 ms in a release build; this one is not, and shares its machine.
    assert!(took.as_millis() < 200, "took {took:?}");
}
