//! From a start to an end that was asked for.

use std::error::Error as _;

use manman_common::spec::{FileEntry, FileFormat, FileSpec, FileValue};
use manman_worker_core::InstanceState;
use rustix::fs::{FlockOperation, flock};

use super::game::{Rig, console, lives, signal, until};
use crate::clock;
use crate::driver::{Driver, DriverErrorKind};

#[tokio::test]
async fn the_ladder_is_told_rung_by_rung() {
    let rig = Rig::new();
    let spec = rig.spec();
    let instance = rig.start(&spec).await;
    let error = rig.driver.remove(&instance).await.expect_err("a live one is not removed");
    assert_eq!(error.kind, DriverErrorKind::Retry);
    rig.type_in(&instance, "deaf").await;
    rig.printed(spec.id, "deaf").await;

    let ladder = [console("mind the gap", 1), signal("INT", 1), console("quit", 30), signal("TERM", 30)];
    let (exit, heard) = rig.stop(&instance, &ladder).await;
    assert_eq!((exit.code, exit.signal), (Some(0), None), "{exit:?}");
    assert_eq!(heard, ladder[..3]);
    let log = rig.log(spec.id);
    let place = |text: &str| log.iter().position(|line| line == text).unwrap_or_else(|| panic!("no `{text}` in {log:?}"));
    assert!(place("said: mind the gap") < place("bye"), "{log:?}");

    assert_eq!(rig.exited(&instance).await.code, Some(0));
    let (again, heard) = rig.stop(&instance, &ladder).await;
    assert_eq!((again.code, heard), (Some(0), Vec::new()), "a dead one is a success");
    rig.driver.remove(&instance).await.expect("it goes");
    rig.driver.remove(&instance).await.expect("it is gone already");
    assert_eq!(rig.driver.list().await.expect("a list"), []);
    assert!(rig.log(spec.id).contains(&"bye".to_owned()), "the log stays");
}

#[tokio::test]
async fn what_ignores_sigterm_and_forks_away_is_gone_after_the_stop() {
    let rig = Rig::new();
    let spec = rig.spec();
    let instance = rig.start(&spec).await;
    rig.type_in(&instance, "deaf").await;
    rig.type_in(&instance, "leave").await;
    let log = rig.printed(spec.id, "left ").await;
    let left: i32 = log.iter().find_map(|line| line.strip_prefix("left ")).expect("a pid").parse().expect("a number");
    assert!(lives(left));

    let ladder = [signal("TERM", 1)];
    let (exit, heard) = rig.stop(&instance, &ladder).await;
    assert_eq!((exit.code, exit.signal), (None, Some(9)), "{exit:?}");
    assert!(!exit.oom, "{exit:?}");
    assert_eq!(heard.first(), ladder.first());
    assert!(!lives(left), "what it started lives on");
    let shim = rig.state(&instance).shim;
    rig.driver.remove(&instance).await.expect("it goes");
    until("the shim has ended", async || (!lives(shim.pid)).then_some(())).await;
    let again = rig.start(&spec).await;
    rig.stop(&again, &[console("quit", 30)]).await;
}

#[tokio::test]
async fn two_of_one_server_never_run() {
    let rig = Rig::new();
    let spec = rig.spec();
    let first = rig.start(&spec).await;
    let error = rig.driver.start(&spec, clock::new_instance_id()).await.expect_err("one runs");
    assert_eq!(error.kind, DriverErrorKind::Retry);
    assert!(error.what.contains("is locked") && error.what.contains(&first.id.to_string()), "{error:?}");
    assert_eq!(rig.driver.list().await.expect("a list"), std::slice::from_ref(&first));
    rig.type_in(&first, "burst 1000").await;
    rig.printed(spec.id, "burst over").await;
    rig.stop(&first, &[console("quit", 30)]).await;
    rig.driver.remove(&first).await.expect("it goes");

    // Something that the first had started, and that no cgroup or subreaper can find.
    let lock = std::fs::File::open(rig.server_dir(spec.id).join("lock")).expect("the lock on its data");
    flock(&lock, FlockOperation::LockExclusive).expect("it is free");
    let error = rig.driver.start(&spec, clock::new_instance_id()).await.expect_err("it is locked");
    assert_eq!(error.kind, DriverErrorKind::Retry);
    assert!(error.what.contains("an earlier instance, or something that it started, still runs"), "{error:?}");
    assert!(error.hint.is_some());
    assert_eq!(rig.driver.list().await.expect("a list"), [], "nothing half-made remains");
    drop(lock);
    let second = rig.start(&spec).await;
    rig.stop(&second, &[console("quit", 30)]).await;
}

#[tokio::test]
async fn an_end_that_nobody_asked_for_is_told() {
    let rig = Rig::new();
    let spec = rig.spec();
    let instance = rig.start(&spec).await;
    // Whatever the start has told is taken.
    while tokio::time::timeout(std::time::Duration::from_millis(300), rig.driver.changes().notified()).await.is_ok() {}
    rig.type_in(&instance, "exit 42").await;
    let told = tokio::time::timeout(std::time::Duration::from_secs(30), rig.driver.changes().notified()).await;
    assert!(told.is_ok(), "nobody was told of the end");
    assert_eq!(rig.exited(&instance).await.code, Some(42));
}

#[tokio::test]
async fn what_can_not_be_is_said() {
    let rig = Rig::new();
    let mut absent = rig.spec();
    absent.run.argv = vec!["./no-such-program".to_owned()];
    let error = rig.driver.start(&absent, clock::new_instance_id()).await.expect_err("there is none");
    assert_eq!(error.kind, DriverErrorKind::Final, "{error:?}");
    assert!(error.what.contains("no-such-program") && error.hint.is_some(), "{error:?}");

    let mut outside = rig.spec();
    let set = vec![FileEntry { key: "a".to_owned(), value: FileValue::Text("b".to_owned()) }];
    outside.run.files = vec![FileSpec { path: "../../out.ini".to_owned(), format: FileFormat::Properties, set, create: true }];
    let error = rig.driver.start(&outside, clock::new_instance_id()).await.expect_err("it leads out");
    assert_eq!(error.kind, DriverErrorKind::Final, "{error:?}");
    assert!(error.source().is_some(), "{error:?}");

    let mut nothing = rig.spec();
    nothing.run.steam = Some(
        serde_json::from_value(
            serde_json::json!({"expect": ["game.bin"], "platform": "linux", "login": "anonymous", "app_validate": false}),
        )
        .expect("a spec"),
    );
    let error = rig.driver.start(&nothing, clock::new_instance_id()).await.expect_err("it is not whole");
    assert_eq!(error.kind, DriverErrorKind::Gone, "{error:?}");
    assert_eq!(rig.driver.list().await.expect("a list"), [], "nothing half-made remains");
}

#[tokio::test]
async fn the_terminal_of_one_that_wants_one_is_a_terminal() {
    let rig = Rig::new();
    let mut spec = rig.spec();
    spec.run.process.tty = true;
    spec.run.argv = ["/bin/sh", "-c", "[ -t 0 ] && [ -t 1 ] && stty size; . ./game.sh"].map(str::to_owned).to_vec();
    let instance = rig.start(&spec).await;
    let log = rig.printed(spec.id, "up").await;
    assert!(log.iter().any(|line| line.trim_end() == "50 200"), "{log:?}");
    rig.type_in(&instance, "hello there").await;
    rig.printed(spec.id, "said: hello there").await;
    let (exit, _) = rig.stop(&instance, &[console("quit", 30)]).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    until("it has ended", async || matches!(rig.listed(&instance).await.state, InstanceState::Exited(_)).then_some(())).await;
}
