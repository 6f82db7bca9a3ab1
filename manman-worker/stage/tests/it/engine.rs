//! The engine without a front, as a game's actions use it.

use std::time::Duration;

use manman_stage::command::Command;
use manman_stage::engine::{Answer, Engine, Event, Failure, Job, Limits, Options, Stream};

use crate::support::{EXECUTABLE, eventually, running};

fn open(dir: &tempfile::TempDir) -> Engine {
    let mut options = Options::new(dir.path().join("actions.sock"));
    options.shim = vec![EXECUTABLE.into(), manman_stage::shim::WORD.into()];
    options.bound = true;
    Engine::open(options).expect("it opens")
}

fn job(script: &str, dir: &tempfile::TempDir) -> Job {
    let command = Command::find(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], dir.path(), None).expect("sh is there");
    let mut job = Job::new("test", command, dir.path());
    job.env.push(("PATH".into(), "/usr/bin:/bin".into()));
    job.timeout = Duration::from_secs(10);
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_tells_how_far_it_is_and_then_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(&dir);
    let reply = format!("{EXECUTABLE} reply");
    let mut job = job(&format!("echo working; {reply} --progress '50 %'; {reply} \"$SERVER_ID in $PWD\""), &dir);
    job.env.push(("SERVER_ID".into(), "s-1".into()));
    job.lines = true;
    let mut running = engine.start(job);
    let Answer::Reply(answer) = running.answer().await else { panic!("it answers") };
    assert_eq!(answer.body, format!("s-1 in {}", dir.path().display()));
    let mut events = Vec::new();
    while let Some(event) = running.event().await {
        events.push(event);
    }
    assert_eq!(events, [Event::Line { stream: Stream::Stdout, text: "working".to_owned() }, Event::Progress("50 %".to_owned())]);
    let ended = running.ended().await.expect("it ran");
    assert_eq!((ended.code, ended.signal), (Some(0), None));
    assert!(ended.usage.max_rss > 0);
    assert_eq!(engine.record(running.id).expect("it is remembered").outcome, "answered");
    engine.stop().await;
    assert!(!engine.socket().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_says_how_and_nothing_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(&dir);
    let failed = |job: Job| {
        let mut running = engine.start(job);
        async move { running.answer().await }
    };
    let Answer::Failed(Failure::Exited { code, stderr_tail, .. }) = failed(job("echo why >&2; exit 3", &dir)).await else {
        panic!("it fails")
    };
    assert_eq!((code, stderr_tail.as_str()), (Some(3), "why\n"));
    let mut slow = job("setsid sleep 700.125 & sleep 700.125", &dir);
    slow.timeout = Duration::from_millis(100);
    assert_eq!(failed(slow).await, Answer::Failed(Failure::Timeout));
    let mut gone = job("true", &dir);
    gone.wd = dir.path().join("nowhere");
    assert!(matches!(failed(gone).await, Answer::Failed(_)));
    let mut limited = job("ulimit -n; exit 9", &dir);
    limited.limits = Limits { files: Some(40), ..Limits::default() };
    let mut running_limited = engine.start(limited);
    assert!(matches!(running_limited.answer().await, Answer::Failed(Failure::Exited { code: Some(9), .. })));
    // The last of it, also what left the group, though this process is no parent of orphans.
    drop(engine.start(job("setsid sleep 700.125 & sleep 700.125", &dir)));
    engine.stop().await;
    assert_eq!(engine.in_flight(), 0);
    eventually("all has gone", || if running("700.125").is_empty() { Ok(()) } else { Err(format!("{:?}", running("700.125"))) });
}

/// A user that has nothing of its own here.
const STRANGER: u32 = 212_345;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_be_another_user_in_its_own_view_of_its_directory() {
    use std::os::unix::fs::PermissionsExt as _;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a process another user");
        return;
    }
    let open_to_all =
        |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    let (dir, hidden, place) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
    let (dir, hidden, place) = (dir.expect("a directory"), hidden.expect("another"), place.expect("a third"));
    open_to_all(dir.path(), 0o711);
    open_to_all(place.path(), 0o755);
    let wd = hidden.path().join("data");
    std::fs::create_dir(&wd).expect("it is made");
    std::os::unix::fs::chown(&wd, Some(STRANGER), Some(STRANGER)).expect("root may");
    let mut options = Options::new(dir.path().join("actions.sock"));
    options.shim = vec![EXECUTABLE.into(), manman_stage::shim::WORD.into()];
    (options.bound, options.users) = (true, true);
    let engine = Engine::open(options).expect("it opens");
    let start = |script: &str| {
        let mut job = job(script, &dir);
        job.wd.clone_from(&wd);
        job.stand = manman_stage::engine::Stand { user: Some((STRANGER, STRANGER)), place: Some(place.path().to_owned()) };
        job.limits.pids = Some(64);
        engine.start(job)
    };
    let mut running =
        start(&format!("touch \"$PWD/mine\" && {EXECUTABLE} reply \"$(id -u) $(id -G) $PWD $(cat /root/.profile 2>&1 | wc -c)\""));
    let Answer::Reply(answer) = running.answer().await else { panic!("{:?}", engine.record(running.id)) };
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(said.starts_with(&format!("{STRANGER} {STRANGER} {} ", place.path().display())), "{said}");
    assert!(wd.join("mine").exists(), "what it wrote is in the real directory");
    assert_eq!(std::fs::read_dir(place.path()).expect("it is there").count(), 0, "and nobody else sees it under the other name");
    // Another user's request is not to be answered, whoever knows its id.
    let mut other = engine.start(job("sleep 5", &dir));
    let mut thief = start(&format!("{EXECUTABLE} reply --request-id {} stolen; {EXECUTABLE} reply done", other.id));
    let Answer::Reply(answer) = thief.answer().await else { panic!("{:?}", engine.record(thief.id)) };
    assert_eq!(answer.body, "done");
    assert_ne!(engine.record(other.id).expect("it runs").outcome, "answered");
    engine.stop().await;
    assert!(matches!(other.answer().await, Answer::Failed(Failure::Stopping)));
}
