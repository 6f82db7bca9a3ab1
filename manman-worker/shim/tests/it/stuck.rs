//! What SIGKILL does not end, and whom a signal never reaches.

use manman_shim::exit_code;
use manman_shim::journal::Event;
use manman_shim::proto::Request;
use manman_shim::record::Phase;
use manman_test_ice::Ice;

use crate::support::{Instance, is_alive, pid_in, rungs, until};

#[test]
fn what_outlives_sigkill_is_named_keeps_the_lock_and_is_waited_for() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can freeze a process");
        return;
    }
    let instance = Instance::new();
    let mut spec = instance.spec(
        "(setsid sh -c 'echo $$ > deep; sleep 1000; sleep 1000' &); while [ ! -s deep ]; do sleep 0.01; done; echo ready; sleep 1000",
    );
    spec.ladder = rungs(&["10 signal TERM"]);
    instance.start(&spec);
    instance.wait_for_line("ready");
    let deep = pid_in(&instance.path("data/deep"));
    let ice = Ice::around(deep).unwrap();
    instance.connect().tell(&Request::Stop { ladder: b"" }).unwrap();
    let state = until("it is stuck", || Some(instance.state()).filter(|state| state.phase == Phase::Stuck));
    assert_eq!(state.stuck, [deep]);
    assert!(instance.events().contains(&Event::Stuck { pids: vec![deep] }));
    // The world is not free as long as anything may write to it.
    let next = Instance::new();
    let mut second = next.spec("exit 0");
    second.lock.clone_from(&spec.lock);
    next.start(&second);
    assert_eq!(next.ended().refused, Some(exit_code::LOCKED));
    assert!(is_alive(deep));
    drop(ice);
    let exit = instance.ended();
    assert_eq!(exit.signal, Some(15), "the game's own end is what it was");
    assert_eq!(instance.shim_code(), i32::from(exit_code::ENDED));
    assert_eq!(instance.events().last(), Some(&Event::Unlocked));
}
