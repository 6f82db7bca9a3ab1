//! The shim is killed, the game is not.

use manman_common::spec::StopStep;
use manman_worker_core::{Instance, InstanceState};

use super::game::{Rig, console, lives, signal, until};
use crate::driver::Driver;

async fn without_its_shim(rig: &Rig, tty: bool) -> Instance {
    let mut spec = rig.spec();
    spec.run.process.tty = tty;
    let instance = rig.start(&spec).await;
    rig.type_in(&instance, "tick 100").await;
    rig.printed(spec.id, "tick 10").await;
    rig.kill_shim(&instance).await;
    let found = rig.listed(&instance).await;
    assert!(matches!(found.state, InstanceState::Running { .. }), "{found:?}");
    assert_eq!(found.reference, instance.reference);
    let log = rig.printed(spec.id, "ticks over").await;
    let mut ticks: Vec<usize> = log.iter().filter_map(|line| line.trim_end().strip_prefix("tick ")?.parse().ok()).collect();
    let all = ticks.len();
    assert!(ticks.is_sorted(), "{ticks:?}");
    ticks.dedup();
    // What the shim had read and not written is lost with it.
    assert!(ticks.len() == all && all >= 95, "{ticks:?}");
    assert!(log.iter().any(|line| line.contains("the worker goes on with its log")), "{log:?}");
    rig.type_in(&instance, "still here").await;
    rig.printed(spec.id, "said: still here").await;
    instance
}

#[tokio::test]
async fn the_game_its_log_and_its_console_go_on_and_its_exit_code_is_known() {
    let rig = Rig::new();
    let instance = without_its_shim(&rig, false).await;
    rig.type_in(&instance, "exit 43").await;
    let exit = rig.exited(&instance).await;
    assert_eq!((exit.code, exit.signal), (Some(43), None), "{exit:?}");
    rig.driver.remove(&instance).await.expect("it goes");
    let again = rig.start(&rig.spec()).await;
    rig.stop(&again, &[console("quit", 30)]).await;
}

#[tokio::test]
async fn it_is_stopped_by_signals() {
    let rig = Rig::new();
    let instance = without_its_shim(&rig, false).await;
    let ladder = [signal("TERM", 30)];
    let (exit, heard) = rig.stop(&instance, &ladder).await;
    assert_eq!(heard, ladder);
    assert_eq!(exit.code, Some(7), "{exit:?}");
    assert!(rig.log(instance.server).contains(&"got TERM".to_owned()));
}

#[tokio::test]
async fn on_a_terminal_it_is_stopped_by_its_console() {
    let rig = Rig::new();
    let instance = without_its_shim(&rig, true).await;
    let ladder = [console("quit", 30), signal("TERM", 30)];
    let (exit, heard) = rig.stop(&instance, &ladder).await;
    assert_eq!(heard, ladder[..1]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[tokio::test]
async fn one_that_hears_nothing_is_killed_with_what_it_started() {
    let rig = Rig::new();
    let instance = without_its_shim(&rig, false).await;
    rig.type_in(&instance, "deaf").await;
    rig.type_in(&instance, "leave").await;
    let log = rig.printed(instance.server, "left ").await;
    let left: i32 = log.iter().find_map(|line| line.strip_prefix("left ")).expect("a pid").parse().expect("a number");
    let (exit, heard) = rig.stop(&instance, &[signal("TERM", 1)]).await;
    assert_eq!(exit.signal, Some(9), "{exit:?}");
    assert_eq!(heard.last().map(|rung| &rung.step), Some(&StopStep::Signal("KILL".to_owned())));
    until("what it started is gone", async || (!lives(left)).then_some(())).await;
}
