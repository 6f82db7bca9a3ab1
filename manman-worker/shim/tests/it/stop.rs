//! Ways to end a game.

use std::path::PathBuf;
use std::time::Duration;

use manman_shim::client::{News, Reply};
use manman_shim::clock;
use manman_shim::proto::Request;
use manman_shim::record::{Exit, Phase, StopAsked};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Instance, is_alive, pid_in, rungs, until};

#[test]
fn the_ladder_is_climbed_by_console_and_signals_and_told_rung_by_rung() {
    // A shell would not look at a signal before it has read a line.
    let script = "$| = 1; $SIG{INT} = sub { print qq(got INT\\n) }; $SIG{TERM} = sub { print qq(got TERM\\n); exit 7 }; print qq(ready\\n); while (1) { $_ = <STDIN>; print qq(heard $_) }";
    let instance = Instance::play(|instance| {
        let mut spec = instance.spec_of(&["perl", "-e", script]);
        spec.ladder = rungs(&["50 console save-all", "50 signal INT", "30000 signal TERM"]);
        spec
    });
    instance.wait_for_line("ready");
    let mut client = instance.connect();
    client.tell(&Request::Subscribe { seqs: false, events: true }).unwrap();
    assert_eq!(client.type_in(b"half").unwrap(), 4);
    client.tell(&Request::Stop { ladder: b"" }).unwrap();
    client.tell(&Request::Stop { ladder: b"1 signal KILL" }).unwrap();
    let mut told = Vec::new();
    let exit = loop {
        match client.news().unwrap() {
            Some(News::Rung { index, text }) => told.push((index, text)),
            Some(News::Exit(record)) => break Exit::parse(&record).unwrap(),
            Some(News::State(_) | News::LastSeq(_)) => {}
            None => panic!("nothing more is told after {told:?}"),
        }
    };
    let expected = [(0, "50 console save-all"), (1, "50 signal INT"), (2, "30000 signal TERM")];
    assert_eq!(told, expected.map(|(index, text)| (index, text.to_owned())));
    assert_eq!((exit.code, exit.stop, exit.rungs), (Some(7), StopAsked::Ladder, 3));
    assert_eq!(instance.lines(), ["ready", "heard half", "heard save-all", "got INT", "got TERM"]);
    assert_eq!(instance.ended(), exit);
}

#[test]
fn a_game_that_ignores_term_and_forks_twice_is_killed_whole() {
    let script = "trap '' TERM INT; echo $$ > main; (setsid sh -c '(setsid sh -c \"echo \\$\\$ > deep; sleep 1000; sleep 1000\" &) ; echo $$ > mid; sleep 1000; sleep 1000' &); while [ ! -s mid ] || [ ! -s deep ]; do sleep 0.01; done; echo ready; while :; do sleep 1; done";
    let instance = Instance::play(|instance| {
        let mut spec = instance.spec(script);
        spec.ladder = rungs(&["10 signal INT", "10 signal-all TERM"]);
        spec
    });
    instance.wait_for_line("ready");
    let pids = ["main", "mid", "deep"].map(|name| pid_in(&instance.path("data").join(name)));
    instance.connect().tell(&Request::Stop { ladder: b"" }).unwrap();
    let exit = instance.ended();
    assert_eq!((exit.code, exit.signal, exit.stop, exit.rungs), (None, Some(9), StopAsked::Ladder, 2));
    assert_eq!(pids.map(is_alive), [false; 3]);
}

#[test]
fn a_wrapper_that_dies_of_the_signal_does_not_keep_it_from_the_game() {
    // The shell dies of TERM at once; its child, the game proper, must get it, too.
    let script = "sh -c 'trap \"echo saved; exit 0\" TERM; echo ready; while :; do sleep 0.01; done'; true";
    let instance = Instance::play(|instance| instance.spec(script));
    instance.wait_for_line("ready");
    instance.connect().tell(&Request::Stop { ladder: b"" }).unwrap();
    let exit = instance.ended();
    assert_eq!((exit.signal, exit.rungs), (Some(15), 1));
    assert_eq!(instance.lines()[..2], ["ready", "saved"]);
}

#[test]
fn a_signal_to_the_shim_is_a_stop() {
    let instance = Instance::play(|instance| instance.spec("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"));
    instance.wait_for_line("ready");
    for signal in [Signal::HUP, Signal::QUIT, Signal::USR1, Signal::TERM] {
        kill_process(Pid::from_raw(instance.state().shim.pid).unwrap(), signal).unwrap();
    }
    let exit = instance.ended();
    assert_eq!((exit.code, exit.stop), (Some(0), StopAsked::Signal));
    assert_eq!(instance.lines(), ["ready", "bye"]);
}

#[test]
fn a_game_that_has_been_halted_ends_all_the_same() {
    let instance = Instance::play(|instance| instance.spec("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"));
    instance.wait_for_line("ready");
    let mut client = instance.connect();
    client.tell(&Request::Signal { number: 19, all: false }).unwrap();
    let child = instance.state().child.pid;
    until("it is halted", || (manman_shim::identity::stat(child).unwrap().state == b'T').then_some(()));
    client.tell(&Request::Stop { ladder: b"" }).unwrap();
    assert_eq!(instance.ended().code, Some(0));
}

