use super::*;

#[test]
fn one_directory_has_one_worker() {
    let parent = tempfile::tempdir().expect("a directory");
    let path = parent.path().join("a/b");
    let first = DataDir::open(&path).expect("it is free");
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
    assert_eq!(locked_by(&path), Some(std::process::id()));
    match DataDir::open(&path) {
        Err(IdentityError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("a second worker got in: {other:?}"),
    }
    drop(first);
    assert_eq!(locked_by(&path), None);
    DataDir::open(&path).expect("it is free again");
}

#[test]
fn a_copy_beside_its_living_original_is_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let original = DataDir::open(&parent.path().join("original")).expect("it is free");
    let copy = DataDir::open(&parent.path().join("copy")).expect("it is free");
    let run = crate::clock::new_run_id();
    // The original's worker, as the copied database names it, is a process that lives.
    let lock = original.path().join(LOCK_FILE);
    let script = format!("exec 9<'{}'; echo ready; read -r _", lock.display());
    let mut living = std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sh is there");
    let mut ready = [0; 6];
    living.stdout.as_mut().expect("it is piped").read_exact(&mut ready).expect("it has opened the lock");
    let last = ProcessIdentity {
        pid: living.id(),
        start_ticks: read_start_ticks(living.id()).expect("it lives"),
        ..original.this_process(run).expect("this process lives")
    };
    let this = copy.this_process(run).expect("this process lives");
    let refused = refuse_copy(&this, &last);
    // Nothing is refused to the original itself, nor after its process has ended, nor to a
    // process that merely has the number.
    let same = refuse_copy(&original.this_process(run).expect("this process lives"), &last);
    let other_process = refuse_copy(&this, &ProcessIdentity { start_ticks: last.start_ticks + 1, ..last.clone() });
    let other_boot = refuse_copy(&this, &ProcessIdentity { boot_id: "another".into(), ..last.clone() });
    living.kill().expect("it is ours");
    living.wait().expect("it ends");
    let ended = refuse_copy(&this, &last);

    match refused {
        Err(error @ IdentityError::Copy { .. }) => {
            let text = error.to_string();
            assert!(text.contains(&last.pid.to_string()) && text.contains("original"), "{text}");
        }
        other => panic!("the copy was let in: {other:?}"),
    }
    for allowed in [same, other_process, other_boot, ended] {
        allowed.expect("it is let in");
    }
}

#[test]
fn a_program_may_be_called_anything() {
    let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
    let stat = format!("77 (a) b) c) S {}", fields.join(" "));
    assert_eq!(start_ticks(&stat), Some(22));
    assert_eq!(start_ticks(""), None);
}

#[test]
fn a_host_name_becomes_a_name() {
    assert_eq!(fit_name("Attic-2.home.lan").as_str(), "Attic-2");
    assert_eq!(fit_name("_ä é").as_str(), "worker");
    assert_eq!(fit_name("").as_str(), "worker");
    assert_eq!(fit_name(&"x".repeat(90)).as_str().len(), 63);
}
