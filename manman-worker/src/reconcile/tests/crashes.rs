//! Crashes, waits and hangs, over real ends of the worker.

use std::time::Duration;

use manman_common::spec::HangRule;
use manman_common::{DesiredState, InstanceId, Phase, Timestamp};
use manman_worker_core::TRIES_MAX;

use super::rig::{Rig, next, spec};
use crate::driver::fake::Behaviour;
use crate::reconcile::signals::{Observed, Signal};

/// A game that always crashes, under a worker that is killed after each crash: the waits are those
/// that are written, and after the eighth it is given up, once and for all workers to come.
#[tokio::test]
async fn eight_crashes_back_off_as_written_over_eight_workers() {
    // 615 s of waits and their fifth.
    let mut rig = Rig::with(400, true).await;
    let wish = spec(1);
    rig.machine.behave(wish.id, Behaviour { ends_after: Some((Duration::ZERO, 1)), ..Behaviour::default() });
    rig.wish(wish.clone()).await;
    for crash in 1..=TRIES_MAX as usize {
        rig.until(&format!("start {crash}"), |rig| rig.machine.starts(wish.id) >= crash).await;
        let counted = if crash < TRIES_MAX as usize { "server.backoff" } else { "server.failed" };
        until_counted(&rig, &wish, counted, if crash < TRIES_MAX as usize { crash } else { 1 }).await;
        rig.kill_and_start_again().await;
    }
    let status = rig.until_phase(wish.id, Phase::Failed).await;
    assert!(status.conditions.iter().any(|condition| condition.message.contains("given up after 8 tries")), "{status:?}");
    assert_eq!((rig.machine.starts(wish.id), status.restarts), (8, 7));

    let events = rig.store.events_after(0, 10_000).await.expect("readable");
    let moment = |text: &serde_json::Value| -> Timestamp { serde_json::from_value(text.clone()).expect("a moment") };
    let waits: Vec<_> = events.iter().filter(|event| event.kind == "server.backoff").collect();
    let starts: Vec<_> = events.iter().filter(|event| event.kind == "server.starting").collect();
    assert_eq!(waits.len(), 7);
    for (attempt, (wait, seconds)) in waits.iter().zip([5u64, 10, 20, 40, 80, 160, 300]).enumerate() {
        let until = moment(&wait.data["until"]);
        let waited = until.since(wait.at).as_millis();
        assert!(waited >= u128::from(seconds * 800) && waited <= u128::from(seconds * 1200), "attempt {attempt}: {waited} ms");
        assert_eq!(wait.data["attempt"], attempt + 1);
        assert!(starts[attempt + 1].at >= until, "it was started again inside its back-off");
    }

    // Time does not help it, nor another worker; a newer wish does.
    rig.machine.behave(wish.id, Behaviour::default());
    rig.kill_and_start_again().await;
    rig.until_phase(wish.id, Phase::Failed).await;
    assert_eq!(rig.machine.starts(wish.id), 8);
    rig.wish(next(&wish, |_| {})).await;
    rig.until_phase(wish.id, Phase::Running).await;
}

async fn until_counted(rig: &Rig, wish: &manman_common::ServerSpec, kind: &str, times: usize) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while rig.events(wish.id).await.iter().filter(|stored| *stored == kind).count() < times {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {kind} number {times}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn tell(rig: &Rig, server: manman_common::ServerId, instance: Option<InstanceId>, observed: Observed) {
    let instance = instance.expect("it runs");
    rig.signals.send(Signal { server, instance, observed }).await.expect("the loop listens");
}

#[tokio::test]
async fn a_game_that_hangs_is_killed_and_comes_back() {
    let mut rig = Rig::new(50).await;
    let mut wish = spec(1);
    wish.run.hang = Some(HangRule { silent_seconds: 60 });
    // It would not hear a graceful stop.
    rig.machine.behave(wish.id, Behaviour { ignores_stop: true, ..Behaviour::default() });
    rig.wish(wish.clone()).await;
    let before = rig.until_phase(wish.id, Phase::Ready).await;
    tell(&rig, wish.id, before.instance, Observed::Silent { seconds: 59 }).await;
    tell(&rig, wish.id, before.instance, Observed::Silent { seconds: 75 }).await;
    rig.until("another instance is ready", |rig| {
        rig.handle.status(wish.id).is_some_and(|status| status.phase == Phase::Ready && status.instance != before.instance)
    })
    .await;
    let status = rig.handle.status(wish.id).expect("there");
    assert_eq!((status.restarts, rig.machine.starts(wish.id)), (1, 2));
    assert_eq!(status.exit.and_then(|exit| exit.reason).as_deref(), Some("killed after 75 s without an answer"));
    let events = rig.events(wish.id).await;
    let order: Vec<&str> = events.iter().map(String::as_str).skip_while(|kind| *kind != "server.hung").collect();
    assert_eq!(order[..4], ["server.hung", "server.stopping", "server.crashed", "server.backoff"], "{events:?}");
    let told = rig.store.events_after(0, 10_000).await.expect("readable").into_iter().find(|event| event.kind == "server.hung");
    assert_eq!(told.map(|event| event.data["silent_seconds"].clone()), Some(75.into()));
}

#[tokio::test]
async fn frozen_or_taken_over_a_silent_game_is_left_alone() {
    let mut rig = Rig::new(50).await;
    let mut wish = spec(1);
    wish.run.hang = Some(HangRule { silent_seconds: 60 });
    rig.wish(wish.clone()).await;
    let before = rig.until_phase(wish.id, Phase::Ready).await;
    rig.handle.freeze(true).await.expect("stored");
    tell(&rig, wish.id, before.instance, Observed::Silent { seconds: 60 }).await;
    rig.until_event(wish.id, "server.hung").await;
    rig.kill_and_start_again().await;
    rig.until("it has been adopted", |rig| rig.watchman_has_seen(before.instance)).await;
    rig.until("its new watch gives it time", |rig| {
        rig.handle
            .status(wish.id)
            .is_some_and(|status| status.phase == Phase::Ready && status.conditions.iter().all(|one| one.kind != "Hung"))
    })
    .await;
    rig.handle.freeze(false).await.expect("stored");
    // A wish that is taken up afterwards shows that the loop has planned without the freeze.
    let witness = spec(2);
    rig.wish(witness.clone()).await;
    rig.until_phase(witness.id, Phase::Ready).await;
    assert_eq!(rig.machine.starts(wish.id), 1);
    tell(&rig, wish.id, before.instance, Observed::Silent { seconds: 60 }).await;
    rig.until("it has been killed and started again", |rig| rig.machine.starts(wish.id) == 2).await;
    rig.wish(next(&wish, |spec| spec.desired = DesiredState::Stopped)).await;
    rig.until_phase(wish.id, Phase::Stopped).await;
}
