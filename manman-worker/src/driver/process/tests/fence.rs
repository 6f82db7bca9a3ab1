//! One world never runs twice: epochs, leases, and what outlives SIGKILL.

use std::time::Duration;

use manman_common::spec::{FileEntry, FileFormat, FileSpec, FileValue, StopMode};
use manman_common::{DesiredState, Generation, ServerSpec};
use manman_shim::journal::{self, Event};
use manman_test_ice::Ice;
use manman_worker_core::{Instance, InstanceState};
use rustix::process::{Signal, pidfd_send_signal};

use super::game::{Rig, console, lives, signal, until};
use crate::clock;
use crate::driver::{Driver, DriverErrorKind, LEASE_ENDED, Lease, Stops};

const HOUR: Duration = Duration::from_secs(3600);

fn from_now(until: Duration) -> Lease {
    let until = manman_shim::clock::boottime() + until;
    Lease { until, kill_at: until + HOUR }
}

fn events(rig: &Rig, instance: &Instance) -> Vec<Event> {
    let journal = journal::read(&rig.run_dir(instance).journal_dir()).expect("a journal");
    assert_eq!(journal.torn, 0);
    journal.lines.into_iter().filter(|line| line.instance == instance.id.to_string()).map(|line| line.event).collect()
}

#[tokio::test]
async fn a_world_that_was_moved_away_is_not_started_and_not_written_to() {
    let rig = Rig::new();
    let mut spec = rig.spec();
    spec.epoch = 2;
    // A file from before there were epochs.
    std::fs::write(rig.server_dir(spec.id).join("lock"), "00000000000000000999\n").expect("a file");
    let first = rig.start(&spec).await;
    assert_eq!(rig.state(&first).epoch, Some((2 << 32) + spec.generation.get()));
    rig.stop(&first, &[console("quit", 30)]).await;
    assert!(matches!(
        events(&rig, &first)[..],
        [Event::Locked, Event::Started { .. }, .., Event::Exit { empty: true, .. }, Event::Unlocked]
    ));
    rig.driver.remove(&first).await.expect("it goes");

    let mut old = spec.clone();
    old.epoch = 1;
    let set = vec![FileEntry { key: "a".to_owned(), value: FileValue::Text("b".to_owned()) }];
    old.run.files = vec![FileSpec { path: "new.properties".to_owned(), format: FileFormat::Properties, set, create: true }];
    let error = rig.driver.start(&old, clock::new_instance_id()).await.expect_err("it is elsewhere");
    assert_eq!(error.kind, DriverErrorKind::Final, "tried again for ever: {error:?}");
    assert!(error.what.starts_with("this world was moved away in epoch 2"), "{error:?}");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("server move")), "{error:?}");
    assert!(!rig.server_dir(spec.id).join("data/new.properties").exists(), "its data was written to");
    assert_eq!(rig.driver.list().await.expect("a list"), [], "nothing half-made remains");
    let journal = journal::read(&rig.server_dir(spec.id).join("journal")).expect("a journal");
    assert!(journal.lines.last().is_some_and(|line| line.event == Event::Refused { code: manman_shim::exit_code::EPOCH }), "{journal:?}");
    spec.epoch = 3;
    let back = rig.start(&spec).await;
    rig.stop(&back, &[console("quit", 30)]).await;
    rig.driver.remove(&back).await.expect("it goes");

    // Given away, and the database of this worker restored to before that.
    let mut released = spec.clone();
    released.epoch = 4;
    for _ in 0..2 {
        rig.driver.let_go(&released).await.expect("it is noted");
    }
    rig.driver.let_go(&spec).await.expect("an old word changes nothing");
    let error = rig.driver.start(&spec, clock::new_instance_id()).await.expect_err("it is elsewhere");
    assert!(error.what.starts_with("this world was moved away in epoch 4"), "{error:?}");
}

