use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const RULES: Rules = Rules { unknown_after: Duration::from_secs(15), kill_after: Duration::from_secs(60), settle: Duration::from_secs(90) };
const NO_DOUBT: Rules = Rules { settle: Duration::ZERO, ..RULES };

fn secs(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn worker(number: u128, last_seen: u64) -> Watched {
    Watched { id: WorkerId::from_uuid(Uuid::from_u128(number)), last_seen: secs(last_seen), unknown_since: None, kill_begun: false }
}

#[test]
fn one_silent_worker_is_unknown_then_killed_once() {
    let mut liveness = Liveness::new(NO_DOUBT, secs(0));
    let mut silent = worker(1, 100);
    let healthy = worker(2, 200);
    assert_eq!(liveness.judge(secs(114), &[silent, healthy]), Judgement::default());
    assert_eq!(liveness.judge(secs(115), &[silent, healthy]).verdicts, [Verdict::Unknown(silent.id)]);
    silent.unknown_since = Some(secs(115));
    assert_eq!(liveness.judge(secs(159), &[silent, healthy]), Judgement::default());
    assert_eq!(liveness.judge(secs(160), &[silent, healthy]).verdicts, [Verdict::Kill(silent.id)]);
    silent.kill_begun = true;
    assert_eq!(liveness.judge(secs(200), &[silent, healthy]), Judgement::default());
}

#[test]
fn a_fresh_host_judges_nobody_until_it_has_settled() {
    let mut liveness = Liveness::new(RULES, secs(0));
    let mut dead = worker(1, 0);
    assert_eq!(liveness.judge(secs(89), &[dead]), Judgement::default());
    assert_eq!(liveness.judge(secs(90), &[dead]).verdicts, [Verdict::Unknown(dead.id)]);
    dead.unknown_since = Some(secs(90));
    assert_eq!(liveness.judge(secs(134), &[dead]), Judgement::default(), "unknown is shown for its whole time before the kill");
    assert_eq!(liveness.judge(secs(135), &[dead]).verdicts, [Verdict::Kill(dead.id)]);
}

#[test]
fn half_of_the_fleet_at_once_is_the_hosts_own_fault_and_is_said_once() {
    let mut liveness = Liveness::new(RULES, secs(0));
    let fleet: Vec<_> = (1..=6).map(|n| worker(n, if n <= 3 { 190 + u64::try_from(n).expect("small") } else { 300 })).collect();
    // The first two are an ordinary power cut; the third makes it half of six within a minute.
    assert_eq!(liveness.judge(secs(207), &fleet).verdicts.len(), 2);
    let doubt = liveness.judge(secs(208), &fleet);
    assert_eq!(doubt, Judgement { verdicts: Vec::new(), alert: Some(Alert { silent: 3, fleet: 6 }) });
    assert_eq!(liveness.judge(secs(297), &fleet), Judgement::default());
    let after = liveness.judge(secs(298), &fleet);
    assert_eq!((after.verdicts.len(), after.alert), (3, None), "a silence that was doubted once is believed then");
}

#[test]
fn two_of_two_is_no_reason_for_doubt() {
    let mut liveness = Liveness::new(RULES, secs(0));
    let judged = liveness.judge(secs(120), &[worker(1, 105), worker(2, 105)]);
    assert_eq!((judged.verdicts.len(), judged.alert), (2, None));
}

#[test]
fn a_host_that_stood_still_settles_again() {
    let mut liveness = Liveness::new(RULES, secs(0));
    liveness.paused(secs(200));
    assert_eq!(liveness.judge(secs(289), &[worker(1, 100)]), Judgement::default());
    assert_eq!(liveness.settling(secs(280)), secs(10));
    assert_eq!(liveness.judge(secs(290), &[worker(1, 100)]).verdicts.len(), 1);
}

/// What may befall a fleet, second by second.
#[derive(Clone, Debug)]
enum Happening {
    Beat(usize),
    Wait(u64),
    Paused,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0usize..8).prop_map(Happening::Beat),
        4 => (1u64..25).prop_map(Happening::Wait),
        1 => Just(Happening::Paused),
    ]
}

proptest! {
    /// Whatever happens: nobody is judged while the host settles, nobody who has beaten within the
    /// limit is called unknown, a kill follows an unknown by its full notice and comes once for a
    /// silence, and once the fleet stays silent everybody is unknown, and killed, in bounded time.
    #[test]
    fn verdicts_keep_their_word(happenings in prop::collection::vec(happening(), 1..120), settle in prop_oneof![Just(0u64), Just(90)]) {
        let rules = Rules { settle: secs(settle), ..RULES };
        let mut liveness = Liveness::new(rules, secs(0));
        let mut fleet: BTreeMap<usize, Watched> = (0..8).map(|n| (n, worker(n as u128 + 1, 0))).collect();
        let mut now = 0;
        let mut settled_at = settle;
        let quiet_end = std::iter::repeat_n(Happening::Wait(1), 700);
        for happening in happenings.into_iter().chain(quiet_end) {
            match happening {
                Happening::Beat(n) => {
                    if let Some(worker) = fleet.get_mut(&n) {
                        *worker = Watched { last_seen: secs(now), unknown_since: None, kill_begun: false, ..*worker };
                    }
                }
                Happening::Wait(seconds) => now += seconds,
                Happening::Paused => {
                    liveness.paused(secs(now));
                    settled_at = settled_at.max(now + settle.max(15));
                }
            }
            let before: Vec<_> = fleet.values().copied().collect();
            let judged = liveness.judge(secs(now), &before);
            if now < settled_at {
                prop_assert_eq!(&judged, &Judgement::default());
            }
            if judged.alert.is_some() {
                prop_assert!(settle > 0 && judged.verdicts.is_empty());
                settled_at = now + settle;
            }
            let distinct: BTreeSet<_> = judged.verdicts.iter().map(|v| match v { Verdict::Unknown(id) | Verdict::Kill(id) => *id }).collect();
            prop_assert_eq!(distinct.len(), judged.verdicts.len());
            for verdict in judged.verdicts {
                match verdict {
                    Verdict::Unknown(id) => {
                        let worker = fleet.values_mut().find(|w| w.id == id).expect("it is of the fleet");
                        prop_assert!(worker.unknown_since.is_none());
                        prop_assert!(secs(now) - worker.last_seen >= rules.unknown_after);
                        worker.unknown_since = Some(secs(now));
                    }
                    Verdict::Kill(id) => {
                        let worker = fleet.values_mut().find(|w| w.id == id).expect("it is of the fleet");
                        prop_assert!(!worker.kill_begun);
                        prop_assert!(secs(now) - worker.last_seen >= rules.kill_after);
                        let since = worker.unknown_since.expect("unknown comes first");
                        prop_assert!(secs(now) - since >= rules.kill_after - rules.unknown_after);
                        worker.kill_begun = true;
                    }
                }
            }
        }
        for worker in fleet.values() {
            prop_assert!(worker.kill_begun, "after a long silence {:?} has not been given up", worker);
        }
    }
}
