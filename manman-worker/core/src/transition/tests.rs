use std::collections::BTreeMap;
use std::time::Duration;

use manman_common::spec::{HangRule, RestartPolicy, StopMode};
use manman_common::status::ExitRecord;
use manman_common::{DesiredState, Timestamp};

use super::{Sign, begin, finish, seen, signal};
use crate::sim::fixtures::{instance_id, server_id, spec};
use crate::{
    Failing, FailureKind, Instance, InstanceRef, InstanceState, Mode, Outcome, Record, Rest, Step, TRIES_MAX, backoff, offer, run_hash,
};

const SERVER: u128 = 1;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_795_000_000_000_000).plus(Duration::from_secs(seconds))
}

fn record(policy: RestartPolicy) -> Record {
    let mut wish = spec(SERVER);
    wish.run.restart = policy;
    let mut records = BTreeMap::new();
    let _ = offer(&mut records, wish);
    records.remove(&server_id(SERVER)).expect("just offered")
}

fn instance(record: &Record, number: u128, state: InstanceState) -> Instance {
    Instance {
        server: server_id(SERVER),
        id: instance_id(number),
        reference: InstanceRef::Container(number.to_string()),
        state,
        generation: record.spec.generation,
        restart_seq: 0,
        run_hash: run_hash(&record.spec.run),
        degraded: false,
    }
}

fn exit(code: i32, moment: Timestamp) -> ExitRecord {
    ExitRecord { code: Some(code), at: Some(moment), ..ExitRecord::default() }
}

fn look(record: &mut Record, instances: &[Instance], now: Timestamp) -> Vec<&'static str> {
    seen(server_id(SERVER), record, instances, Mode::Normal, now, false).into_iter().map(|one| one.kind).collect()
}

/// Started and seen to run.
fn running(record: &mut Record, number: u128, now: Timestamp) {
    let start = Step::Start { server: server_id(SERVER) };
    let _ = begin(record, &start, now, instance_id(number));
    let _ = finish(record, &start, Outcome::Done, now);
    let live = instance(record, number, InstanceState::Running { since: now });
    assert_eq!(look(record, &[live], now), Vec::<&str>::new());
}

#[test]
fn a_game_without_its_shim_is_told_of_once_and_the_next_one_has_a_shim_again() {
    let mut record = record(RestartPolicy::Always);
    running(&mut record, 10, at(0));
    let mut live = instance(&record, 10, InstanceState::Running { since: at(0) });
    live.degraded = true;
    assert_eq!(look(&mut record, std::slice::from_ref(&live), at(5)), ["server.degraded"]);
    assert_eq!(look(&mut record, &[live], at(6)), Vec::<&str>::new());
    let dead = instance(&record, 10, InstanceState::Exited(exit(1, at(7))));
    look(&mut record, &[dead], at(7));
    running(&mut record, 11, at(8));
}

#[test]
fn an_end_that_nobody_asked_for_follows_the_policy() {
    let table = [
        (RestartPolicy::Always, 0, None, vec!["server.stopped", "server.backoff"]),
        (RestartPolicy::Always, 1, None, vec!["server.crashed", "server.backoff"]),
        (RestartPolicy::OnFailure, 0, Some(Rest::Completed), vec!["server.stopped"]),
        (RestartPolicy::OnFailure, 1, None, vec!["server.crashed", "server.backoff"]),
        (RestartPolicy::Never, 0, Some(Rest::Completed), vec!["server.stopped"]),
        (RestartPolicy::Never, 1, Some(Rest::Crashed), vec!["server.crashed"]),
    ];
    for (policy, code, rest, told) in table {
        let mut record = record(policy);
        running(&mut record, 10, at(0));
        let dead = instance(&record, 10, InstanceState::Exited(exit(code, at(5))));
        assert_eq!(look(&mut record, std::slice::from_ref(&dead), at(5)), told, "{policy:?} {code}");
        assert_eq!((record.tried.rest, record.tried.not_before.is_some()), (rest, rest.is_none()), "{policy:?} {code}");
        assert_eq!(look(&mut record, &[dead], at(6)), Vec::<&str>::new(), "it is counted once");
    }
}