#[tokio::test]
async fn a_start_by_a_wish_that_was_stopped_since_is_refused_until_somebody_who_knows_wants_it() {
    let rig = Rig::new();
    let base = rig.spec();
    let wish = |generation, desired| ServerSpec { generation: Generation::new(generation), desired, ..base.clone() };
    let running = wish(3, DesiredState::Running);
    let first = rig.start(&running).await;
    rig.stop(&first, &[console("quit", 30)]).await;
    rig.driver.remove(&first).await.expect("it goes");
    let again = rig.start(&running).await;
    rig.stop(&again, &[console("quit", 30)]).await;
    rig.driver.remove(&again).await.expect("it goes");
    rig.driver.let_go(&wish(5, DesiredState::Stopped)).await.expect("it is noted");

    let start = async || rig.driver.start(&running, clock::new_instance_id()).await;
    let error = start().await.expect_err("it was stopped since");
    assert_eq!(error.kind, DriverErrorKind::Retry, "{error:?}");
    assert!(error.what.starts_with("this world was stopped since: ") && error.what.contains("by generation 5"), "{error:?}");
    rig.driver.take_up(&running, Stops::All).await.expect("it is noted");
    let instance = rig.start(&running).await;
    rig.driver.take_up(&running, Stops::All).await.expect("what runs is no error");
    let held = rig.driver.let_go(&wish(5, DesiredState::Stopped)).await.expect_err("something runs");
    assert!(format!("{held:?}").contains("is locked"), "{held:?}");
    rig.stop(&instance, &[console("quit", 30)]).await;
    rig.driver.remove(&instance).await.expect("it goes");
    rig.driver.let_go(&wish(5, DesiredState::Stopped)).await.expect("it is noted");
    let at_the_machine = Stops::OfThisWish;
    rig.driver.take_up(&running, at_the_machine).await.expect("it is noted");
    start().await.expect_err("of the stop by the host that person may not know");
    // A person at the machine stops by the generation of the host's start.
    for stop in [5, 3] {
        rig.driver.take_up(&running, Stops::All).await.expect("it is noted");
        rig.driver.let_go(&wish(stop, DesiredState::Stopped)).await.expect("it is noted");
        let error = start().await.expect_err("it was stopped again");
        assert!(error.what.contains(&format!("a stop by generation {stop}")), "{error:?}");
    }
    rig.driver.take_up(&running, at_the_machine).await.expect("it is noted");
    let instance = rig.start(&running).await;
    rig.stop(&instance, &[console("quit", 30)]).await;
}

#[tokio::test]
async fn a_leased_game_starts_under_its_lease_and_ends_with_it() {
    let mut rig = Rig::new();
    let mut spec = rig.spec();
    spec.lease_seconds = Some(60);
    let error = rig.driver.start(&spec, clock::new_instance_id()).await.expect_err("nobody has granted one");
    assert_eq!(error.kind, DriverErrorKind::Retry, "{error:?}");
    let over = Lease { until: Duration::ZERO, kill_at: Duration::ZERO };
    rig.driver.grant_lease(spec.id, None, Some(over)).await.expect("it is kept");
    let error = rig.driver.start(&spec, clock::new_instance_id()).await.expect_err("it is over");
    assert_eq!(error.kind, DriverErrorKind::Retry, "{error:?}");
    assert!(error.what.contains("its lease is over already"), "{error:?}");
    assert_eq!(rig.driver.list().await.expect("a list"), [], "nothing half-made remains");

    rig.driver.grant_lease(spec.id, None, Some(from_now(HOUR))).await.expect("it is kept");
    let instance = rig.start(&spec).await;
    let first = rig.state(&instance).lease.expect("it was never without one");
    rig.restart();
    rig.driver.list().await.expect("a list");
    rig.driver.grant_lease(spec.id, Some(&instance), Some(from_now(2 * HOUR))).await.expect("it is renewed");
    assert!(rig.state(&instance).lease.expect("a lease").until > first.until);
    rig.driver.grant_lease(spec.id, Some(&instance), Some(over)).await.expect("the shim is told");
    let exit = rig.exited(&instance).await;
    assert_eq!((exit.reason.as_deref(), exit.oom), (Some(LEASE_ENDED), false), "{exit:?}");
    assert!(events(&rig, &instance).contains(&Event::Stop { asked: "lease".to_owned() }));
    rig.driver.grant_lease(spec.id, Some(&instance), Some(from_now(HOUR))).await.expect("one that has ended is no error");
    rig.driver.remove(&instance).await.expect("it goes");

    rig.driver.grant_lease(spec.id, None, Some(from_now(HOUR))).await.expect("it is kept");
    let again = rig.start(&spec).await;
    rig.driver.grant_lease(spec.id, Some(&again), None).await.expect("it is lifted");
    assert_eq!(rig.state(&again).lease, None);
    rig.stop(&again, &[console("quit", 30)]).await;
}

