use std::time::Duration;

use manman_common::spec::{PortSpec, Protocol, StopMode};
use manman_common::{DesiredState, Generation, InstanceId, Phase, Revision};
use manman_worker_core::{Instance, InstanceRef, InstanceState, LocalChange};

use super::rig::{Rig, next, server_id, spec};
use crate::clock;
use crate::driver::fake::Behaviour;
use crate::driver::{DriverErrorKind, Stops};
use crate::reconcile::signals::{Observed, Signal};
use crate::reconcile::{Created, ReconcileError};

#[tokio::test]
async fn a_wish_becomes_a_running_game_and_a_stop_ends_it() {
    let mut rig = Rig::new(1).await;
    let wish = spec(1);
    rig.wish(wish.clone()).await;
    let status = rig.until_phase(wish.id, Phase::Ready).await;
    assert_eq!((status.applied_generation, status.pending_restart, status.restarts), (wish.generation, false, 0));
    assert_eq!(rig.machine.live(wish.id), vec![status.instance.expect("it runs")]);
    let stop = next(&wish, |spec| spec.desired = DesiredState::Stopped);
    rig.wish(stop.clone()).await;
    let status = rig.until_phase(wish.id, Phase::Stopped).await;
    assert_eq!((status.exit.expect("it ended").code, status.applied_generation), (Some(0), stop.generation));
    rig.until("the dead instance is cleared away", |rig| rig.machine.present(wish.id) == 0).await;
    let events = rig.events(wish.id).await;
    let expected = ["installing", "installed", "starting", "started", "ready", "stopping", "rung", "stopped"];
    assert_eq!(events, expected.map(|kind| format!("server.{kind}")));
}

#[tokio::test]
async fn a_running_game_is_not_touched_by_another_spec_until_it_is_restarted() {
    let mut rig = Rig::new(1).await;
    let wish = spec(1);
    rig.wish(wish.clone()).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    let changed = next(&wish, |spec| spec.run.argv.push("+map q3dm17".to_owned()));
    rig.wish(changed.clone()).await;
    rig.until("the change is pending", |rig| rig.handle.status(wish.id).is_some_and(|status| status.pending_restart)).await;
    assert_eq!(rig.machine.starts(wish.id), 1);
    rig.wish(next(&changed, |spec| spec.restart_seq = 1)).await;
    rig.until("it has been restarted", |rig| {
        rig.machine.starts(wish.id) == 2 && rig.handle.status(wish.id).is_some_and(|status| status.phase == Phase::Ready)
    })
    .await;
    let status = rig.handle.status(wish.id).expect("there");
    assert_eq!((status.pending_restart, status.applied_generation, status.restarts), (false, Generation::new(3), 0));
}

#[tokio::test]
async fn a_crash_loop_backs_off_and_does_not_forget_that_in_a_restart() {
    let mut rig = Rig::with(100, true).await;
    let wish = spec(1);
    rig.machine.behave(wish.id, Behaviour { ends_after: Some((Duration::ZERO, 1)), ..Behaviour::default() });
    rig.wish(wish.clone()).await;
    rig.until("it has crashed three times", |rig| rig.machine.starts(wish.id) >= 3).await;
    rig.until_phase(wish.id, Phase::Backoff).await;
    let starts = rig.machine.starts(wish.id);
    rig.kill_and_start_again().await;
    rig.until("it is tried again", |rig| rig.machine.starts(wish.id) > starts).await;
    rig.until("its failures are still counted", |rig| {
        rig.handle.status(wish.id).is_some_and(|status| status.restarts >= 3 && status.phase == Phase::Backoff)
    })
    .await;
    // Another back-off at this point is at least 40 s of the loop's clock, so 0.4 s of ours: given up
    // after eight is a minute away even so, and a fresh counter would be seen above.
    rig.wish(next(&wish, |spec| spec.desired = DesiredState::Stopped)).await;
    rig.until_phase(wish.id, Phase::Stopped).await;
    let events = rig.events(wish.id).await;
    assert!(events.iter().filter(|kind| *kind == "server.backoff").count() >= 3, "{events:?}");
}

