use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{House, NEVER};
use crate::BackupError;

#[test]
fn a_pattern_set_that_matches_no_file_is_a_failure() {
    let house = House::new();
    house.put("world/level.dat", "x");
    fs::create_dir(house.root().join("empty")).unwrap();
    for patterns in [&["wrld/**"][..], &["empty/**"], &[]] {
        assert!(matches!(house.create(patterns), Err(BackupError::NothingMatches { .. })), "{patterns:?}");
    }
    let made = house.create(&["world/**", "*.json"]).unwrap();
    assert_eq!(made.unmatched, ["*.json"]);
    assert_eq!(fs::read_dir(house.dir.path().join("backups")).unwrap().count(), 1, "failures leave nothing");
}

#[test]
fn sockets_and_pipes_are_left_out_and_named_and_links_are_not_followed() {
    let house = House::new();
    house.put("world/level.dat", "x");
    house.put("elsewhere/secret", "not in it");
    let _socket = UnixListener::bind(house.root().join("world/sock")).unwrap();
    let pipe = house.root().join("world/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    std::os::unix::fs::symlink(house.root().join("elsewhere"), house.root().join("linked")).unwrap();
    let made = house.create(&["world/**", "linked/**", "linked/deep/*"]).unwrap();
    let mut skipped: Vec<String> = made.skipped.iter().map(|skipped| format!("{}: {}", skipped.path, skipped.why)).collect();
    skipped.sort();
    assert_eq!(
        skipped,
        ["linked: kept as the link it is; what it leads to is not in the backup", "world/pipe: a pipe", "world/sock: a socket"]
    );
    assert_eq!(made.files, 1);
}

/// Other programs read it, sparse files as such.
#[test]
fn gnu_tar_reads_it_and_a_sparse_file_stays_cheap() {
    let house = House::new();
    let sparse = house.put("world/sparse", vec![7; 5000]);
    fs::OpenOptions::new().write(true).open(&sparse).unwrap().set_len(64 << 20).unwrap();
    let middle = fs::OpenOptions::new().write(true).open(&sparse).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&middle, &[9; 5000], 32 << 20).unwrap();
    let long = format!("world/{}/{}", "d".repeat(150), "f".repeat(150));
    house.put(&long, "deep");
    std::os::unix::fs::symlink("x".repeat(150), house.root().join("world/link")).unwrap();
    fs::hard_link(house.root().join(&long), house.root().join("world/zz-twin")).unwrap();

    let made = house.create(&["world/**"]).unwrap();
    assert!(made.size < 20_000, "{} bytes for 10 KB of data", made.size);
    assert!(made.bytes < 100_000, "{}", made.bytes);
    let out = house.dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let tar = Command::new("tar").args(["--zstd", "-xf"]).arg(&made.path).arg("-C").arg(&out).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    let same = |path: &str| {
        assert!(fs::read(out.join("data").join(path)).unwrap() == house.get(path), "{path}");
    };
    same("world/sparse");
    same(&long);
    assert_eq!(fs::metadata(out.join("data/world/zz-twin")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(out.join("data/world/link")).unwrap().as_os_str().len(), 150);
    assert!(out.join("manman-backup.json").exists());

    fs::remove_dir_all(house.root().join("world")).unwrap();
    house.restore(&made.path).unwrap();
    same("world/sparse");
    assert!(fs::metadata(&sparse).unwrap().blocks() * 512 < 1 << 20, "it is sparse again");
}

#[test]
fn a_file_that_does_not_hold_still_is_named_and_never_cut_or_filled_up() {
    for size in [1000, 1 << 20] {
        let house = House::new();
        let live = house.put("world/log", vec![b'x'; size]);
        house.put("world/zz-gone", "soon");
        let mut count = 0_u32;
        let made = crate::create(
            &house.request(&["world/**"]),
            |progress| {
                count += 1;
                let _ = fs::remove_file(house.root().join("world/zz-gone"));
                if progress.path.ends_with("log") {
                    let mut bytes = fs::read(&live).unwrap();
                    // Larger, then smaller: both must be seen.
                    if count.is_multiple_of(3) {
                        bytes.truncate(bytes.len() - 100)
                    } else {
                        bytes.extend(b"more")
                    }
                    fs::write(&live, bytes).unwrap();
                }
            },
            &NEVER,
        )
        .unwrap();
        let changed: Vec<(String, bool)> = made.changed.iter().map(|changed| (changed.path.to_string(), changed.kept)).collect();
        assert!(changed.contains(&("world/log".to_owned(), true)), "{changed:?}");
        assert!(changed.contains(&("world/zz-gone".to_owned(), false)), "{changed:?}");
        crate::verify(&made.path, &NEVER).unwrap();
        house.restore(&made.path).unwrap();
        let kept = house.get("world/log");
        assert!(kept.iter().all(|byte| *byte != 0) && kept.len() > size / 2, "{} bytes", kept.len());
        assert!(!house.root().join("world/zz-gone").exists());
    }
}

#[test]
fn a_file_that_comes_to_rest_is_read_again_until_it_does() {
    let house = House::new();
    let live = house.put("world/big", vec![b'x'; 1 << 20]);
    let mut first = true;
    let made = crate::create(
        &house.request(&["world/**"]),
        |progress| {
            if progress.path.ends_with("big") && progress.bytes > 0 && std::mem::take(&mut first) {
                fs::write(&live, vec![b'y'; 700_000]).unwrap();
            }
        },
        &NEVER,
    )
    .unwrap();
    assert_eq!(made.changed, []);
    fs::remove_file(&live).unwrap();
    house.restore(&made.path).unwrap();
    assert!(house.get("world/big") == vec![b'y'; 700_000]);
}

#[test]
fn a_cancelled_backup_leaves_nothing() {
    let house = House::new();
    house.put("world/a", vec![1; 1 << 20]);
    let cancel = AtomicBool::new(false);
    let made = crate::create(&house.request(&["world/**"]), |progress| cancel.store(progress.bytes > 0, Ordering::Relaxed), &cancel);
    assert!(matches!(made, Err(BackupError::Cancelled)), "{made:?}");
    assert_eq!(fs::read_dir(house.dir.path().join("backups")).unwrap().count(), 0);
}

#[test]
fn archives_of_one_second_do_not_replace_each_other_and_old_ones_go() {
    let house = House::new();
    house.put("world/a", "1");
    let made: Vec<_> = (0..4).map(|_| house.create(&["world/**"]).unwrap().path).collect();
    let shelf = house.dir.path().join("backups");
    fs::write(shelf.join("broken.tar.zst"), "not one").unwrap();
    fs::write(shelf.join("notes.txt"), "mine").unwrap();
    let listed = crate::list(&shelf).unwrap();
    assert_eq!(listed.len(), 5);
    assert!(listed[..4].iter().all(|listed| listed.head.as_ref().is_ok_and(|head| head.note == "before the update" && head.files == 1)));
    assert!(matches!(listed[4].head, Err(BackupError::NotABackup { .. })));
    let gone = crate::prune(&shelf, super::server(), 3.try_into().unwrap()).unwrap();
    assert_eq!(gone.len(), 1);
    let there: Vec<bool> = made.iter().map(|path| path.exists()).collect();
    assert_eq!(there.iter().filter(|there| **there).count(), 3);
    assert!(!there[0], "the oldest goes: {there:?} {gone:?}");
    assert_eq!(crate::prune(&shelf, manman_common::ids::ServerId::from_uuid(uuid::Uuid::nil()), 1.try_into().unwrap()).unwrap().len(), 0);
    assert!(crate::list(&house.dir.path().join("missing")).unwrap().is_empty());
}

/// Runs as another user in the test below, and does nothing otherwise.
#[test]
fn child() {
    let Some(dir) = std::env::var_os("MANMAN_BACKUP_UNREADABLE") else { return };
    let dir = std::path::Path::new(&dir);
    let made = crate::create(&super::request(&dir.join("data"), &dir.join("shelf"), &["world/**"]), |_| {}, &NEVER);
    let text = match made {
        Err(BackupError::Io { doing, path, source }) => format!("{doing} {path}: {source}"),
        other => format!("{other:?}"),
    };
    fs::write(dir.join("shelf/said"), text).unwrap();
}

#[test]
fn what_can_not_be_read_is_a_failure_that_names_it() {
    for (path, said) in [("world/locked", "open world/locked: "), ("world/folder", "open the folder world/folder: ")] {
        let house = House::new();
        house.put("world/a", "1");
        let shelf = house.dir.path().join("shelf");
        fs::create_dir(&shelf).unwrap();
        fs::set_permissions(&shelf, fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(house.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let closed = house.root().join(path);
        if path.ends_with("folder") {
            fs::create_dir(&closed).unwrap()
        } else {
            fs::write(&closed, "x").unwrap()
        }
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["tests::create::child", "--exact"])
            .env("MANMAN_BACKUP_UNREADABLE", house.dir.path())
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        let text = fs::read_to_string(shelf.join("said")).unwrap();
        assert!(text.starts_with(said) && text.contains("Permission denied"), "{text}");
        assert_eq!(crate::list(&shelf).unwrap().len(), 0);
    }
}