#[tokio::test]
async fn a_game_whose_shim_was_killed_is_ended_by_the_worker_when_its_lease_ends() {
    let rig = Rig::new();
    let mut spec = rig.spec();
    spec.lease_seconds = Some(60);
    spec.run.stop = vec![signal("TERM", 30)];
    rig.driver.grant_lease(spec.id, None, Some(from_now(HOUR))).await.expect("it is kept");
    let instance = rig.start(&spec).await;
    rig.kill_shim(&instance).await;
    rig.printed(spec.id, "the shim of instance").await;
    rig.driver.grant_lease(spec.id, Some(&instance), Some(from_now(HOUR))).await.expect("the worker keeps it");
    rig.type_in(&instance, "still here").await;
    rig.printed(spec.id, "said: still here").await;
    let over = Lease { until: Duration::ZERO, kill_at: from_now(HOUR).until };
    rig.driver.grant_lease(spec.id, Some(&instance), Some(over)).await.expect("the worker keeps it");
    let exit = rig.exited(&instance).await;
    assert_eq!((exit.code, exit.reason.as_deref()), (Some(7), Some(LEASE_ENDED)), "{exit:?}");
    let events = events(&rig, &instance);
    assert!(events.iter().any(|event| matches!(event, Event::Signal { number: 15, .. })), "{events:?}");
    assert!(matches!(events.last(), Some(Event::Exit { code: Some(7), lease: true, .. })), "{events:?}");
}

/// As when its machine is shut down and the init system ends what is left.
#[tokio::test]
async fn a_stop_from_outside_is_not_taken_for_the_games_own_wish() {
    let rig = Rig::new();
    let mut spec = rig.spec();
    spec.run.stop = vec![console("quit", 30)];
    let instance = rig.start(&spec).await;
    let shim = rig.state(&instance).shim.open().expect("a look").expect("it lives");
    pidfd_send_signal(&shim, Signal::TERM).expect("it is sent");
    let exit = rig.exited(&instance).await;
    assert_eq!((exit.code, exit.signal), (None, None), "with code 0 it would rest: {exit:?}");
    assert!(exit.reason.is_some(), "{exit:?}");
}

#[tokio::test]
async fn what_outlives_sigkill_is_said_and_nothing_is_started_beside_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can freeze a process");
        return;
    }
    let rig = Rig::new();
    let spec = rig.spec();
    let instance = rig.start(&spec).await;
    rig.type_in(&instance, "leave").await;
    let log = rig.printed(spec.id, "left ").await;
    let left: i32 = log.iter().find_map(|line| line.strip_prefix("left ")).expect("a pid").parse().expect("a number");
    let ice = Ice::around(left).expect("it freezes");
    let stop = || rig.driver.stop(&instance, &[], StopMode::Kill, std::sync::Arc::new(|_| {}));
    for _ in 0..2 {
        let error = stop().await.expect_err("it lives");
        assert_eq!(error.kind, DriverErrorKind::Retry, "{error:?}");
        assert!(error.what.contains(&left.to_string()) && error.what.contains("outlived SIGKILL"), "{error:?}");
    }
    let error = rig.driver.start(&spec, clock::new_instance_id()).await.expect_err("the first one lives");
    assert!(error.what.contains("is locked"), "{error:?}");
    assert!(matches!(rig.listed(&instance).await.state, InstanceState::Running { .. }));
    assert!(lives(left));
    drop(ice);
    // Its shim may not have seen it yet.
    let exit = until("it ends", async || stop().await.ok()).await;
    assert_eq!(exit.signal, Some(9), "{exit:?}");
}
