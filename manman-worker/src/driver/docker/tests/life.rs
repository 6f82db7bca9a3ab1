//! Install, start, limits, adoption, the ways to end.

use std::sync::{Arc, Mutex};

use manman_common::spec::{Limits, PortSpec, Protocol, StopMode, StopRung, StopStep};
use manman_common::status::Progress;
use manman_worker_core::InstanceState;

use super::game::{Rig, docker, no_rungs, rungs, silent, spec, texts};
use crate::clock;
use crate::driver::{Driver, DriverErrorKind};

#[tokio::test]
async fn a_game_starts_talks_and_stops_by_its_console() {
    let rig = Rig::new();
    let report = rig.driver.report().await;
    assert!(report.ready, "{report:?}");
    let instance = rig.start(&spec()).await;
    let lines = rig.read_until(&instance, None, "up and").await;
    assert!(texts(&lines).contains(&"up and running".to_owned()), "{lines:?}");
    rig.driver.write_line(&instance, "hello there").await.expect("it takes a line");
    rig.read_until(&instance, None, "said: hello there").await;
    let (sink, heard) = rungs();
    let ladder = [StopRung { step: StopStep::Console("quit".to_owned()), wait_seconds: 20 }];
    let exit = rig.driver.stop(&instance, &ladder, StopMode::Graceful, sink).await.expect("it stops");
    assert_eq!((exit.code, exit.signal, exit.oom), (Some(0), None, false));
    assert_eq!(*heard.lock().expect("no panic"), ladder);
    let found = rig.driver.list().await.expect("a list");
    assert!(matches!(&found[0].state, InstanceState::Exited(seen) if *seen == exit), "{found:?}");
    rig.driver.remove(&found[0]).await.expect("it is removed");
    rig.driver.remove(&found[0]).await.expect("and may be removed again");
    assert_eq!(rig.driver.list().await.expect("a list"), []);
}

#[tokio::test]
async fn the_ladder_is_climbed_to_its_end() {
    let rig = Rig::new();
    let instance = rig.start(&spec()).await;
    rig.read_until(&instance, None, "up").await;
    let rung = |step, wait_seconds| StopRung { step, wait_seconds };
    let (sink, heard) = rungs();
    let ladder = [rung(StopStep::Console("not a stop".to_owned()), 1), rung(StopStep::Signal("TERM".to_owned()), 20)];
    let exit = rig.driver.stop(&instance, &ladder, StopMode::Graceful, sink).await.expect("it stops");
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    assert_eq!(heard.lock().expect("no panic").len(), 2);
    let again = rig.driver.stop(&instance, &ladder, StopMode::Graceful, no_rungs()).await.expect("dead is a success");
    assert_eq!(again, exit);

    let deaf = rig.start(&spec()).await;
    let (sink, heard) = rungs();
    let ladder = [rung(StopStep::Signal("WINCH".to_owned()), 1)];
    let exit = rig.driver.stop(&deaf, &ladder, StopMode::Graceful, sink).await.expect("it stops");
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    assert_eq!(heard.lock().expect("no panic").last().map(|rung| rung.step.clone()), Some(StopStep::Signal("KILL".to_owned())));
}

#[tokio::test]
async fn limits_and_rights_are_those_of_the_spec() {
    let rig = Rig::new();
    let mut spec = spec();
    spec.run.limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(500), pids: Some(50) };
    let instance = rig.start(&spec).await;
    let output = rig.read_until(&instance, None, "up").await;
    assert!(!output.is_empty());
    rig.driver.write_line(&instance, "limits").await.expect("it takes a line");
    let lines = texts(&rig.read_until(&instance, None, "limits over").await);
    assert!(lines.contains(&(64u64 << 20).to_string()), "{lines:?}");
    assert!(lines.contains(&"NoNewPrivs:\t1".to_owned()), "{lines:?}");
    // Of Docker's a80425fb less NET_RAW (13), MKNOD (27), AUDIT_WRITE (29), SETFCAP (31), SETPCAP (8).
    assert!(lines.contains(&"CapBnd:\t00000000000404fb".to_owned()), "{lines:?}");
    let id = super::super::container_of(&instance).expect("a container");
    let limits = docker(&[
        "inspect",
        "-f",
        "{{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.MemorySwap}} {{.HostConfig.RestartPolicy.Name}}",
        id,
    ]);
    assert_eq!(limits.trim(), format!("500000000 50 {} no", 64u64 << 20));
    let usage = rig.driver.usage(&instance).await.expect("its usage");
    assert!(usage.memory_bytes > 0 && usage.memory_bytes < 64 << 20, "{usage:?}");

    rig.driver.write_line(&instance, "eat").await.expect("it takes a line");
    let exit = loop {
        // Woken by the engine's event of the end.
        let woken = tokio::time::timeout(std::time::Duration::from_secs(60), rig.driver.changes().notified()).await;
        assert!(woken.is_ok(), "nobody was told of the end");
        let found = rig.driver.list().await.expect("a list");
        if let Some(InstanceState::Exited(exit)) = found.into_iter().next().map(|found| found.state) {
            break exit;
        }
    };
    assert!(exit.oom, "{exit:?}");
    assert_eq!(exit.reason.as_deref(), Some("out of memory"));
}

