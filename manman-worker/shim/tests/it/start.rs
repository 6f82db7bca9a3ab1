//! Starts, and starts that can not be.

use manman_shim::clock;
use manman_shim::exit_code;
use manman_shim::launch::{self, Look};
use manman_shim::spec::{Limit, LogPlace, User};
use rustix::process::Resource;

use crate::support::{Instance, is_alive, until};

#[test]
fn the_game_gets_what_the_spec_says_and_nothing_else() {
    let instance = Instance::play(|instance| {
        let mut spec = instance.spec("env | sort; pwd; id -u; id -g; id -G; ulimit -n; umask; grep -E '^(NoNewPrivs|SigBlk)' /proc/self/status; ls /proc/self/fd | wc -l; cat /proc/self/stat | cut -d' ' -f 6; echo $$; echo \"$1\"");
        spec.argv.extend(["name".into(), "an argument\nof two lines".into()]);
        spec.env.push(("MANMAN_INSTANCE".into(), "an-instance".into()));
        spec.env.push(("ODD".into(), "a=b\\".into()));
        spec.limits = vec![Limit { resource: Resource::Nofile, value: Some(333) }, Limit { resource: Resource::Core, value: Some(0) }];
        if rustix::process::geteuid().is_root() {
            spec.user = Some(User { uid: 12_345, gid: 12_346, groups: vec![12_347] });
            // A user of its own must reach its data.
            for dir in ["", "data"] {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(instance.path(dir), std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        spec
    });
    assert_eq!(instance.ended().code, Some(0));
    let lines = instance.lines();
    let data = instance.path("data").display().to_string();
    let mut expected =
        vec!["MANMAN_INSTANCE=an-instance".to_owned(), "ODD=a=b\\".into(), "PATH=/usr/bin:/bin".into(), format!("PWD={data}"), data];
    if rustix::process::geteuid().is_root() {
        expected.extend(["12345", "12346", "12346 12347"].map(String::from));
    } else {
        expected.extend(lines[5..8].to_vec());
    }
    // stdin, stdout, stderr, the lock, and ls' own look at the directory.
    expected.extend(["333", "0022", "SigBlk:\t0000000000000000", "NoNewPrivs:\t1", "5"].map(String::from));
    assert_eq!(lines[..expected.len()], expected);
    assert_eq!(lines[expected.len()], lines[expected.len() + 1], "it leads a session of its own");
    assert_eq!(lines[expected.len() + 2..], ["an argument", "of two lines"]);
}

#[test]
fn what_can_not_be_started_is_told_in_words() {
    let data_file = |instance: &Instance| std::fs::write(instance.path("data/file"), "#!/no/such/loader\n").unwrap();
    for (argv, cwd, reason) in [
        (&["/no/such/game", "x"][..], "data", "exec /no/such/game: No such file or directory"),
        (&["no-such-game"], "data", "exec no-such-game: No such file or directory"),
        (&["/etc"], "data", "exec /etc: Permission denied"),
        (&["/bin/true"], "nowhere", "enter "),
        (&["./file"], "data", "exec ./file: No such file or directory; the file is there, so its interpreter or loader is not"),
    ] {
        let instance = Instance::new();
        data_file(&instance);
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(instance.path("data/file"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut spec = instance.spec_of(argv);
        spec.cwd = Some(instance.path(cwd));
        instance.start(&spec);
        let exit = instance.ended();
        assert!(exit.reason.as_deref().unwrap().starts_with(reason), "{exit:?}");
        assert_eq!((exit.code, exit.signal, exit.tree_empty), (None, None, true));
        assert_eq!(instance.shim_code(), i32::from(exit_code::START));
        assert!(instance.records().last().unwrap().2.starts_with("instance an-instance could not be started: "));
    }
}

#[test]
fn a_cgroup_that_can_not_be_joined_stops_the_start() {
    let instance = Instance::new();
    let mut spec = instance.spec("echo never > never");
    spec.cgroups = vec![instance.path("no-cgroup")];
    instance.start(&spec);
    assert!(instance.ended().reason.unwrap().starts_with("join cgroup "));
    assert!(!instance.path("data/never").exists());
}

#[test]
fn a_bad_spec_and_a_bad_place_are_named() {
    let instance = Instance::new();
    let mut text = instance.spec("true").to_text();
    text.extend_from_slice(b"colour=blue\n");
    std::fs::write(instance.path("run/spec"), text).unwrap();
    launch::spawn(&crate::support::shim(), &instance.run_dir()).unwrap().wait().unwrap();
    assert!(instance.ended().reason.unwrap().contains("`colour` is no key of a spec"));

    let instance = Instance::new();
    let mut spec = instance.spec("true");
    spec.log = LogPlace { dir: "/proc/nowhere".into(), ..spec.log };
    instance.start(&spec);
    assert_eq!(instance.shim_code(), i32::from(exit_code::IO));
    assert!(instance.ended().reason.unwrap().starts_with("open the log in /proc/nowhere: "));
}

#[test]
fn a_run_directory_serves_once() {
    let instance = Instance::play(|instance| instance.spec("exec sleep 1000"));
    let state = instance.state();
    // While the first lives: refused before a process is made, and by the shim itself.
    assert_eq!(launch::spawn(&crate::support::shim(), &instance.run_dir()).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    let own =
        std::process::Command::new(crate::support::shim()).arg(instance.run_dir()).stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(own.status.code(), Some(i32::from(exit_code::USED)));
    assert!(is_alive(state.child.pid));
    assert!(matches!(instance.look(), Look::Live { .. }));
    instance.kill();
    let exit = instance.ended();
    // And afterwards.
    let again = until("the shim has let go", || launch::spawn(&crate::support::shim(), &instance.run_dir()).ok()).wait().unwrap();
    assert_eq!(again.code(), Some(i32::from(exit_code::USED)));
    assert_eq!(instance.ended(), exit);
}

#[test]
fn a_shim_that_is_killed_before_the_start_leaves_no_game() {
    // Whatever the moment: a game that runs is always one that the state names.
    for round in 0..40_u32 {
        let instance = Instance::new();
        launch::prepare(&instance.run_dir(), &instance.spec("echo $$ > pid; exec sleep 1000")).unwrap();
        assert!(matches!(instance.look(), Look::Never));
        let mut shim = launch::spawn(&crate::support::shim(), &instance.run_dir()).unwrap();
        assert!(!matches!(instance.look(), Look::Never), "a start under way is never taken for none");
        let end = clock::instant() + std::time::Duration::from_micros(u64::from(round) * 200);
        while clock::instant() < end {}
        shim.kill().unwrap();
        shim.wait().unwrap();
        // A stage has the lock, too, for the moment between its fork and its exec.
        let found = until("the lock is free", || Some(instance.look()).filter(|look| !matches!(look, Look::Starting | Look::Live { .. })));
        match found {
            // No state, no gate: the stage ends by itself.
            Look::Never => assert!(!instance.path("data/pid").exists()),
            Look::Abandoned { child, state, .. } => {
                if let Some(child) = child {
                    // It may also be a stage whose gate was never opened, and which is ending.
                    let _ = rustix::process::pidfd_send_signal(&child, rustix::process::Signal::KILL);
                }
                until("it is gone", || (!is_alive(state.child.pid)).then_some(()));
                // The shell may have been killed between opening the file and writing it.
                let written = std::fs::read_to_string(instance.path("data/pid")).unwrap_or_default();
                if let Some(pid) = Some(written).filter(|pid| pid.ends_with('\n')) {
                    assert_eq!(pid.trim(), state.child.pid.to_string());
                }
            }
            other => panic!("{other:?}"),
        }
    }
}
