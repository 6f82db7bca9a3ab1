//! A disk that is full, or fills up in between.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{House, NEVER, tree};
use crate::{BackupError, RestoreRequest};

/// A disk of four MiB that goes with the test.
struct Disk(PathBuf);

impl Disk {
    fn new(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        mount("manman-backup-test", at, "tmpfs", MountFlags::empty(), Some(c"size=4m")).unwrap();
        Self(at.to_owned())
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

fn noise(length: u32) -> Vec<u8> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .collect()
}

fn is_full(error: &BackupError) -> bool {
    matches!(error, BackupError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}

#[test]
fn a_backup_that_does_not_fit_is_refused_or_fails_and_leaves_nothing() {
    let house = House::new();
    house.put("world/big", noise(5 << 20));
    house.put("small/one", noise(2 << 20));
    let disk = Disk::new(&house.dir.path().join("backups"));
    let refused = house.create(&["world/**"]).unwrap_err();
    assert!(matches!(refused, BackupError::NoRoom { .. }), "{refused:?}");
    let mut full = false;
    let failed = crate::create(
        &house.request(&["small/**"]),
        |progress| {
            if progress.bytes > 0 && !std::mem::replace(&mut full, true) {
                disk.fill();
            }
        },
        &NEVER,
    )
    .unwrap_err();
    assert!(is_full(&failed), "{failed:?}");
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 1, "only the filler");
    fs::remove_file(disk.0.join("filler")).unwrap();
    house.create(&["small/**"]).unwrap();
}

#[test]
fn a_restore_that_does_not_fit_is_refused_or_fails_and_changes_nothing() {
    let house = House::new();
    house.put("world/big", noise(3 << 20));
    house.put("small/one", noise(1 << 20));
    let big = house.create(&["world/**"]).unwrap();
    let small = house.create(&["small/**"]).unwrap();
    let disk = Disk::new(&house.dir.path().join("disk"));
    let root = disk.0.join("data");
    fs::create_dir_all(root.join("small")).unwrap();
    fs::write(root.join("small/one"), noise(1 << 20)).unwrap();
    let was = tree::of(&root, "");
    let request = |archive: &Path| RestoreRequest { archive: archive.to_owned(), root: root.clone(), server: None, owner: None };
    let refused = crate::restore(&request(&big.path), |_| {}, &NEVER).unwrap_err();
    assert!(matches!(refused, BackupError::NoRoom { .. }), "{refused:?}");
    let mut full = false;
    let fill = |_: crate::Progress<'_>| {
        if !std::mem::replace(&mut full, true) {
            disk.fill();
        }
    };
    let failed = crate::restore(&request(&small.path), fill, &NEVER).unwrap_err();
    assert!(is_full(&failed), "{failed:?}");
    assert_eq!(tree::of(&root, ""), was);
    fs::remove_file(disk.0.join("filler")).unwrap();
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 1, "nothing beside the server's directory");
    crate::restore(&request(&small.path), |_| {}, &NEVER).unwrap();
}