#[tokio::test]
async fn what_is_never_ready_is_given_up_and_a_newer_wish_tries_again() {
    let mut rig = Rig::with(2000, true).await;
    let wish = spec(1);
    rig.machine.behave(wish.id, Behaviour { start_fails: Some(DriverErrorKind::Retry), ..Behaviour::default() });
    rig.wish(wish.clone()).await;
    let status = rig.until_phase(wish.id, Phase::Failed).await;
    assert!(status.conditions.iter().any(|condition| condition.message.contains("could not start it")), "{status:?}");
    rig.machine.behave(wish.id, Behaviour::default());
    rig.wish(next(&wish, |_| {})).await;
    rig.until_phase(wish.id, Phase::Running).await;
}

#[tokio::test]
async fn a_hung_start_delays_no_other_server() {
    let mut rig = Rig::new(1).await;
    let (hung, well) = (spec(1), spec(2));
    rig.machine.behave(hung.id, Behaviour { start_hangs: true, ..Behaviour::default() });
    rig.wish(hung.clone()).await;
    rig.until_phase(hung.id, Phase::Starting).await;
    rig.wish(well.clone()).await;
    rig.until_phase(well.id, Phase::Ready).await;
    assert_eq!(rig.phase(hung.id), Some(Phase::Starting));
}

#[tokio::test]
async fn a_killed_worker_adopts_what_runs() {
    let mut rig = Rig::new(1).await;
    let wish = spec(1);
    rig.wish(wish.clone()).await;
    let before = rig.until_phase(wish.id, Phase::Ready).await;
    rig.kill_and_start_again().await;
    rig.until("it has been adopted", |rig| rig.watchman_has_seen(before.instance)).await;
    let after = rig.until_phase(wish.id, Phase::Ready).await;
    assert_eq!((after.instance, after.restarts), (before.instance, 0));
    assert_eq!(rig.machine.starts(wish.id), 1);
    let events = rig.until_event(wish.id, "server.adopted").await;
    assert_eq!(events.iter().filter(|kind| *kind == "server.adopted").count(), 1, "{events:?}");
    assert_eq!(
        rig.handle.apply_specs(Revision::default(), Revision::new(9), Vec::new()).await.map_err(|error| error.to_string()),
        Err(ReconcileError::RevisionGap { from: Revision::default(), have: Revision::new(1) }.to_string())
    );
}

/// The worker dies at moments spread over a whole life; whatever it was doing, the game comes up
/// once, goes down, and is deleted.
#[tokio::test]
async fn killed_at_any_moment_it_still_gets_there() {
    for moment in 0..24u64 {
        let mut rig = Rig::new(50).await;
        let wish = spec(1);
        rig.machine.behave(
            wish.id,
            Behaviour { install_takes: Duration::from_millis(4), stop_takes: Duration::from_millis(4), ..Behaviour::default() },
        );
        rig.wish(wish.clone()).await;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        rig.kill_and_start_again().await;
        rig.until_phase(wish.id, Phase::Ready).await;
        assert_eq!(rig.machine.live(wish.id).len(), 1);
        assert_eq!(rig.machine.starts(wish.id), 1, "killed after {moment} ms");
        let delete = next(&wish, |spec| {
            spec.desired = DesiredState::Deleted;
            spec.purge = true;
        });
        rig.wish(delete).await;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        rig.kill_and_start_again().await;
        rig.until_phase(wish.id, Phase::Deleted).await;
        assert_eq!((rig.machine.present(wish.id), rig.machine.is_purged(wish.id)), (0, true));
    }
}

#[tokio::test]
async fn deleted_means_stopped_first_and_purged_only_when_asked() {
    let mut rig = Rig::new(1).await;
    let (kept, purged) = (spec(1), spec(2));
    rig.wish(kept.clone()).await;
    rig.wish(purged.clone()).await;
    rig.until_phase(kept.id, Phase::Ready).await;
    rig.until_phase(purged.id, Phase::Ready).await;
    rig.wish(next(&kept, |spec| spec.desired = DesiredState::Deleted)).await;
    rig.wish(next(&purged, |spec| (spec.desired, spec.purge) = (DesiredState::Deleted, true))).await;
    rig.until_phase(kept.id, Phase::Deleted).await;
    rig.until_phase(purged.id, Phase::Deleted).await;
    assert_eq!((rig.machine.is_purged(kept.id), rig.machine.is_purged(purged.id)), (false, true));
    assert!(rig.watchman.purged.lock().expect("no panic holds it").contains(&purged.id));
    assert_eq!(rig.events(kept.id).await.last().map(String::as_str), Some("server.deleted"));
}

