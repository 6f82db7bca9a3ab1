//! A restore that is killed at any point is whole or undone after `recover`, and so is a `recover`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::{House, NEVER, tree};
use crate::{Recovered, RestoreRequest};

/// Is run by the tests below, with a place at which it is killed; alone it does nothing.
#[test]
fn child() {
    let Some(dir) = std::env::var_os("MANMAN_BACKUP_CHILD") else { return };
    let dir = Path::new(&dir);
    let root = dir.join("data");
    match std::env::var("MANMAN_BACKUP_WORK").unwrap().as_str() {
        "create" => drop(crate::create(&super::request(&root, &dir.join("backups"), &["world/**"]), |_| {}, &NEVER).unwrap()),
        "recover" => drop(crate::recover(&root).unwrap()),
        archive => {
            let request = RestoreRequest { archive: archive.into(), root, server: None, owner: None };
            drop(crate::restore(&request, |_| {}, &NEVER).unwrap());
        }
    }
}

fn run(house: &House, work: &str, kill_at: u32, deny: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["tests::interrupted::child", "--exact", "-q"])
        .env("MANMAN_BACKUP_CHILD", house.dir.path())
        .env("MANMAN_BACKUP_WORK", work)
        .env("MANMAN_FAILPOINT", format!("backup.any@{kill_at}"))
        .env("MANMAN_FAILPOINT_DENY", deny)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap()
}

fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// A directory of each case: swapped, put where nothing was, below a folder that is missing, taken away.
fn house() -> (House, std::path::PathBuf) {
    let house = House::new();
    house.put("world/level.dat", "old");
    house.put("world/deep/er", "old");
    house.put("game.db", "old");
    house.put("lost/one", "old");
    house.put("gone/far/away", "old");
    let made = house.create(&["world/**", "game.db*", "lost/one", "gone/far/**"]).unwrap();
    house.put("world/level.dat", "new");
    house.put("world/added", "new");
    house.put("game.db", "new");
    house.put("game.db-wal", "new");
    fs::remove_file(house.root().join("lost/one")).unwrap();
    fs::remove_dir_all(house.root().join("gone")).unwrap();
    (house, made.path)
}

#[test]
fn a_restore_killed_anywhere_is_finished_or_undone() {
    let (finished, undone) = killed_everywhere("", Some(0));
    assert!(finished > 5 && undone > 5, "{finished} {undone}");
}

/// A file system that can not exchange two names.
#[test]
fn so_it_is_where_nothing_can_be_exchanged() {
    let (finished, undone) = killed_everywhere("backup.exchange", Some(0));
    assert!(finished > 5 && undone > 5, "{finished} {undone}");
}

/// The third of the swaps fails, and those before it are undone.
#[test]
fn so_it_is_where_the_swap_does_not_go_on() {
    for deny in ["backup.forward", "backup.forward,backup.exchange"] {
        let (finished, undone) = killed_everywhere(deny, Some(101));
        assert!(finished == 0 && undone > 10, "{deny}: {finished} {undone}");
    }
}

/// How often it was whole, and how often undone. Not killed it ends with that code.
fn killed_everywhere(deny: &str, code: Option<i32>) -> (u32, u32) {
    let (mut finished, mut undone) = (0, 0);
    for at in 1.. {
        assert!(at < 200, "it never came to an end");
        let (house, archive) = house();
        let times_aside = |tree: tree::Tree| tree.into_keys().collect::<Vec<_>>();
        let was = times_aside(tree::of(&house.root(), ""));
        let status = run(&house, archive.to_str().unwrap(), at, deny);
        if !killed(status) {
            assert_eq!(status.code(), code);
            break;
        }
        // The recovery is killed, too, at each of its points in turn.
        let mut again = 1;
        while killed(run(&house, "recover", again, deny)) {
            again += 1;
            assert!(again < 100, "it never came to an end");
        }
        assert_eq!(crate::recover(&house.root()).unwrap(), Recovered::Nothing);
        let now = times_aside(tree::of(&house.root(), ""));
        if house.get("game.db") == b"new" {
            undone += 1;
            assert_eq!(now, was, "killed at {at}");
            assert_eq!(house.get("world/level.dat"), b"new", "killed at {at}");
            assert_eq!(house.beside(), [""; 0], "killed at {at}");
        } else {
            finished += 1;
            for path in ["world/level.dat", "world/deep/er", "game.db", "lost/one", "gone/far/away"] {
                assert_eq!(house.get(path), b"old", "killed at {at}: {path}");
            }
            assert!(!house.root().join("world/added").exists() && !house.root().join("game.db-wal").exists(), "killed at {at}");
            let beside = house.beside();
            assert_eq!(beside.len(), 1, "killed at {at}: {beside:?}");
            let before = house.dir.path().join(&beside[0]);
            for path in ["world/level.dat", "world/added", "game.db", "game.db-wal"] {
                assert_eq!(fs::read(before.join(path)).unwrap(), b"new", "killed at {at}: {path}");
            }
        }
    }
    (finished, undone)
}

#[test]
fn a_restore_goes_on_where_a_killed_one_stopped() {
    for at in 1.. {
        let (house, archive) = house();
        if !killed(run(&house, archive.to_str().unwrap(), at, "")) {
            break;
        }
        house.restore(&archive).unwrap();
        assert_eq!(house.get("world/level.dat"), b"old", "killed at {at}");
        assert_eq!(house.get("gone/far/away"), b"old", "killed at {at}");
        assert!(!house.beside().iter().any(|name| name.starts_with('.')), "killed at {at}: {:?}", house.beside());
    }
}

#[test]
fn a_backup_killed_anywhere_has_no_name_and_the_next_one_clears_up() {
    let house = House::new();
    house.put("world/level.dat", "x");
    let shelf = house.dir.path().join("backups");
    for at in 1.. {
        if !killed(run(&house, "create", at, "")) {
            assert!(at > 2, "it was killed at least twice");
            break;
        }
        assert_eq!(crate::list(&shelf).unwrap().len(), 0);
        assert_eq!(fs::read_dir(&shelf).unwrap().count(), 1, "the half of this one, and none of an earlier");
    }
    let made = crate::list(&shelf).unwrap();
    assert_eq!(made.len(), 1);
    crate::verify(&made[0].path, &NEVER).unwrap();
    assert_eq!(fs::read_dir(&shelf).unwrap().count(), 1);
}
