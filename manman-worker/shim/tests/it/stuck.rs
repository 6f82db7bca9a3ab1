//! What SIGKILL does not end, and whom a signal never reaches.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manman_shim::journal::Event;
use manman_shim::proto::Request;
use manman_shim::record::Phase;
use manman_shim::{clock, exit_code};

use crate::support::{Instance, is_alive, pid_in, rungs, until};

/// A freezer of version 1: what is frozen in it does not even hear SIGKILL, as if it hung in the kernel.
struct Ice(PathBuf);

impl Ice {
    fn new(instance: &Instance) -> Option<Self> {
        let name = instance.dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let leaf = Path::new("/sys/fs/cgroup/freezer").join(format!("manman-ice-{name}"));
        std::fs::create_dir(&leaf).ok()?;
        leaf.join("freezer.state").exists().then_some(Self(leaf))
    }

    fn freeze(&self, pid: i32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
        std::fs::write(self.0.join("freezer.state"), "FROZEN").unwrap();
        until("it is frozen", || (std::fs::read_to_string(self.0.join("freezer.state")).unwrap().trim() == "FROZEN").then_some(()));
    }

    fn thaw(&self) {
        std::fs::write(self.0.join("freezer.state"), "THAWED").unwrap();
    }
}

impl Drop for Ice {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("freezer.state"), "THAWED");
        let end = clock::instant() + Duration::from_secs(5);
        while std::fs::remove_dir(&self.0).is_err() && clock::instant() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn what_outlives_sigkill_is_named_keeps_the_lock_and_is_waited_for() {
    let instance = Instance::new();
    let Some(ice) = Ice::new(&instance) else {
        eprintln!("skipped: no freezer that may be used here");
        return;
    };
    let mut spec = instance.spec(
        "(setsid sh -c 'echo $$ > deep; sleep 1000; sleep 1000' &); while [ ! -s deep ]; do sleep 0.01; done; echo ready; sleep 1000",
    );
    spec.ladder = rungs(&["10 signal TERM"]);
    instance.start(&spec);
    instance.wait_for_line("ready");
    let deep = pid_in(&instance.path("data/deep"));
    ice.freeze(deep);
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
    ice.thaw();
    let exit = instance.ended();
    assert_eq!(exit.signal, Some(15), "the game's own end is what it was");
    assert_eq!(instance.shim_code(), i32::from(exit_code::ENDED));
    assert_eq!(instance.events().last(), Some(&Event::Unlocked));
}