#[test]
fn a_kill_does_not_wait_and_a_stop_may_bring_its_own_ladder() {
    let instance = Instance::play(|instance| instance.spec("trap '' TERM; echo ready; while :; do sleep 1; done"));
    instance.wait_for_line("ready");
    let mut client = instance.connect();
    assert_eq!(client.ask(&Request::Stop { ladder: b"nonsense" }).unwrap(), Reply::Refused("that is no ladder".to_owned()));
    let begun = clock::instant();
    client.tell(&Request::Stop { ladder: b"3600000 signal TERM" }).unwrap();
    until("it is stopping", || (instance.state().phase == Phase::Stopping).then_some(()));
    assert!(is_alive(instance.state().child.pid));
    client.tell(&Request::Kill).unwrap();
    let exit = instance.ended();
    assert_eq!((exit.signal, exit.stop), (Some(9), StopAsked::Kill));
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_rung_for_a_console_that_nobody_reads_is_not_waited_on() {
    let instance = Instance::play(|instance| {
        let mut spec = instance.spec("exec <&-; echo ready; while :; do sleep 0.01; done");
        spec.ladder = rungs(&["3600000 console stop", "30000 signal TERM"]);
        spec
    });
    instance.wait_for_line("ready");
    instance.connect().tell(&Request::Stop { ladder: b"" }).unwrap();
    assert_eq!(instance.ended().signal, Some(15));
}

/// A leaf of its own below where a v1 hierarchy is mounted; removed when dropped.
struct Leaf(PathBuf);

impl Leaf {
    fn new(parent: &str, instance: &Instance) -> Option<Self> {
        let name = instance.dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let leaf = PathBuf::from(parent).join(format!("manman-test-{name}"));
        std::fs::create_dir(&leaf).ok().map(|()| Self(leaf))
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let end = clock::instant() + Duration::from_secs(5);
        while std::fs::remove_dir(&self.0).is_err() && clock::instant() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_cgroup_of_version_1_is_joined_frozen_and_killed_and_tells_of_memory() {
    let instance = Instance::new();
    let (Some(freezer), Some(memory)) = (Leaf::new("/sys/fs/cgroup/freezer", &instance), Leaf::new("/sys/fs/cgroup/memory", &instance))
    else {
        eprintln!("skipped: no cgroup v1 that may be written here");
        return;
    };
    // Forks without end until it is frozen.
    let mut spec = instance.spec("trap '' TERM; echo ready; while :; do setsid sleep 1000 & sleep 0.02; done");
    spec.cgroups = vec![freezer.0.clone(), memory.0.clone()];
    spec.ladder = rungs(&["10 signal TERM"]);
    instance.start(&spec);
    instance.wait_for_line("ready");
    let child = instance.state().child.pid.to_string();
    for leaf in [&freezer, &memory] {
        assert!(std::fs::read_to_string(leaf.0.join("cgroup.procs")).unwrap().lines().any(|pid| pid == child));
    }
    instance.connect().tell(&Request::Stop { ladder: b"" }).unwrap();
    let exit = instance.ended();
    assert_eq!((exit.signal, exit.oom_kills), (Some(9), Some(0)));
    assert_eq!(std::fs::read_to_string(freezer.0.join("cgroup.procs")).unwrap(), "");

    let eater = Instance::new();
    let memory = Leaf::new("/sys/fs/cgroup/memory", &eater).unwrap();
    std::fs::write(memory.0.join("memory.limit_in_bytes"), "20000000").unwrap();
    let mut spec = eater.spec("exec perl -e '$x .= \"x\" x 1000000 while 1'");
    spec.cgroups = vec![memory.0.clone()];
    eater.start(&spec);
    let exit = eater.ended();
    assert_eq!(exit.signal, Some(9));
    assert!(exit.oom_kills.unwrap() > 0, "{exit:?}");
}

#[test]
fn a_cgroup_of_version_2_is_killed_at_once() {
    let instance = Instance::new();
    let unified = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/tmp/cgroup2"]
        .into_iter()
        .find_map(|parent| std::path::Path::new(parent).join("cgroup.controllers").exists().then(|| Leaf::new(parent, &instance))?);
    let Some(leaf) = unified else {
        eprintln!("skipped: no cgroup v2 that may be written here");
        return;
    };
    let mut spec = instance.spec("trap '' TERM; (setsid sleep 1000 &); echo ready; while :; do sleep 1; done");
    spec.cgroups = vec![leaf.0.clone()];
    instance.start(&spec);
    instance.wait_for_line("ready");
    assert!(std::fs::read_to_string(leaf.0.join("cgroup.procs")).unwrap().lines().count() >= 2);
    instance.kill();
    assert_eq!(instance.ended().signal, Some(9));
    assert!(std::fs::read_to_string(leaf.0.join("cgroup.events")).unwrap().contains("populated 0"));
}
