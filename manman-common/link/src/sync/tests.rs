use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn id(n: u128) -> ServerId {
    ServerId::from_uuid(uuid::Uuid::from_u128(n))
}

fn spec(n: u128, generation: u64) -> ServerSpec {
    let json = serde_json::json!({
        "id": id(n), "name": "s", "generation": generation, "desired": "running", "run": {"game_id": "docker:a"},
    });
    serde_json::from_value(json).expect("it is a spec")
}

fn at(n: u64) -> Revision {
    Revision::new(n)
}

/// One that has had its index.
fn following(have: u64) -> Sync {
    let mut sync = Sync::new(at(have));
    assert_eq!(sync.index(at(have), vec![]), Next::Store { specs: vec![], revision: at(have) });
    sync
}

#[test]
fn nothing_to_pull_is_stored_at_once() {
    let mut sync = Sync::new(at(3));
    assert_eq!(sync.index(at(9), vec![]), Next::Store { specs: vec![], revision: at(9) });
    sync.stored(at(9));
    assert_eq!(sync.have(), at(9));
}

#[test]
fn pulls_in_parts_and_stores_once() {
    let mut sync = Sync::new(at(0));
    let all: Vec<ServerId> = (0..150).map(id).collect();
    assert_eq!(sync.index(at(5), all.clone()), Next::Pull(all[..100].to_vec()));
    let first = (0..100).map(|n| spec(n, 1)).collect();
    assert_eq!(sync.specs(at(5), at(5), first), Next::Pull(all[100..].to_vec()));
    // The host has gone on in between; its news carries the newer generation.
    let mut second: Vec<ServerSpec> = (100..150).map(|n| spec(n, 1)).collect();
    second.push(spec(7, 2));
    let Next::Store { specs, revision } = sync.specs(at(5), at(6), second) else { panic!("all is there") };
    assert_eq!((specs.len(), revision), (150, at(6)));
    assert_eq!(specs[7].generation.get(), 2);
}

#[test]
fn news_while_a_pull_is_on_its_way_do_not_stand_for_its_answer() {
    let mut sync = Sync::new(at(2));
    assert_eq!(sync.index(at(5), vec![id(1)]), Next::Pull(vec![id(1)]));
    assert_eq!(
        sync.specs(at(5), at(6), vec![spec(2, 1)]),
        Next::Store { specs: vec![spec(2, 1)], revision: at(2) },
        "what was pulled is not there yet, so nothing is acknowledged"
    );
    assert_eq!(sync.specs(at(6), at(6), vec![spec(1, 1)]), Next::Store { specs: vec![spec(1, 1)], revision: at(6) });
}

#[test]
fn an_answer_in_parts_is_waited_for() {
    let mut sync = Sync::new(at(0));
    assert_eq!(sync.index(at(5), vec![id(1), id(2)]), Next::Pull(vec![id(1), id(2)]));
    assert_eq!(sync.specs(at(5), at(5), vec![spec(1, 1)]), Next::Pull(vec![id(2)]));
    assert_eq!(sync.specs(at(5), at(5), vec![spec(2, 1)]), Next::Store { specs: vec![spec(1, 1), spec(2, 1)], revision: at(5) });
    sync.stored(at(5));
    assert_eq!(sync.specs(at(5), at(5), vec![spec(2, 1)]), Next::Store { specs: vec![spec(2, 1)], revision: at(5) }, "the second answer");
}

#[test]
fn what_the_host_has_let_go_of_is_not_waited_for() {
    let mut sync = Sync::new(at(0));
    assert_eq!(sync.index(at(5), vec![id(1), id(2)]), Next::Pull(vec![id(1), id(2)]));
    assert_eq!(sync.specs(at(5), at(5), vec![spec(1, 1)]), Next::Pull(vec![id(2)]));
    assert_eq!(sync.specs(at(5), at(5), vec![]), Next::Store { specs: vec![spec(1, 1)], revision: at(5) });
}

#[test]
fn a_gap_begins_again_and_an_overlap_does_not() {
    let mut sync = following(5);
    assert_eq!(sync.specs(at(6), at(7), vec![spec(1, 1)]), Next::Resync);
    assert_eq!(sync.specs(at(5), at(6), vec![spec(1, 1)]), Next::Store { specs: vec![spec(1, 1)], revision: at(6) });
    sync.stored(at(6));
    assert_eq!(sync.specs(at(4), at(5), vec![]), Next::Store { specs: vec![], revision: at(6) });
}

#[test]
fn a_gap_behind_a_pull_is_one_too() {
    let mut sync = Sync::new(at(0));
    assert_eq!(sync.index(at(5), vec![id(1)]), Next::Pull(vec![id(1)]));
    assert_eq!(sync.specs(at(6), at(7), vec![spec(1, 3)]), Next::Resync, "5 to 6 is missing");
}

