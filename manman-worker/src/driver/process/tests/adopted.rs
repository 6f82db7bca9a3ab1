//! A worker dies and another one comes: the games are the same ones.

use super::game::{Rig, console, kill, until};
use crate::driver::{Driver, DriverErrorKind};
use manman_shim::identity::Identity;
use manman_worker_core::InstanceState;

#[tokio::test]
async fn the_next_driver_finds_the_game_its_log_and_its_exit_code() {
    let mut rig = Rig::new();
    let spec = rig.spec();
    let instance = rig.start(&spec).await;
    rig.type_in(&instance, "burst 200000").await;
    rig.printed(spec.id, "line 100").await;
    rig.restart();
    assert_eq!(rig.driver.list().await.expect("a list"), std::slice::from_ref(&instance), "not the same one");
    let again = rig.driver.start(&spec, instance.id).await.expect("it runs already");
    assert_eq!(again, instance.reference);
    let log = rig.printed(spec.id, "burst over").await;
    let lines: Vec<_> = log.iter().filter(|line| line.starts_with("line ")).cloned().collect();
    assert_eq!(lines.len(), 200_000);
    assert!(lines.iter().enumerate().all(|(index, line)| *line == format!("line {}", index + 1)), "out of order");
    let book = rig.driver.0.books.open(spec.id).expect("its log");
    until("readers see all of it", async || {
        book.catch_up().expect("a look");
        (book.last_seq().get() == log.len() as u64).then_some(())
    })
    .await;

    rig.type_in(&instance, "exit 42").await;
    rig.restart();
    assert_eq!(rig.exited(&instance).await.code, Some(42));
    assert_eq!(rig.driver.list().await.expect("a list").len(), 1);
}

#[tokio::test]
async fn an_end_while_no_worker_is_there_is_known_to_the_next() {
    let mut rig = Rig::new();
    let spec = rig.spec();
    let instance = rig.start(&spec).await;
    rig.type_in(&instance, "tick 100").await;
    rig.type_in(&instance, "exit 5").await;
    let directory = rig.run_dir(&instance);
    rig.driver.0.holds.let_go(instance.id);
    until("it has ended", async || directory.path.join(manman_shim::files::EXIT).exists().then_some(())).await;
    rig.restart();
    assert_eq!(rig.exited(&instance).await.code, Some(5));
    assert_eq!(rig.log(spec.id).iter().filter(|line| line.starts_with("tick ")).count(), 100);
}

/// The state says a pid that is another's by now.
#[tokio::test]
async fn a_pid_that_is_used_again_is_not_taken_for_ours() {
    let mut rig = Rig::new();
    let spec = rig.spec();
    let instance = rig.start(&spec).await;
    let mut stranger = std::process::Command::new("sleep").arg("600").spawn().expect("a stranger");
    let pid = rustix::process::Pid::from_child(&stranger);
    let identity = Identity::of(pid).expect("its stat");
    let mut state = rig.state(&instance);
    // The game goes first, and the shim before it can say so.
    kill(&state.shim);
    kill(&state.child);
    until("both are dead", async || (state.shim.open().ok()?.is_none() && state.child.open().ok()?.is_none()).then_some(())).await;
    state.child = Identity { start_ticks: identity.start_ticks + 1, ..identity.clone() };
    let run = rig.run_dir(&instance);
    let _ = std::fs::remove_file(run.path.join(manman_shim::files::EXIT));
    manman_shim::files::replace(&run.path, manman_shim::files::STATE, &state.to_text(), 0o600).expect("a state");
    rig.restart();
    let found = rig.listed(&instance).await;
    assert!(matches!(&found.state, InstanceState::Exited(exit) if exit.code.is_none()), "{found:?}");
    let error = rig.driver.write_line(&instance, "hello").await.expect_err("nobody is there");
    assert_eq!(error.kind, DriverErrorKind::Gone, "{error:?}");
    rig.stop(&instance, &[console("quit", 1)]).await;
    rig.driver.remove(&instance).await.expect("it goes");
    assert!(identity.open().expect("a look").is_some(), "a stranger was killed");
    stranger.kill().expect("it is ours to end");
    stranger.wait().expect("its end");
}
