//! What outlives what.

use std::process::{Command, Stdio};

use manman_shim::exit_code;
use manman_shim::journal::Event;
use manman_shim::launch::{self, Look};
use manman_shim::record::{Phase, StopAsked};
use manman_shim::spec::{EPOCH_SHIFT, Stdio as GameStdio};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Instance, is_alive, pid_in, shim, until};

fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn a_game_outlives_who_started_it_and_its_exit_code_is_known() {
    let instance = Instance::new();
    let spec = instance.spec("echo one; while [ ! -e go ]; do sleep 0.01; done; echo two; echo err >&2; exit 44");
    launch::prepare(&instance.run_dir(), &spec).unwrap();
    // A worker in the form of a shell, which will be killed.
    let mut worker = Command::new("sh")
        .args(["-c", "\"$0\" \"$1\" & echo $!; wait"])
        .arg(shim())
        .arg(instance.run_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    instance.wait_for_line("one");
    let state = instance.state();
    assert_eq!((state.phase, state.epoch, state.instance.as_str()), (Phase::Running, Some(1), "an-instance"));
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(is_alive(state.shim.pid) && is_alive(state.child.pid));
    assert!(state.child.open().unwrap().is_some(), "by boot, pid and start time it is the same process");
    std::fs::write(instance.path("data/go"), "").unwrap();
    let exit = instance.ended();
    assert_eq!((exit.code, exit.signal, exit.stop, exit.tree_empty), (Some(44), None, StopAsked::No, true));
    assert_eq!(exit.boot_id, state.shim.boot_id);
    let records = instance.records();
    assert_eq!(exit.last_seq, records.last().unwrap().0);
    assert_eq!(records.last().unwrap().2, "instance an-instance ended: exit code 44");
    assert_eq!(instance.lines(), ["one", "two", "err"]);
    until("its socket is gone", || (!instance.path("run/s").exists()).then_some(()));
}

#[test]
fn a_signal_and_a_core_are_told_from_a_code() {
    let instance = Instance::play(|instance| instance.spec("kill -SEGV $$"));
    let exit = instance.ended();
    assert_eq!((exit.code, exit.signal), (None, Some(11)));
    assert_eq!(instance.records().last().unwrap().2, "instance an-instance ended: signal SEGV");
    assert_eq!(instance.shim_code(), i32::from(exit_code::ENDED));
}

#[test]
fn what_the_game_leaves_behind_is_adopted_waited_for_and_reaped() {
    let script = "(setsid sh -c 'echo $$ > left; while [ ! -e go ]; do sleep 0.01; done; echo late') & while [ ! -s left ]; do sleep 0.01; done; exit 3";
    let instance = Instance::play(|instance| instance.spec(script));
    let left = pid_in(&instance.path("data/left"));
    let exit = until("the game's process has ended", || match instance.look() {
        Look::Live { exit: Some(exit), .. } => Some(exit),
        _ => None,
    });
    assert_eq!((exit.code, exit.tree_empty), (Some(3), false));
    until("the state says so", || (instance.state().phase == Phase::Leftovers).then_some(()));
    until("it is the shim's child now", || (manman_shim::identity::stat(left).unwrap().parent == instance.state().shim.pid).then_some(()));
    std::fs::write(instance.path("data/go"), "").unwrap();
    let exit = instance.ended();
    assert_eq!((exit.code, exit.tree_empty), (Some(3), true));
    assert_eq!(exit.last_seq, instance.records().last().unwrap().0);
    assert_eq!(instance.lines(), ["late"]);
}

#[test]
fn leftovers_end_after_their_time() {
    let instance = Instance::play(|instance| {
        let mut spec = instance.spec("trap '' TERM; setsid sleep 1000 & exit 0");
        spec.linger = Some(std::time::Duration::from_millis(50));
        spec
    });
    assert_eq!(instance.ended().stop, StopAsked::No);
}

#[test]
fn a_second_start_is_refused_while_anything_of_the_first_lives() {
    // The game is gone and so is its shim; a grandchild that nobody knows still has the world open.
    let first = Instance::play(|instance| {
        instance.spec("(setsid sh -c 'echo $$ > left; exec sleep 1000') & while [ ! -s left ]; do sleep 0.01; done; exec sleep 1000")
    });
    let left = pid_in(&first.path("data/left"));
    let state = first.state();
    for pid in [state.shim.pid, state.child.pid] {
        send(pid, Signal::KILL);
    }
    assert_eq!(until("the shim is gone", || (!is_alive(state.shim.pid)).then_some(left)), left);
    let abandoned = until("it is seen", || match first.look() {
        Look::Abandoned { child: None, exit: None, state } => Some(state),
        _ => None,
    });
    assert_eq!(abandoned, state.clone().into());

    let start = |epoch: u64| {
        let epoch = epoch << EPOCH_SHIFT;
        let second = Instance::new();
        let mut spec = second.spec("exit 0");
        let mut lock = first.spec("").lock.unwrap();
        lock.epoch = epoch;
        spec.lock = Some(lock);
        second.start(&spec);
        second
    };
    let second = start(2);
    assert_eq!(second.shim_code(), i32::from(exit_code::LOCKED));
    let exit = second.ended();
    assert!(exit.reason.unwrap().contains("is locked: an earlier instance"));
    assert_eq!((exit.code, exit.signal), (None, None));

    send(left, Signal::KILL);
    until("it is gone", || (!is_alive(left)).then_some(()));
    // Its descriptors are closed a moment after it can be seen to be dead.
    let third = until("the lock is free", || {
        let third = start(2);
        (third.shim_code() == i32::from(exit_code::ENDED)).then_some(third)
    });
    assert_eq!(third.ended().code, Some(0));
    let fourth = start(1);
    assert_eq!(fourth.shim_code(), i32::from(exit_code::EPOCH));
    let exit = fourth.ended();
    let reason = exit.reason.unwrap();
    assert!(reason.starts_with("this world was moved away in epoch 2: ") && reason.ends_with("this start is of epoch 1"), "{reason}");
    assert_eq!(exit.refused, Some(exit_code::EPOCH));
    assert!(fourth.errors().contains("moved away in epoch 2"));
    assert_eq!(fourth.events(), [Event::Refused { code: exit_code::EPOCH }]);
    assert!(fourth.journal().iter().all(|line| line.epoch == Some(1 << EPOCH_SHIFT) && line.server == "a-server"));
}

#[test]
fn a_terminals_game_outlives_its_shim_if_the_worker_holds_the_terminal() {
    let instance = Instance::play(|instance| {
        let mut spec =
            instance.spec("echo ready; while [ ! -e go ]; do sleep 0.01; done; echo still here; read line; echo \"$line\" > heard");
        spec.stdio = GameStdio::Pty { rows: 30, columns: 100 };
        spec
    });
    instance.wait_for_line("ready");
    let held = instance.connect().descriptors().unwrap();
    assert_eq!(held.len(), 1);
    let state = instance.state();
    send(state.shim.pid, Signal::KILL);
    until("it is abandoned", || match instance.look() {
        Look::Abandoned { child: Some(_), .. } => Some(()),
        _ => None,
    });
    std::fs::write(instance.path("data/go"), "").unwrap();
    let mut heard = [0; 64];
    let said = until("it goes on", || rustix::io::read(&held[0], &mut heard).ok());
    assert_eq!(&heard[..said], b"still here\n");
    rustix::io::write(&held[0], b"hello\n").unwrap();
    until("it reads on", || std::fs::read_to_string(instance.path("data/heard")).ok().filter(|text| text == "hello\n"));
    until("it has ended", || (!is_alive(state.child.pid)).then_some(()));
}

#[test]
fn a_game_with_pipes_outlives_its_shim_if_the_worker_holds_them() {
    let instance =
        Instance::play(|instance| instance.spec("echo ready; while [ ! -e go ]; do sleep 0.01; done; echo on || exit 9; echo $? > wrote"));
    instance.wait_for_line("ready");
    let held = instance.connect().descriptors().unwrap();
    assert_eq!(held.len(), 3);
    send(instance.state().shim.pid, Signal::KILL);
    std::fs::write(instance.path("data/go"), "").unwrap();
    until("it could write", || std::fs::read_to_string(instance.path("data/wrote")).ok().filter(|text| text == "0\n"));
}