#[tokio::test]
async fn frozen_starts_nothing_lets_run_what_runs_and_stays_frozen() {
    let mut rig = Rig::new(50).await;
    let (runs, waits) = (spec(1), spec(2));
    rig.wish(runs.clone()).await;
    rig.until_phase(runs.id, Phase::Ready).await;
    rig.handle.freeze(true).await.expect("stored");
    rig.wish(waits.clone()).await;
    rig.kill_and_start_again().await;
    rig.until("it says why it does not start", |rig| {
        rig.handle.status(waits.id).is_some_and(|status| status.conditions.iter().any(|condition| condition.kind == "Frozen"))
    })
    .await;
    assert_eq!((rig.machine.starts(waits.id), rig.phase(runs.id)), (0, Some(Phase::Ready)));
    rig.machine.crash(runs.id, 3);
    rig.until("the crash is seen", |rig| rig.phase(runs.id).is_some_and(|phase| !phase.is_live())).await;
    rig.handle.freeze(false).await.expect("stored");
    rig.until_phase(waits.id, Phase::Ready).await;
    let status = rig.until_phase(runs.id, Phase::Ready).await;
    assert_eq!(status.restarts, 1);
}

#[tokio::test]
async fn a_blind_driver_keeps_what_was_last_seen() {
    let mut rig = Rig::new(1).await;
    let wish = spec(1);
    rig.wish(wish.clone()).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    rig.machine.set_blind(Some("the engine is away"));
    rig.until("it says that it is blind", |rig| {
        rig.handle.status(wish.id).is_some_and(|status| status.conditions.iter().any(|condition| condition.kind == "Blind"))
    })
    .await;
    rig.wish(next(&wish, |spec| spec.desired = DesiredState::Stopped)).await;
    rig.kill_and_start_again().await;
    rig.until("the blind worker still says Ready", |rig| rig.phase(wish.id) == Some(Phase::Ready)).await;
    assert_eq!(rig.machine.live(wish.id).len(), 1);
    rig.machine.set_blind(None);
    rig.until_phase(wish.id, Phase::Stopped).await;
}

#[tokio::test]
async fn a_kill_does_not_wait_for_the_ladder() {
    let mut rig = Rig::new(1).await;
    let wish = spec(1);
    rig.machine.behave(wish.id, Behaviour { ignores_stop: true, ..Behaviour::default() });
    rig.wish(wish.clone()).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    let stop = next(&wish, |spec| spec.desired = DesiredState::Stopped);
    rig.wish(stop.clone()).await;
    rig.until_phase(wish.id, Phase::Stopping).await;
    rig.wish(next(&stop, |spec| spec.stop_mode = StopMode::Kill)).await;
    let status = rig.until_phase(wish.id, Phase::Stopped).await;
    assert_eq!(status.exit.expect("it ended").code, Some(137));
}

#[tokio::test]
async fn a_typed_stop_is_no_crash_and_is_not_undone() {
    let mut rig = Rig::new(50).await;
    let wish = spec(1);
    rig.wish(wish.clone()).await;
    let instance = rig.until_phase(wish.id, Phase::Ready).await.instance.expect("it runs");
    rig.signals.send(Signal { server: wish.id, instance, observed: Observed::TypedStop }).await.expect("the loop listens");
    rig.machine.crash(wish.id, 0);
    let status = rig.until_phase(wish.id, Phase::Stopped).await;
    assert_eq!((status.restarts, rig.machine.starts(wish.id)), (0, 1));
    assert!(!rig.events(wish.id).await.contains(&"server.crashed".to_owned()));
    assert!(!rig.handle.change_here(wish.id, LocalChange::Start).await.expect("stored"), "the wish was running all along");
    rig.until_phase(wish.id, Phase::Ready).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let mut rig = Rig::new(1).await;
    let holder = std::net::UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let port = holder.local_addr().expect("bound").port();
    let mut wish = spec(1);
    wish.run.ports.push(PortSpec { name: "game".to_owned(), protocol: Protocol::Udp, port, container_port: None });
    rig.wish(wish.clone()).await;
    let status = rig.until_phase(wish.id, Phase::Backoff).await;
    let condition = status.conditions.iter().find(|condition| condition.kind == "PortInUse").expect("it says why");
    assert_eq!(condition.message, format!("port {port}/udp is in use"));
    drop(holder);
    rig.handle.retry(wish.id).await.expect("stored");
    rig.until_phase(wish.id, Phase::Ready).await;
}