#[test]
fn after_a_hello_one_waits_for_the_index() {
    let mut sync = Sync::new(at(5));
    let stored = Next::Store { specs: vec![spec(1, 1)], revision: at(5) };
    assert_eq!(sync.specs(at(8), at(9), vec![spec(1, 1)]), stored, "taken, and no second Hello");
    assert_eq!(sync.index(at(3), vec![]), Next::Store { specs: vec![], revision: at(5) }, "an index of before moves nothing back");
}

/// What the host sends, in its order: an index, answers to pulls, news.
#[derive(Clone, Debug)]
enum Sent {
    Index,
    Change(u128),
    Again,
}

proptest! {
    /// Whatever comes between, doubled or not: what is acknowledged is there.
    #[test]
    fn what_is_acknowledged_is_there(
        steps in prop::collection::vec(prop_oneof![
            1 => Just(Sent::Index), 4 => (0..5_u128).prop_map(Sent::Change), 2 => Just(Sent::Again)
        ], 1..40),
        lose in prop::collection::vec(prop::bool::weighted(0.15), 200),
    ) {
        let mut lose = lose.into_iter().chain(std::iter::repeat(false));
        let mut host: BTreeMap<ServerId, (ServerSpec, u64)> = BTreeMap::new();
        let (mut newest, mut sent) = (0_u64, 0_u64);
        let mut store: BTreeMap<ServerId, ServerSpec> = BTreeMap::new();
        let mut sync = Sync::new(at(0));
        let mut wire: VecDeque<(u64, u64, Option<Vec<ServerSpec>>)> = VecDeque::new();
        let mut last = None;
        for step in steps.into_iter().chain([Sent::Index]) {
            match step {
                Sent::Index => {
                    sync = Sync::new(sync.have());
                    wire.push_back((newest, newest, None));
                    sent = newest;
                }
                Sent::Change(n) => {
                    newest += 1;
                    let generation = host.get(&id(n)).map_or(1, |(spec, _)| spec.generation.get() + 1);
                    host.insert(id(n), (spec(n, generation), newest));
                    // A frame that is lost ends a link; here the link goes on, which is worse.
                    if !lose.next().unwrap_or(false) {
                        let specs = host.values().filter(|(_, at)| *at > sent).map(|(spec, _)| spec.clone()).collect();
                        wire.push_back((sent, newest, Some(specs)));
                    }
                    sent = newest;
                }
                Sent::Again => wire.extend(last.clone()),
            }
            while let Some((from, to, specs)) = wire.pop_front() {
                let next = match &specs {
                    None => {
                        let differing = host.values().filter(|(spec, _)| store.get(&spec.id) != Some(spec)).map(|(spec, _)| spec.id).collect();
                        sync.index(at(to), differing)
                    }
                    Some(specs) => sync.specs(at(from), at(to), specs.clone()),
                };
                last = specs.is_some().then_some((from, to, specs));
                match next {
                    Next::Pull(ids) => {
                        let specs = ids.iter().filter_map(|id| host.get(id)).map(|(spec, _)| spec.clone()).collect();
                        wire.push_back((sent, sent, Some(specs)));
                    }
                    Next::Resync => {
                        sync = Sync::new(sync.have());
                        wire.push_back((newest, newest, None));
                        sent = newest;
                    }
                    Next::Store { specs, revision } => {
                        for spec in specs {
                            if store.get(&spec.id).is_none_or(|known| known.generation <= spec.generation) {
                                store.insert(spec.id, spec);
                            }
                        }
                        prop_assert!(revision >= sync.have(), "an acknowledgement went back");
                        sync.stored(revision);
                        for (spec, changed_at) in host.values().filter(|(_, at)| *at <= revision.get()) {
                            let has = store.get(&spec.id).map(|spec| spec.generation);
                            prop_assert!(has >= Some(spec.generation), "{revision} is acknowledged, and the change of {changed_at} is not there");
                        }
                    }
                }
            }
        }
        prop_assert_eq!(sync.have().get(), newest);
    }
}

#[test]
fn an_answer_to_an_earlier_pull_does_not_stand_for_the_newest() {
    let mut sync = Sync::new(at(0));
    let all: Vec<ServerId> = (0..150).map(id).collect();
    let rest: Vec<ServerId> = (0..100).filter(|n| *n != 7).map(id).collect();
    assert_eq!(sync.index(at(5), all.clone()), Next::Pull(all[..100].to_vec()));
    // News of one of them come first, so that two answers are on their way.
    assert_eq!(sync.specs(at(5), at(6), vec![spec(7, 2)]), Next::Pull(rest));
    assert_eq!(sync.specs(at(6), at(6), (0..100).map(|n| spec(n, 2)).collect()), Next::Pull(all[100..].to_vec()));
    let again: Vec<ServerSpec> = (0..100).filter(|n| *n != 7).map(|n| spec(n, 2)).collect();
    assert_eq!(sync.specs(at(6), at(6), again.clone()), Next::Store { specs: again, revision: at(0) });
    let Next::Store { specs, revision } = sync.specs(at(6), at(6), (100..150).map(|n| spec(n, 2)).collect()) else {
        panic!("all is there")
    };
    assert_eq!((specs.len(), revision), (150, at(6)));
}
