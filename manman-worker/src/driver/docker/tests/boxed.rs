//! One world never runs twice: what holds a container's data, and for how long it may run.

use std::time::Duration;

use manman_common::ServerSpec;
use manman_common::spec::{StopMode, StopRung, StopStep};
use manman_shim::journal::{self, Event};
use manman_shim::spec::EPOCH_SHIFT;
use manman_worker_core::InstanceState;

use super::game::{Rig, no_rungs, spec};
use crate::clock;
use crate::driver::docker::{DockerConfig, DockerDriver, ShimParts};
use crate::driver::shim::binary;
use crate::driver::{Driver, DriverErrorKind, LEASE_ENDED, Lease};
use crate::logs::{LogBooks, Retention};

const HOUR: Duration = Duration::from_secs(3600);

/// A worker that puts the shim in front where it is asked to.
fn rig() -> Rig {
    let mut rig = Rig::new();
    let program = binary::unpack(rig.dir.path()).expect("the shim");
    let mut config = DockerConfig::new(rig.worker, rig.dir.path());
    config.shim = Some(ShimParts { program, books: LogBooks::new(rig.dir.path().to_owned(), Retention::default()) });
    rig.driver = std::sync::Arc::new(DockerDriver::new(config));
    rig
}

fn boxed() -> ServerSpec {
    let mut spec = spec();
    spec.run.docker.shim = true;
    spec.run.docker.user = Some("1234:1234".to_owned());
    spec
}

fn events(rig: &Rig, spec: &ServerSpec) -> Vec<Event> {
    let journal = journal::read(&rig.dir.path().join(spec.id.to_string()).join("journal")).expect("a journal");
    journal.lines.into_iter().map(|line| line.event).collect()
}

async fn refused_as_moved_away(rig: &Rig, spec: &ServerSpec) {
    let mut old = spec.clone();
    old.epoch -= 1;
    let error = rig.driver.start(&old, clock::new_instance_id()).await.expect_err("it is elsewhere");
    assert_eq!(error.kind, DriverErrorKind::Final, "{error:?}");
    assert!(error.what.starts_with("this world was moved away in epoch 2"), "{error:?}");
    assert_eq!(rig.driver.list().await.expect("a list"), [], "nothing half-made remains");
}

#[tokio::test]
async fn a_boxed_game_holds_its_worlds_lock_and_keeps_a_journal() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: without root the shim stays out of an image with a user of its own");
        return;
    }
    let rig = rig();
    let mut spec = boxed();
    spec.epoch = 2;
    let instance = rig.start(&spec).await;
    let lock = rig.dir.path().join(spec.id.to_string()).join("lock");
    assert!(std::fs::read_to_string(&lock).expect("its lock").trim().ends_with(&(2_u64 << EPOCH_SHIFT).to_string()));
    let held = || std::fs::File::open(&lock).expect("its lock").try_lock().is_err();
    assert!(held(), "the container's own processes hold it");
    let error = rig.driver.start(&spec, clock::new_instance_id()).await.expect_err("one runs");
    assert_eq!(error.kind, DriverErrorKind::Retry, "{error:?}");
    assert!(error.what.contains("is locked"), "{error:?}");
    let ladder = [StopRung { step: StopStep::Console("quit".to_owned()), wait_seconds: 20 }];
    let exit = rig.driver.stop(&instance, &ladder, StopMode::Graceful, no_rungs()).await.expect("it stops");
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(!held());
    let events = events(&rig, &spec);
    assert!(
        matches!(&events[..], [Event::Locked, Event::Started { .. }, .., Event::Exit { empty: true, .. }, Event::Unlocked]),
        "{events:?}"
    );
    rig.driver.remove(&instance).await.expect("it goes");
    refused_as_moved_away(&rig, &spec).await;

    let mut absent = spec.clone();
    absent.run.docker.entrypoint = vec!["/no/such/game".to_owned()];
    let error = rig.driver.start(&absent, clock::new_instance_id()).await.expect_err("there is none");
    assert_eq!(error.kind, DriverErrorKind::Final, "{error:?}");
    assert!(error.what.contains("/no/such/game"), "{error:?}");
    assert_eq!(rig.driver.list().await.expect("a list"), [], "nothing half-made remains");
}

#[tokio::test]
async fn a_boxed_game_ends_with_its_lease_and_a_followed_one_can_have_none() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: without root the shim stays out of an image with a user of its own");
        return;
    }
    let rig = rig();
    let mut spec = boxed();
    spec.lease_seconds = Some(60);
    let until = manman_shim::clock::boottime() + HOUR;
    let live = Lease { until, kill_at: until + HOUR };
    rig.driver.grant_lease(spec.id, None, Some(live)).await.expect("it is kept");
    let instance = rig.start(&spec).await;
    let over = Lease { until: Duration::ZERO, kill_at: live.kill_at };
    rig.driver.grant_lease(spec.id, Some(&instance), Some(over)).await.expect("its shim is told");
    let exit = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let found = rig.driver.list().await.expect("a list").into_iter().find(|found| found.id == instance.id).expect("it is listed");
            if let InstanceState::Exited(exit) = found.state {
                return exit;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(exit.await.expect("it ends").reason.as_deref(), Some(LEASE_ENDED));

    let mut followed = super::game::spec();
    followed.lease_seconds = Some(60);
    rig.driver.grant_lease(followed.id, None, Some(live)).await.expect("it is kept");
    let error = rig.driver.start(&followed, clock::new_instance_id()).await.expect_err("nobody would hold it");
    assert_eq!(error.kind, DriverErrorKind::Final, "{error:?}");
    assert!(error.what.contains("a lease needs our shim") && error.hint.is_some(), "{error:?}");
}

#[tokio::test]
async fn a_followed_games_world_is_fenced_by_its_start() {
    let rig = Rig::new();
    let mut spec = spec();
    spec.epoch = 2;
    let instance = rig.start(&spec).await;
    rig.kill(&instance).await;
    refused_as_moved_away(&rig, &spec).await;
    spec.epoch = 3;
    let back = rig.start(&spec).await;
    rig.kill(&back).await;
}
