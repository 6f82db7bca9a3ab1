use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::{House, NEVER, tree};
use crate::swap::Side;
use crate::{BackupError, RestoreRequest};

#[test]
fn what_came_since_goes_and_everything_is_kept_beside() {
    let house = House::new();
    house.put("game.db", "old");
    house.put("world/level.dat", "old");
    house.put("other", "mine");
    let made = house.create(&["game.db*", "world/**"]).unwrap();
    house.put("game.db", "new");
    // A journal of the newer database must not meet the older one.
    house.put("game.db-wal", "new");
    house.put("world/new", "new");
    house.put("other", "still mine");
    let restored = house.restore(&made.path).unwrap();
    assert_eq!(
        (house.get("game.db"), house.get("world/level.dat"), house.get("other")),
        (b"old".into(), b"old".into(), b"still mine".into())
    );
    assert!(!house.root().join("game.db-wal").exists() && !house.root().join("world/new").exists());
    let before = restored.before.unwrap();
    assert!(before.file_name().unwrap().to_str().unwrap().starts_with("data.before-restore-2"), "{before:?}");
    assert_eq!(fs::read(before.join("game.db-wal")).unwrap(), b"new");
    assert_eq!(fs::read(before.join("world/new")).unwrap(), b"new");
    assert_eq!(restored.taken_away.iter().map(ToString::to_string).collect::<Vec<_>>(), ["game.db-wal"]);
    assert_eq!(restored.units, 2);
    assert_eq!(house.beside(), [before.file_name().unwrap().to_str().unwrap()], "nothing else is left");
}