#[tokio::test]
async fn strangers_and_leftovers() {
    let mut rig = Rig::new(1).await;
    let (orphan, wish) = (server_id(7), spec(1));
    let instance = |server, number, state| Instance {
        server,
        id: InstanceId::from_uuid(uuid::Uuid::from_u128(number)),
        reference: InstanceRef::Container(number.to_string()),
        state,
        generation: Generation::new(1),
        restart_seq: 0,
        run_hash: manman_worker_core::run_hash(&wish.run),
        degraded: false,
    };
    let running = InstanceState::Running { since: clock::now() };
    rig.machine.insert(instance(orphan, 70, running.clone()));
    rig.until_phase(orphan, Phase::Orphaned).await;
    rig.machine.insert(instance(wish.id, 10, running.clone()));
    rig.machine.insert(instance(wish.id, 11, running));
    rig.machine.insert(instance(wish.id, 12, InstanceState::Created));
    rig.wish(wish.clone()).await;
    rig.until("one of two is left, and no leftover", |rig| rig.machine.present(wish.id) == 1).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    assert_eq!(rig.machine.live(wish.id), vec![InstanceId::from_uuid(uuid::Uuid::from_u128(10))]);
    assert_eq!((rig.machine.starts(wish.id), rig.machine.live(orphan).len()), (0, 1));
    rig.machine.crash(orphan, 0);
    rig.until("the orphan is no longer shown", |rig| rig.phase(orphan).is_none()).await;
    assert_eq!(rig.machine.present(orphan), 1, "not even its remains are touched");
}

#[tokio::test]
async fn a_drain_stops_all_and_changes_no_wish() {
    let mut rig = Rig::new(1).await;
    let wish = spec(1);
    rig.wish(wish.clone()).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    rig.handle.drain(false).await.expect("drained");
    assert_eq!(rig.machine.live(wish.id).len(), 0);
    rig.kill_and_start_again().await;
    rig.until_phase(wish.id, Phase::Ready).await;
    rig.handle.drain(true).await.expect("drained");
    assert_eq!(rig.machine.live(wish.id).len(), 1);
}

#[tokio::test]
async fn servers_created_here_are_created_once() {
    let rig = Rig::new(1).await;
    let wish = spec(1);
    assert_eq!(rig.handle.create_here(wish.clone()).await.expect("stored"), Created::New);
    assert_eq!(rig.handle.create_here(wish.clone()).await.expect("stored"), Created::Same);
    let other = next(&wish, |spec| spec.run.argv.push("x".to_owned()));
    assert_eq!(rig.handle.create_here(other).await.expect("stored"), Created::Conflict);
    rig.until_phase(wish.id, Phase::Ready).await;
    assert!(rig.handle.index().await.expect("answers").is_empty(), "the host has no part in it");
    assert!(rig.handle.change_here(wish.id, LocalChange::Stop(StopMode::Graceful)).await.expect("stored"));
    rig.until_phase(wish.id, Phase::Stopped).await;
}

#[tokio::test]
async fn an_install_that_no_retry_helps_fails_and_can_be_retried() {
    let mut rig = Rig::new(1).await;
    let wish = spec(1);
    rig.machine.behave(wish.id, Behaviour { install_fails: Some(DriverErrorKind::Final), ..Behaviour::default() });
    rig.wish(wish.clone()).await;
    let status = rig.until_phase(wish.id, Phase::Failed).await;
    assert!(status.conditions.iter().any(|condition| condition.kind == "Install"), "{status:?}");
    assert_eq!(rig.machine.installs(), 1);
    rig.machine.behave(wish.id, Behaviour::default());
    rig.handle.retry(wish.id).await.expect("stored");
    rig.until_phase(wish.id, Phase::Ready).await;
}

