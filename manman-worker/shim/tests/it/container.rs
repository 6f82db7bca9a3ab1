//! The shim as process 1 of a pid namespace, as in front of an image's entrypoint.

use std::process::{Child, Command, Stdio};

use manman_shim::client::Reply;
use manman_shim::launch;
use manman_shim::proto::Request;
use manman_shim::record::StopAsked;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Instance, rungs, shim, until};

/// Starts the shim as process 1; `None` where that may not be done. The child is `unshare`, whose
/// only child is the shim.
fn first(instance: &Instance) -> Option<(Child, i32)> {
    let mut unshare = Command::new("unshare")
        .args(["-pf", "--mount-proc", "--kill-child"])
        .arg(shim())
        .arg(instance.run_dir())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let found = until("it has begun or can not", || {
        let child = std::fs::read_to_string(&children).ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
        child.map(Some).or_else(|| unshare.try_wait().unwrap().map(|_| None))
    });
    if found.is_none() {
        eprintln!("skipped: no pid namespace may be made here");
    }
    found.map(|pid| (unshare, pid))
}

#[test]
fn as_process_1_it_reaps_stops_by_term_and_ends_as_its_game() {
    let instance = Instance::new();
    let script = "trap 'echo saved; exit 17' TERM; trap 'echo hup' HUP; i=0; while [ $i -lt 50 ]; do (sleep 0.01 &); i=$((i+1)); done; setsid sleep 1000 & echo ready; while :; do sleep 0.01; done";
    let mut spec = instance.spec(script);
    spec.inherit_env = true;
    spec.ladder = rungs(&["30000 signal TERM"]);
    launch::prepare(&instance.run_dir(), &spec).unwrap();
    let Some((mut unshare, pid)) = first(&instance) else { return };
    instance.wait_for_line("ready");
    assert_eq!(instance.state().shim.pid, 1);
    until("what the game has orphaned is reaped", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        (children.split_whitespace().count() == 1).then_some(())
    });
    assert!(launch::is_locked(&instance.path("run/lock")).unwrap(), "that it lives can be seen from outside");
    // A worker speaks to it from outside, where its own pid is none for the shim.
    assert!(matches!(instance.connect().ask(&Request::Status).unwrap(), Reply::Status(_)));
    kill_process(Pid::from_raw(pid).unwrap(), Signal::HUP).unwrap();
    instance.wait_for_line("hup");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let status = unshare.wait().unwrap();
    assert_eq!(status.code(), Some(17), "the engine sees the game's own code");
    let exit = instance.ended();
    assert_eq!((exit.code, exit.stop, exit.tree_empty), (Some(17), StopAsked::Signal, true));
    assert_eq!(instance.lines(), ["ready", "hup", "saved"]);
}

#[test]
fn as_process_1_it_kills_everything_at_the_ladders_end() {
    let instance = Instance::new();
    let mut spec =
        instance.spec("trap '' TERM; (setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &); echo ready; while :; do sleep 1; done");
    spec.inherit_env = true;
    spec.ladder = rungs(&["10 signal TERM"]);
    launch::prepare(&instance.run_dir(), &spec).unwrap();
    let Some((mut unshare, pid)) = first(&instance) else { return };
    instance.wait_for_line("ready");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert_eq!(unshare.wait().unwrap().code(), Some(137));
    assert_eq!(instance.ended().signal, Some(9));
}