#[test]
fn waits_grow_and_ten_minutes_ready_make_them_short_again() {
    let mut record = record(RestartPolicy::Always);
    for crash in 1..=4u32 {
        let number = 10 + u128::from(crash);
        running(&mut record, number, at(0));
        assert_eq!(signal(&mut record, instance_id(number), Sign::Ready, at(0)).len(), 1);
        let dead = instance(&record, number, InstanceState::Exited(exit(1, at(30))));
        look(&mut record, &[dead], at(30));
        assert_eq!(record.tried.not_before, Some(at(30).plus(backoff(server_id(SERVER), crash))));
    }
    running(&mut record, 20, at(1000));
    let _ = signal(&mut record, instance_id(20), Sign::Ready, at(1000));
    let dead = instance(&record, 20, InstanceState::Exited(exit(1, at(1600))));
    look(&mut record, &[dead], at(1600));
    assert_eq!((record.tried.crashes, record.tried.restarts), (1, 4));
    assert_eq!(record.tried.not_before, Some(at(1600).plus(backoff(server_id(SERVER), 1))));
}

#[test]
fn what_was_never_ready_is_given_up_and_what_was_once_is_not() {
    for was_ready in [false, true] {
        let mut record = record(RestartPolicy::Always);
        for try_number in 1..=TRIES_MAX {
            assert_eq!(record.tried.failed, None, "before try {try_number}");
            let number = u128::from(try_number) + 10;
            running(&mut record, number, at(0));
            if was_ready && try_number == 3 {
                let _ = signal(&mut record, instance_id(number), Sign::Ready, at(0));
            }
            let dead = instance(&record, number, InstanceState::Exited(exit(1, at(1))));
            look(&mut record, &[dead], at(1));
        }
        assert_eq!(record.tried.failed.is_some(), !was_ready);
    }
}

#[test]
fn an_instance_that_vanishes_has_crashed_unless_its_stop_says_otherwise() {
    let mut record = record(RestartPolicy::OnFailure);
    running(&mut record, 10, at(0));
    assert_eq!(look(&mut record, &[], at(5)), ["server.crashed", "server.backoff"]);
    assert_eq!(record.tried.exit.as_ref().map(|exit| exit.code), Some(None));
    record.tried.not_before = None;
    running(&mut record, 11, at(100));
    record.spec.desired = DesiredState::Stopped;
    let stop = Step::Stop { server: server_id(SERVER), instance: instance_id(11), mode: StopMode::Graceful };
    let _ = begin(&mut record, &stop, at(101), instance_id(99));
    let _ = finish(&mut record, &stop, Outcome::Ended(exit(0, at(102))), at(102));
    assert_eq!(look(&mut record, &[], at(103)), ["server.stopped"]);
    assert_eq!(record.tried.exit, Some(exit(0, at(102))));
}

#[test]
fn a_typed_stop_rests_and_one_that_the_game_ignores_is_forgotten() {
    let mut record = record(RestartPolicy::Always);
    running(&mut record, 10, at(0));
    let _ = signal(&mut record, instance_id(10), Sign::TypedStop, at(1));
    let dead = instance(&record, 10, InstanceState::Exited(exit(0, at(2))));
    assert_eq!(look(&mut record, &[dead], at(2)), ["server.stopped"]);
    assert_eq!(record.tried.rest, Some(Rest::Typed));

    running(&mut record, 11, at(10));
    let _ = signal(&mut record, instance_id(11), Sign::TypedStop, at(11));
    let live = instance(&record, 11, InstanceState::Running { since: at(10) });
    look(&mut record, &[live], at(200));
    let dead = instance(&record, 11, InstanceState::Exited(exit(0, at(201))));
    assert_eq!(look(&mut record, &[dead], at(201)), ["server.stopped", "server.backoff"]);
}