#[tokio::test]
async fn a_full_disk_begins_nothing_loses_nothing_and_is_waited_for() {
    let mut rig = Rig::new(50).await;
    let wish = spec(1);
    rig.wish(wish.clone()).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    rig.store.set_room(1).await;
    let instance = rig.handle.status(wish.id).and_then(|status| status.instance).expect("it runs");
    // More words than the pages that are there can take.
    let observed = Observed::Unready { reason: "x".repeat(300_000) };
    rig.signals.send(Signal { server: wish.id, instance, observed }).await.expect("the loop listens");
    let refused = rig.handle.create_here(next(&spec(9), |spec| spec.run.argv = vec!["x".repeat(200_000)])).await;
    let error = refused.expect_err("there is no room");
    assert!(matches!(&error, ReconcileError::Store(crate::store::StoreError::Full { .. })), "{error:?}");
    assert_eq!(rig.machine.starts(server_id(9)), 0);
    rig.machine.crash(wish.id, 1);
    let (clock, crashed_at) = (rig.clock(), clock::now());
    rig.until("the back-off has long passed", |_| clock.until(crashed_at.plus(Duration::from_secs(60))).is_zero()).await;
    assert_eq!(rig.machine.starts(wish.id), 1, "nothing is begun that is not stored first");
    rig.store.set_room(1_000_000).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    rig.until("the game has been started again", |rig| rig.machine.starts(wish.id) == 2).await;
    let events = rig.until_event(wish.id, "server.crashed").await;
    assert_eq!(events.iter().filter(|kind| *kind == "server.crashed").count(), 1, "{events:?}");
}

#[tokio::test]
async fn data_is_told_once_in_each_run_that_its_world_is_not_to_run_here() {
    let mut rig = Rig::new(1).await;
    let (moved, purged) = (spec(1), spec(2));
    for wish in [&moved, &purged] {
        rig.wish(wish.clone()).await;
        rig.until_phase(wish.id, Phase::Ready).await;
    }
    rig.wish(next(&purged, |spec| (spec.desired, spec.purge) = (DesiredState::Deleted, true))).await;
    rig.until_phase(purged.id, Phase::Deleted).await;
    let released = next(&moved, |spec| (spec.desired, spec.epoch) = (DesiredState::Deleted, 2));
    rig.wish(released.clone()).await;
    rig.until_phase(moved.id, Phase::Deleted).await;
    assert_eq!(rig.machine.let_go(moved.id), [released.generation], "before anybody hears of it");
    assert_eq!(rig.machine.live(moved.id), [], "its game has ended first");
    rig.kill_and_start_again().await;
    rig.until("it is told again", |rig| rig.machine.let_go(moved.id) == [released.generation; 2]).await;
    assert_eq!(rig.machine.let_go(purged.id), []);
}

#[tokio::test]
async fn data_is_told_of_each_start_and_stop_at_the_machine() {
    let mut rig = Rig::new(1).await;
    let wish = spec(1);
    rig.wish(wish.clone()).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    for _ in 0..2 {
        rig.handle.change_here(wish.id, LocalChange::Stop(StopMode::Graceful)).await.expect("stored");
        rig.until_phase(wish.id, Phase::Stopped).await;
        rig.handle.change_here(wish.id, LocalChange::Start).await.expect("stored");
        rig.until_phase(wish.id, Phase::Ready).await;
    }
    assert_eq!(rig.machine.let_go(wish.id), [wish.generation; 2]);
    assert_eq!(rig.machine.taken_up(wish.id), [(wish.generation, Stops::OfThisWish); 2]);
}

#[tokio::test]
async fn nobody_hears_that_a_game_has_stopped_before_its_data_remembers_it() {
    let mut rig = Rig::new(1).await;
    let wish = spec(1);
    rig.machine.behave(wish.id, Behaviour { is_not_let_go: true, ..Behaviour::default() });
    rig.wish(wish.clone()).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    let stop = next(&wish, |spec| spec.desired = DesiredState::Stopped);
    rig.wish(stop.clone()).await;
    rig.until("it has ended", |rig| rig.machine.live(wish.id).is_empty()).await;
    for _ in 0..2 {
        let (clock, ended) = (rig.clock(), clock::now());
        rig.until("some looks later", |_| clock.until(ended.plus(Duration::from_secs(5))).is_zero()).await;
        let status = rig.handle.status(wish.id).expect("a status");
        assert!(status.phase.is_live(), "{status:?}");
        let why: Vec<_> = status.conditions.iter().filter(|one| one.kind == "NotLetGo").collect();
        assert!(why.len() == 1 && why[0].message.contains("the disk is full"), "{status:?}");
        rig.kill_and_start_again().await;
    }
    rig.machine.behave(wish.id, Behaviour::default());
    rig.until_phase(wish.id, Phase::Stopped).await;
    assert_eq!(rig.machine.let_go(wish.id), [stop.generation]);
}
