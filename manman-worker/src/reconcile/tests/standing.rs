//! How far the loop goes: quarantined, after a host that went back in time, and under a lease.

use std::time::Duration;

use manman_common::session::Quarantine;
use manman_common::{DesiredState, Phase};

use super::rig::{Rig, next, spec};
use crate::clock;
use crate::standing::Standing;

fn kinds(rig: &Rig, server: manman_common::ServerId) -> Vec<String> {
    let conditions = rig.handle.status(server).map(|status| status.conditions).unwrap_or_default();
    conditions.into_iter().map(|condition| condition.kind).collect()
}

#[tokio::test]
async fn quarantined_it_keeps_what_runs_and_begins_nothing_over_restarts() {
    let mut rig = Rig::new(1).await;
    let (runs, comes) = (spec(1), spec(2));
    rig.wish(runs.clone()).await;
    rig.until_phase(runs.id, Phase::Ready).await;
    let meta = rig.store.update_meta(|meta| meta.trust.quarantine = Some(Quarantine::OldToken)).await.expect("stored");
    rig.handle.stand(Standing::of(&meta)).await.expect("it stands");
    rig.wish(next(&runs, |spec| spec.desired = DesiredState::Stopped)).await;
    rig.wish(comes.clone()).await;
    let held = |rig: &Rig, server| kinds(rig, server).contains(&"Quarantined".to_owned());
    rig.until("both say so", |rig| held(rig, runs.id) && held(rig, comes.id)).await;
    rig.kill_and_start_again().await;
    rig.until("it has looked again", |rig| held(rig, runs.id) && rig.phase(runs.id) == Some(Phase::Ready)).await;
    assert_eq!((rig.machine.live(runs.id).len(), rig.machine.starts(comes.id), rig.machine.installs()), (1, 0, 1));

    let meta = rig.store.update_meta(|meta| meta.trust.quarantine = None).await.expect("stored");
    rig.handle.stand(Standing::of(&meta)).await.expect("it stands");
    rig.until_phase(comes.id, Phase::Ready).await;
    rig.until_phase(runs.id, Phase::Stopped).await;
}

#[tokio::test]
async fn a_host_that_went_back_in_time_starts_and_does_not_destroy() {
    let mut rig = Rig::new(1).await;
    let (stops, goes, comes) = (spec(1), spec(2), spec(3));
    for wish in [&stops, &goes] {
        rig.wish(wish.clone()).await;
        rig.until_phase(wish.id, Phase::Ready).await;
    }
    let meta = rig.store.update_meta(|meta| meta.trust.foreign = Some(clock::new_uuid())).await.expect("stored");
    rig.handle.stand(Standing::of(&meta)).await.expect("it stands");
    rig.wish(next(&stops, |spec| spec.desired = DesiredState::Stopped)).await;
    rig.wish(next(&goes, |spec| (spec.desired, spec.purge) = (DesiredState::Deleted, true))).await;
    rig.wish(comes.clone()).await;
    rig.until_phase(comes.id, Phase::Ready).await;
    let kept = |rig: &Rig, server| kinds(rig, server).contains(&"HostRegressed".to_owned());
    rig.until("both say why they are kept", |rig| kept(rig, stops.id) && kept(rig, goes.id)).await;
    rig.machine.crash(stops.id, 1);
    rig.until("the end is seen", |rig| rig.machine.live(stops.id).is_empty() && rig.phase(stops.id) == Some(Phase::Stopped)).await;
    assert_eq!(rig.machine.live(goes.id).len(), 1);
    assert!(!rig.machine.is_purged(goes.id));

    let meta = rig.store.update_meta(|meta| meta.trust.foreign = None).await.expect("stored");
    rig.handle.stand(Standing::of(&meta)).await.expect("it stands");
    rig.until_phase(goes.id, Phase::Deleted).await;
    assert!(rig.machine.is_purged(goes.id));
}

#[tokio::test]
async fn a_leased_game_runs_only_under_a_lease_and_its_end_is_no_crash() {
    let mut rig = Rig::new(1).await;
    let mut wish = spec(1);
    wish.lease_seconds = Some(3600);
    rig.wish(wish.clone()).await;
    rig.until("it says that there is no lease", |rig| kinds(rig, wish.id).contains(&"NoLease".to_owned())).await;
    assert_eq!(rig.machine.starts(wish.id), 0);

    let sent = clock::boottime();
    rig.handle.lease_renewed(sent, rig.revision);
    let status = rig.until_phase(wish.id, Phase::Ready).await;
    let until = |rig: &Rig, which: usize| rig.machine.leases(wish.id)[which].1.expect("it needs one").until;
    assert_eq!(rig.machine.leases(wish.id)[0].0, None, "known before the start");
    assert_eq!(until(&rig, 0), sent + Duration::from_secs(3600));
    let later = sent + Duration::from_millis(1);
    rig.handle.lease_renewed(later, rig.revision);
    rig.until("the instance hears of it", |rig| rig.machine.leases(wish.id).last().is_some_and(|(live, _)| *live == status.instance)).await;
    assert_eq!(until(&rig, rig.machine.leases(wish.id).len() - 1), later + Duration::from_secs(3600));

    rig.kill_and_start_again().await;
    rig.machine.end_lease(wish.id);
    rig.until("its end is seen", |rig| rig.handle.status(wish.id).is_some_and(|status| status.exit.is_some())).await;
    rig.until_event(wish.id, "server.stopped").await;
    assert_eq!(rig.machine.starts(wish.id), 1, "a worker that was started anew has no lease");
    // The host knows something that has not come yet: it may be that the server is another's now.
    rig.handle.lease_renewed(clock::boottime(), rig.revision.next().next());
    rig.wish(spec(2)).await;
    rig.until_phase(spec(2).id, Phase::Ready).await;
    assert_eq!(rig.machine.starts(wish.id), 1, "it has started before it knew all that its host wishes");
    rig.wish(spec(3)).await;
    let status = rig.until_phase(wish.id, Phase::Ready).await;
    assert_eq!((rig.machine.starts(wish.id), status.restarts, status.backoff_until), (2, 0, None));
    assert!(!rig.events(wish.id).await.contains(&"server.crashed".to_owned()));
}
