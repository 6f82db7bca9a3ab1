use manman_common::spec::{ConsoleKind, StopMode, StopRung, StopStep};
use manman_common::{DesiredState, Phase};

use super::rig::{Rig, next, spec};

#[tokio::test]
async fn a_rung_that_nobody_can_climb_is_left_at_once() {
    let mut rig = Rig::new(1).await;
    let mut wish = spec(1);
    let rung = |step| StopRung { step, wait_seconds: 600 };
    wish.run.console = ConsoleKind::SourceRcon;
    // The worker's own come first, wherever they stand.
    wish.run.stop = vec![
        rung(StopStep::Signal("INT".to_owned())),
        rung(StopStep::Action("save".to_owned())),
        rung(StopStep::Console("quit".to_owned())),
    ];
    rig.wish(wish.clone()).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    let stop = next(&wish, |spec| spec.desired = DesiredState::Stopped);
    rig.wish(stop.clone()).await;
    rig.until_phase(wish.id, Phase::Stopped).await;
    let events = rig.until_event(wish.id, "server.stopped").await;
    let expected = ["stopping", "rung", "rung_over", "rung", "rung_over", "rung", "stopped"];
    assert_eq!(events[events.len() - expected.len()..], expected.map(|kind| format!("server.{kind}")), "{events:?}");

    // Who kills does not ask.
    let again = next(&stop, |spec| spec.desired = DesiredState::Running);
    rig.wish(again.clone()).await;
    rig.until_phase(wish.id, Phase::Ready).await;
    let before = rig.events(wish.id).await.len();
    rig.wish(next(&again, |spec| {
        spec.desired = DesiredState::Stopped;
        spec.stop_mode = StopMode::Kill;
    }))
    .await;
    rig.until_phase(wish.id, Phase::Stopped).await;
    let events = rig.events(wish.id).await;
    assert!(!events[before..].iter().any(|kind| kind.starts_with("server.rung")), "{events:?}");
}