#[test]
fn a_game_that_hangs_is_killed_and_that_is_a_crash() {
    let mut record = record(RestartPolicy::OnFailure);
    record.spec.run.hang = Some(HangRule { silent_seconds: 60 });
    running(&mut record, 10, at(0));
    let id = instance_id(10);
    let told =
        |record: &mut Record, sign, now| -> Vec<&'static str> { signal(record, id, sign, now).into_iter().map(|one| one.kind).collect() };
    assert_eq!(told(&mut record, Sign::Silent { seconds: 90 }, at(90)), Vec::<&str>::new(), "it was not ready yet");
    let _ = signal(&mut record, id, Sign::Ready, at(100));
    assert_eq!(told(&mut record, Sign::Silent { seconds: 59 }, at(159)), Vec::<&str>::new());
    assert_eq!(told(&mut record, Sign::Silent { seconds: 60 }, at(160)), ["server.hung"]);
    assert_eq!(told(&mut record, Sign::Silent { seconds: 70 }, at(170)), Vec::<&str>::new(), "once is enough");
    assert_eq!(told(&mut record, Sign::Answers, at(171)), Vec::<&str>::new());
    assert_eq!((record.tried.hung, record.tried.conditions.len()), (None, 0));
    assert_eq!(told(&mut record, Sign::Silent { seconds: 61 }, at(240)), ["server.hung"]);
    let kill = Step::Stop { server: server_id(SERVER), instance: id, mode: StopMode::Kill };
    let _ = begin(&mut record, &kill, at(240), instance_id(99));
    // A worker that dies here looks again, and has not forgotten why it kills.
    let live = instance(&record, 10, InstanceState::Running { since: at(0) });
    look(&mut record, &[live], at(241));
    let dead = instance(&record, 10, InstanceState::Exited(exit(0, at(242))));
    assert_eq!(look(&mut record, &[dead], at(242)), ["server.crashed", "server.backoff"], "and were its end ever so clean");
    assert_eq!(record.tried.exit.as_ref().and_then(|exit| exit.reason.as_deref()), Some("killed after 61 s without an answer"));
    assert_eq!((record.tried.hung, record.tried.crashes), (None, 1));
}

#[test]
fn a_hung_game_that_a_person_stops_is_stopped() {
    for typed in [true, false] {
        let mut record = record(RestartPolicy::Always);
        record.spec.run.hang = Some(HangRule { silent_seconds: 60 });
        running(&mut record, 10, at(0));
        let _ = signal(&mut record, instance_id(10), Sign::Ready, at(0));
        let _ = signal(&mut record, instance_id(10), Sign::Silent { seconds: 60 }, at(60));
        let kill = Step::Stop { server: server_id(SERVER), instance: instance_id(10), mode: StopMode::Kill };
        let _ = begin(&mut record, &kill, at(60), instance_id(99));
        if typed {
            let _ = signal(&mut record, instance_id(10), Sign::TypedStop, at(60));
        } else {
            record.spec.desired = DesiredState::Stopped;
        }
        let dead = instance(&record, 10, InstanceState::Exited(exit(137, at(61))));
        assert_eq!(look(&mut record, &[dead], at(61)), ["server.stopped"]);
        assert_eq!((record.tried.rest, record.tried.crashes), (typed.then_some(Rest::Typed), 0));
    }
}

#[test]
fn a_game_that_ends_by_a_drain_cut_short_starts_again() {
    let mut record = record(RestartPolicy::OnFailure);
    running(&mut record, 10, at(0));
    let stop = Step::Stop { server: server_id(SERVER), instance: instance_id(10), mode: StopMode::Graceful };
    let _ = begin(&mut record, &stop, at(1), instance_id(99));
    // The worker is started afresh, and nobody drains it: the game lives, and then obeys.
    let live = instance(&record, 10, InstanceState::Running { since: at(0) });
    look(&mut record, &[live], at(3));
    let dead = instance(&record, 10, InstanceState::Exited(exit(0, at(4))));
    assert_eq!(look(&mut record, &[dead], at(4)), ["server.stopped"]);
    assert_eq!((record.tried.rest, record.tried.not_before), (None, None));

    // Long after, it is an end of its own.
    running(&mut record, 11, at(10));
    let _ = begin(
        &mut record,
        &Step::Stop { server: server_id(SERVER), instance: instance_id(11), mode: StopMode::Graceful },
        at(11),
        instance_id(99),
    );
    let live = instance(&record, 11, InstanceState::Running { since: at(10) });
    look(&mut record, &[live], at(12));
    let dead = instance(&record, 11, InstanceState::Exited(exit(0, at(900))));
    assert_eq!(look(&mut record, &[dead], at(900)), ["server.stopped"]);
    assert_eq!(record.tried.rest, Some(Rest::Completed));
}

#[test]
fn a_clock_that_is_put_back_holds_nothing_up() {
    let mut record = record(RestartPolicy::Always);
    running(&mut record, 10, at(100_000));
    look(&mut record, &[], at(100_000));
    assert!(record.tried.not_before.is_some_and(|moment| moment > at(100_000)));
    look(&mut record, &[], at(0));
    assert_eq!(record.tried.not_before, Some(at(0)));
}