#[tokio::test]
async fn an_instance_is_adopted_and_not_started_twice() {
    let mut rig = Rig::new();
    let spec = spec();
    let instance = rig.start(&spec).await;
    rig.restart();
    let found = rig.driver.list().await.expect("a list");
    assert_eq!(found, std::slice::from_ref(&instance));
    let again = rig.driver.start(&spec, instance.id).await.expect("it runs already");
    assert_eq!(again, instance.reference);
    assert_eq!(rig.driver.list().await.expect("a list").len(), 1);

    let other = Rig::new();
    assert_eq!(other.driver.list().await.expect("a list"), [], "another worker's are none of its business");
    let error = rig.driver.remove(&instance).await.expect_err("a live one is not removed");
    assert_eq!(error.kind, DriverErrorKind::Retry);
    rig.driver.write_line(&instance, "exit 42").await.expect("it takes a line");
    let ladder = [StopRung { step: StopStep::Signal("WINCH".to_owned()), wait_seconds: 20 }];
    let exit = rig.driver.stop(&instance, &ladder, StopMode::Graceful, no_rungs()).await.expect("it ends");
    assert_eq!(exit.code, Some(42));
}

#[tokio::test]
async fn what_can_not_be_is_said() {
    let rig = Rig::new();
    let mut absent = spec();
    absent.run.game_id = "docker:localhost:1/no/such:image".parse().expect("a game");
    let error = rig.driver.install(&absent, silent()).await.expect_err("there is no such image");
    assert!(error.what.contains("localhost:1/no/such:image"), "{error:?}");
    assert!(error.hint.is_some());

    let mut unknown = spec();
    unknown.run.game_id = "docker:manman/no-such-game".parse().expect("a game");
    let error = rig.driver.install(&unknown, silent()).await.expect_err("there is no such Dockerfile");
    assert_eq!(error.kind, DriverErrorKind::Final);

    let taken = std::net::UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
    let port = taken.local_addr().expect("its address").port();
    let mut clash = spec();
    clash.run.ports = vec![PortSpec { name: "game".to_owned(), protocol: Protocol::Udp, port, container_port: None }];
    let error = rig.driver.start(&clash, clock::new_instance_id()).await.expect_err("the port is taken");
    assert_eq!(error.what, format!("port {port}/udp is in use"), "{error:?}");
    assert_eq!(rig.driver.list().await.expect("a list"), [], "nothing half-made remains");
    drop(taken);

    let instance = rig.start(&clash).await;
    assert!(!rig.driver.ports_bound(&instance, &clash).await.expect("a look"), "Docker's proxy proves nothing");
    rig.read_until(&instance, None, "up").await;
    rig.driver.write_line(&instance, &format!("listen {port}")).await.expect("it takes a line");
    let bound = async {
        while !rig.driver.ports_bound(&instance, &clash).await.expect("a look") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), bound).await.expect("it is bound");
}

#[tokio::test]
async fn an_image_of_ours_is_built_with_its_steps_told() {
    let rig = Rig::new();
    let mut ours = spec();
    ours.run.game_id = "docker:manman/bzflag".parse().expect("a game");
    let key = rig.driver.install_key(&ours);
    assert!(key.starts_with("docker:manman/bzflag:latest#"), "{key}");
    let heard = Arc::new(Mutex::new(Vec::<Progress>::new()));
    let sink = Arc::clone(&heard);
    rig.driver.install(&ours, Arc::new(move |progress| sink.lock().expect("no panic").push(progress))).await.expect("it is built");
    let steps = heard.lock().expect("no panic").clone();
    assert!(
        steps.is_empty() || steps.iter().any(|progress| progress.step.starts_with("Step 1/") && progress.percent == Some(0)),
        "{steps:?}"
    );
    rig.driver.install(&ours, Arc::new(|progress| panic!("it is here already: {progress:?}"))).await.expect("it is here");
}