#[test]
fn a_lost_server_gets_all_back_and_nothing_is_kept_that_was_not_there() {
    let house = House::new();
    house.put("a/b/c/level.dat", "x");
    house.put("a/other", "x");
    fs::set_permissions(house.root().join("a/b"), fs::Permissions::from_mode(0o750)).unwrap();
    let made = house.create(&["a/b/c/**"]).unwrap();
    fs::remove_dir_all(house.root()).unwrap();
    fs::create_dir(house.root()).unwrap();
    let restored = house.restore(&made.path).unwrap();
    assert_eq!(house.get("a/b/c/level.dat"), b"x");
    assert_eq!(fs::metadata(house.root().join("a/b")).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(restored.before, None);
    assert_eq!(house.beside(), [""; 0]);
}

#[test]
fn a_damaged_archive_changes_nothing() {
    let house = House::new();
    house.put("world/level.dat", vec![b'x'; 100_000]);
    house.put("world/more", (0..100_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect::<Vec<u8>>());
    let made = house.create(&["world/**"]).unwrap();
    house.put("world/level.dat", "now");
    let was = tree::of(&house.root(), "");
    let bytes = fs::read(&made.path).unwrap();
    let bad = house.dir.path().join("backups/bad.tar.zst");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 3] ^= 1;
    for (name, content) in
        [("cut in half", bytes[..bytes.len() / 2].to_vec()), ("one bit", flipped), ("longer", [&bytes[..], b"x"].concat())]
    {
        fs::write(&bad, content).unwrap();
        let error = house.restore(&bad).unwrap_err();
        assert!(matches!(error, BackupError::NotABackup { .. } | BackupError::Damaged { .. }), "{name}: {error:?}");
        assert!(crate::verify(&bad, &NEVER).is_err(), "{name}");
        assert_eq!(tree::of(&house.root(), ""), was, "{name}");
        assert_eq!(house.beside(), [""; 0], "{name}");
    }
    let other =
        RestoreRequest { server: Some(manman_common::ids::ServerId::from_uuid(uuid::Uuid::nil())), ..house.restore_request(&made.path) };
    assert!(matches!(crate::restore(&other, |_| {}, &NEVER), Err(BackupError::OtherServer { .. })));
    assert_eq!(tree::of(&house.root(), ""), was);
}

#[test]
fn a_cancelled_restore_changes_nothing() {
    let house = House::new();
    house.put("world/level.dat", vec![b'x'; 1 << 20]);
    let made = house.create(&["world/**"]).unwrap();
    house.put("world/level.dat", "now");
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let done = crate::restore(&house.restore_request(&made.path), |_| cancel.store(true, std::sync::atomic::Ordering::Relaxed), &cancel);
    assert!(matches!(done, Err(BackupError::Cancelled)), "{done:?}");
    assert_eq!(house.get("world/level.dat"), b"now");
    assert_eq!(house.beside(), [""; 0]);
}

#[test]
fn files_get_the_owner_that_was_asked_for_and_no_rights_beyond() {
    let house = House::new();
    let file = house.put("world/a", "x");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
    symlink("/etc/hostname", house.root().join("world/link")).unwrap();
    let made = house.create(&["world/**"]).unwrap();
    let host = fs::metadata("/etc/hostname").unwrap();
    let request = RestoreRequest { owner: Some((1234, 2345)), ..house.restore_request(&made.path) };
    crate::restore(&request, |_| {}, &NEVER).unwrap();
    for path in ["world", "world/a", "world/link"] {
        let meta = fs::symlink_metadata(house.root().join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 2345), "{path}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata("/etc/hostname").unwrap().uid(), host.uid());
}

#[test]
fn what_can_not_be_swapped_is_said_before_anything_is() {
    let house = House::new();
    house.put("a/one", "old");
    house.put("saves/world", "old");
    let made = house.create(&["a/**", "saves/world"]).unwrap();

    // A folder that became a link leads elsewhere.
    let elsewhere = house.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::remove_dir_all(house.root().join("saves")).unwrap();
    symlink(&elsewhere, house.root().join("saves")).unwrap();
    house.put("a/one", "new");
    let error = house.restore(&made.path).unwrap_err();
    assert!(matches!(error, BackupError::InTheWay { .. }), "{error:?}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::remove_file(house.root().join("saves")).unwrap();

    // A place that something is mounted on can not be moved.
    mount_bind(&elsewhere, house.root().join("a")).unwrap();
    let error = house.restore(&made.path);
    unmount(house.root().join("a"), UnmountFlags::DETACH).unwrap();
    assert!(matches!(&error, Err(BackupError::InTheWay { fault: "something is mounted there", .. })), "{error:?}");
    assert_eq!(house.get("a/one"), b"new");
    assert_eq!(house.beside(), ["elsewhere"]);

    // One restore at a time.
    let lock = Side::lock(&house.root(), true).unwrap().unwrap();
    assert!(matches!(house.restore(&made.path), Err(BackupError::Busy { .. })));
    assert!(matches!(crate::recover(&house.root()), Err(BackupError::Busy { .. })));
    drop(lock);
    house.restore(&made.path).unwrap();
    assert_eq!(house.get("saves/world"), b"old");
}

/// A step that can not be made undoes those before it.
#[test]
fn a_swap_that_does_not_go_on_goes_back() {
    let house = House::new();
    for name in ["a", "b", "c"] {
        house.put(&format!("{name}/x"), "old");
    }
    let made = house.create(&["a/**", "b/**", "c/**"]).unwrap();
    for name in ["a", "b"] {
        house.put(&format!("{name}/x"), "new");
    }
    // The directory's own time tells that something was moved in it.
    let inside = || tree::of(&house.root(), "").into_iter().skip(1).collect::<tree::Tree>();
    let was = inside();
    let bound = house.root().join("b");
    let other = house.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    // What is mounted after the look makes the move of it fail.
    let mut mounted = false;
    crate::failpoint::on("backup.restore.journaled", {
        let (bound, other) = (bound.clone(), other.clone());
        move || {
            if !std::mem::replace(&mut mounted, true) {
                mount_bind(&other, &bound).unwrap();
            }
        }
    });
    let error = house.restore(&made.path);
    unmount(&bound, UnmountFlags::DETACH).unwrap();
    assert!(error.is_err(), "{error:?}");
    assert_eq!(inside(), was);
    assert_eq!(house.beside(), ["other"]);
}
