use std::process::{Command, Stdio};

use super::*;

fn config(root: &Path) -> SteamConfig {
    let mut config = SteamConfig::new(root);
    config.inactive_after = Duration::from_secs(20);
    config
}

#[tokio::test]
async fn one_at_a_time() {
    let root = tempfile::tempdir().expect("a directory");
    let config = config(root.path());
    let first = Lock::take(&config, &|_| {}).await.expect("it is free");
    let steps = std::sync::Mutex::new(Vec::new());
    let report = |progress: Progress| steps.lock().expect("no panic").push(progress.step);
    // The holder lives: it is waited for, and said once.
    assert!(tokio::time::timeout(Duration::from_millis(700), Lock::take(&config, &report)).await.is_err());
    assert_eq!(steps.lock().expect("no panic").len(), 1);
    drop(first);
    Lock::take(&config, &|_| {}).await.expect("it is free again");
}

#[tokio::test]
async fn a_child_that_outlived_its_worker_is_ended() {
    let root = tempfile::tempdir().expect("a directory");
    let config = config(root.path());
    let lock = Lock::take(&config, &|_| {}).await.expect("it is free");
    let mut orphan = Command::new("sleep").arg("1000").stdin(Stdio::from(lock.for_child().expect("a copy"))).spawn().expect("it starts");
    // Its worker was another process, long gone.
    let gone = Owner { boot_id: boot_id().expect("Linux"), pid: 1, start_ticks: u64::MAX };
    write_json(&owner_path(&lock.path), &gone).expect("it is written");
    drop(lock);
    let lock = Lock::take(&config, &|_| {}).await.expect("it is taken over");
    let status = orphan.wait().expect("it has ended");
    assert!(!status.success());
    assert_eq!(read_json::<Owner>(&owner_path(&lock.path)).expect("it is read"), Owner::this());
}

#[test]
fn a_reused_number_is_another_process() {
    let this = Owner::this().expect("Linux");
    assert!(this.is_alive());
    assert!(!Owner { start_ticks: this.start_ticks + 1, ..this.clone() }.is_alive());
    assert!(!Owner { boot_id: "another".to_owned(), ..this }.is_alive());
}