#[test]
fn a_start_that_says_gone_is_installed_anew() {
    let mut record = record(RestartPolicy::Always);
    record.tried.installed = Some("image".to_owned());
    let start = Step::Start { server: server_id(SERVER) };
    let _ = begin(&mut record, &start, at(0), instance_id(10));
    let gone = Failing { kind: FailureKind::Gone, condition: "Start".to_owned(), reason: "no such image".to_owned(), hint: None };
    let told = finish(&mut record, &start, Outcome::Failed(gone), at(1));
    assert_eq!(told.iter().map(|one| one.kind).collect::<Vec<_>>(), ["server.start_failed", "server.backoff"]);
    assert_eq!(record.tried.installed, None);
    let _ = begin(&mut record, &start, at(9), instance_id(11));
    assert_eq!(record.tried.starting, Some(instance_id(10)), "the next try has the same id");
}

#[test]
fn a_stop_that_does_not_help_is_stuck_when_its_ladder_is_at_its_end() {
    let mut record = record(RestartPolicy::Always);
    running(&mut record, 10, at(0));
    record.spec.desired = DesiredState::Stopped;
    let stop = Step::Stop { server: server_id(SERVER), instance: instance_id(10), mode: StopMode::Graceful };
    let _ = begin(&mut record, &stop, at(0), instance_id(99));
    let failing = || Failing { kind: FailureKind::Retry, condition: "Stop".to_owned(), reason: "it lives".to_owned(), hint: None };
    assert_eq!(finish(&mut record, &stop, Outcome::Failed(failing()), at(1)), []);
    assert_eq!(record.tried.stopping[&instance_id(10)].retry_at, Some(at(6)));
    assert_eq!(finish(&mut record, &stop, Outcome::Failed(failing()), at(60)).first().map(|one| one.kind), Some("server.stop_stuck"));
    assert!(record.tried.stopping[&instance_id(10)].stuck);
}

#[test]
fn the_end_of_a_lease_is_no_crash_and_it_comes_back() {
    let mut record = record(RestartPolicy::Never);
    record.spec.lease_seconds = Some(60);
    record.tried.crashes = 2;
    running(&mut record, 10, at(0));
    let end = ExitRecord { reason: Some(crate::LEASE_ENDED.to_owned()), ..exit(143, at(60)) };
    let dead = instance(&record, 10, InstanceState::Exited(end));
    assert_eq!(look(&mut record, &[dead], at(60)), ["server.stopped"]);
    let tried = &record.tried;
    assert_eq!((tried.crashes, tried.restarts, tried.not_before, tried.rest), (2, 0, None, None));
    assert!(!tried.crashed);
}

#[test]
fn a_full_disk_starts_nothing_and_stops_nothing() {
    let (mut waits, mut runs) = (record(RestartPolicy::Always), record(RestartPolicy::Always));
    for one in [&mut waits, &mut runs] {
        one.tried.installed = Some("key".to_owned());
    }
    running(&mut runs, 1, at(0));
    let live = instance(&runs, 1, InstanceState::Running { since: at(0) });
    let planned = |record: &Record, instances: Vec<Instance>, has_room: bool| {
        crate::plan(crate::World {
            now: at(1),
            mode: Mode::Normal,
            records: &BTreeMap::from([(server_id(SERVER), record.clone())]),
            observed: &BTreeMap::from([(server_id(SERVER), crate::Observation::Known(instances))]),
            in_flight: &BTreeMap::new(),
            install_keys: &BTreeMap::from([(server_id(SERVER), "key".to_owned())]),
            last: &BTreeMap::new(),
            leased: &std::collections::BTreeSet::new(),
            has_room,
        })
    };
    let says_so = |plan: &crate::Plan| plan.statuses[&server_id(SERVER)].conditions.iter().filter(|one| one.kind == "DiskFull").count();
    let plan = planned(&waits, Vec::new(), false);
    assert_eq!((plan.steps.len(), says_so(&plan)), (0, 1));
    let plan = planned(&runs, vec![live.clone()], false);
    assert_eq!((plan.steps.len(), says_so(&plan)), (0, 1));
    runs.spec.restart_seq += 1;
    assert!(planned(&runs, vec![live.clone()], false).steps.is_empty(), "it would not come back");
    assert_eq!(planned(&runs, vec![live], true).steps.len(), 1);
    let plan = planned(&waits, Vec::new(), true);
    assert_eq!((plan.steps.len(), says_so(&plan)), (1, 0));
    waits.tried.installed = None;
    assert!(planned(&waits, Vec::new(), false).steps.is_empty(), "it would be installed");
}
