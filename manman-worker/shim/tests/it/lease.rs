//! Leases, held by the shim alone.

use std::time::Duration;

use manman_shim::client::Reply;
use manman_shim::journal::Event;
use manman_shim::lease::Lease;
use manman_shim::proto::Request;
use manman_shim::record::{Phase, StopAsked};
use manman_shim::{clock, exit_code};

use crate::support::{Instance, is_alive, rungs, until};

const HOUR: Duration = Duration::from_secs(3600);

fn from_now(until: Duration, kill_at: Duration) -> Lease {
    let now = clock::boottime();
    Lease { until: now + until, kill_at: now + kill_at }
}

fn request(lease: Option<Lease>) -> Request<'static> {
    let (until_ms, kill_ms) = Lease::millis(lease);
    Request::Lease { until_ms, kill_ms }
}

const POLITE: &str = "trap 'echo saved; exit 7' TERM; echo ready; while :; do sleep 0.01; done";

#[test]
fn the_end_of_a_lease_is_a_stop_by_the_ladder_and_is_recorded_as_that() {
    let instance = Instance::play(|instance| instance.spec(POLITE));
    instance.wait_for_line("ready");
    let mut client = instance.connect();
    client.tell(&request(Some(from_now(HOUR, 2 * HOUR)))).unwrap();
    assert_eq!(instance.state().lease.map(|lease| lease.until > clock::boottime()), Some(true), "it is written down");
    // As for a machine that wakes up long after.
    client.tell(&Request::Lease { until_ms: 1, kill_ms: u64::MAX }).unwrap();
    let exit = instance.ended();
    assert_eq!((exit.code, exit.stop, exit.lease, exit.rungs), (Some(7), StopAsked::Ladder, true, 1));
    assert_eq!(instance.lines(), ["ready", "saved"]);
    assert!(instance.records().iter().any(|(_, _, text)| text == "instance an-instance has run to the end of its lease and is stopped"));
    assert_eq!(instance.shim_code(), i32::from(exit_code::ENDED));
    let events = instance.events();
    let (pid, ticks) = match events[1] {
        Event::Started { pid, ticks } => (pid, ticks),
        ref other => panic!("{other:?}"),
    };
    let [Event::Lease { until_ms, kill_ms }, rest @ ..] = &events[2..] else { panic!("{events:?}") };
    assert!(until_ms < kill_ms);
    let expected = [
        Event::Lapsed { until_ms: 1, kill_ms: u64::MAX, kill: false },
        Event::Stop { asked: "lease".to_owned() },
        Event::Rung { index: 0, step: "signal:TERM".to_owned() },
        Event::Signal { number: 15, pid, ticks },
        Event::Signal { number: 18, pid, ticks },
        Event::Exit { code: Some(7), signal: None, oom: false, lease: true, empty: true },
        Event::Unlocked,
    ];
    assert_eq!((&events[0], rest), (&Event::Locked, &expected[..]));
}

#[test]
fn by_the_second_moment_all_of_it_is_dead_though_nobody_says_another_word() {
    let script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &); echo ready; while :; do sleep 1; done";
    let lease = from_now(Duration::from_millis(1500), Duration::from_millis(2000));
    let instance = Instance::play(|instance| {
        let mut spec = instance.spec(script);
        spec.ladder = rungs(&["3600000 signal TERM"]);
        spec.lease = Some(lease);
        spec
    });
    assert_eq!(instance.state().lease.map(|lease| lease.until.as_millis()), Some(lease.until.as_millis()));
    let exit = instance.ended();
    assert!(clock::boottime() >= lease.kill_at, "it was not killed before its time");
    assert_eq!((exit.signal, exit.stop, exit.lease, exit.rungs), (Some(9), StopAsked::Kill, true, 1));
    assert!(exit.tree_empty);
    let events = instance.events();
    let place = |event: &Event| events.iter().position(|found| found == event);
    assert!(place(&Event::Stop { asked: "lease".to_owned() }) < place(&Event::Killing), "{events:?}");
    let killed = events.iter().filter(|event| matches!(event, Event::Signal { number: 9, .. })).count();
    assert!(killed >= 2, "whom it killed is named: {events:?}");
}

#[test]
fn a_lease_that_is_renewed_or_lifted_ends_nothing() {
    let instance = Instance::play(|instance| {
        let mut spec = instance.spec(POLITE);
        spec.lease = Some(from_now(HOUR, HOUR));
        spec
    });
    instance.wait_for_line("ready");
    let mut client = instance.connect();
    for lease in [Some(from_now(HOUR, HOUR)), None] {
        let short = from_now(Duration::from_secs(2), Duration::from_secs(2));
        client.tell(&request(Some(short))).unwrap();
        client.tell(&request(lease)).unwrap();
        until("its first moment is over", || (clock::boottime() > short.until).then_some(()));
        assert!(matches!(client.ask(&Request::Status).unwrap(), Reply::Status(_)));
        assert_eq!(instance.state().phase, Phase::Running);
        assert!(is_alive(instance.state().child.pid));
        assert_eq!(instance.state().lease.is_some(), lease.is_some());
    }
    let events = instance.events();
    let leases = events.iter().filter(|event| matches!(event, Event::Lease { .. })).count();
    assert_eq!(leases, 2, "that it begins and that it is lifted is written, its renewals are not: {events:?}");
    client.tell(&Request::Stop { ladder: b"" }).unwrap();
    assert!(!instance.ended().lease);
}

#[test]
fn a_renewal_that_comes_too_late_takes_nothing_back() {
    let instance = Instance::play(|instance| {
        let mut spec = instance.spec("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        spec.ladder = rungs(&["3600000 signal TERM"]);
        spec
    });
    instance.wait_for_line("ready");
    let mut client = instance.connect();
    client.tell(&Request::Lease { until_ms: 1, kill_ms: u64::MAX }).unwrap();
    until("it is being stopped", || (instance.state().phase == Phase::Stopping).then_some(()));
    let late = client.ask(&request(Some(from_now(HOUR, HOUR)))).unwrap();
    assert_eq!(late, Reply::Refused("its lease has run out, and it is being stopped".to_owned()));
    client.tell(&Request::Kill).unwrap();
    assert!(instance.ended().lease);
}

#[test]
fn a_stop_under_way_is_cut_short_by_the_lease_and_nothing_else() {
    let instance = Instance::play(|instance| {
        let mut spec = instance.spec("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        spec.ladder = rungs(&["3600000 signal TERM"]);
        spec
    });
    instance.wait_for_line("ready");
    let mut client = instance.connect();
    client.tell(&Request::Stop { ladder: b"" }).unwrap();
    client.tell(&Request::Lease { until_ms: 1, kill_ms: u64::MAX }).unwrap();
    let state = until("its lease is over", || {
        instance.events().iter().any(|event| matches!(event, Event::Lapsed { .. })).then(|| instance.state())
    });
    assert_eq!(state.phase, Phase::Stopping);
    assert!(is_alive(state.child.pid), "the stop that was asked for goes on");
    client.tell(&Request::Kill).unwrap();
    assert!(!instance.ended().lease, "it was stopped before");
}

#[test]
fn a_lease_that_is_over_starts_nothing() {
    let instance = Instance::new();
    let mut spec = instance.spec("echo never > never");
    spec.lease = Lease::from_millis(1, 2);
    instance.start(&spec);
    let exit = instance.ended();
    assert_eq!((exit.refused, exit.reason.as_deref()), (Some(exit_code::LEASE), Some("its lease is over already")));
    assert_eq!(instance.events(), [Event::Refused { code: exit_code::LEASE }]);
    assert!(!instance.path("data/never").exists());
}
