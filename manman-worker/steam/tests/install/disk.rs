//! A disk that is full, for real: a small file system of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use manman_steam::{Failure, SteamErrorKind};

use crate::rig::{Rig, VALHEIM, run};

/// A file system of a few megabytes, gone with its test.
struct Small {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Small {
    /// ext4 in a file where loop devices are allowed, else memory; `None` without the right to mount.
    fn new(megabytes: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can mount a small file system");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let (image, path) = (directory.path().join("image"), directory.path().join("small"));
        std::fs::create_dir(&path).expect("it is made");
        std::fs::File::create(&image).and_then(|file| file.set_len(megabytes << 20)).expect("it is made");
        let ran = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let mounted = ran(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))
            && ran(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))
            || ran(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(&path));
        if !mounted {
            eprintln!("skipped: nothing can be mounted here");
            return None;
        }
        Some(Self { path, _directory: directory })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn free(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("it is there");
    stat.f_bavail * stat.f_frsize
}

#[tokio::test]
async fn what_does_not_fit_is_not_begun() {
    let rig = Rig::new();
    rig.tell("claim=999999999999999");
    let error = rig.install(&run(VALHEIM), 1).await.expect_err("nobody has so much");
    assert_eq!((error.failure, error.kind()), (Failure::DiskFull, SteamErrorKind::Retry));
    assert!(error.to_string().contains("GiB more"), "{error}");
    assert!(!rig.base("896660-public-linux").join("steamapps/downloading").exists());
}

#[tokio::test]
async fn a_disk_that_fills_up_is_named_and_left_clean() {
    let Some(small) = Small::new(160) else { return };
    let rig = Rig::at(&small.path, |_| {});
    let before = free(&small.path);
    // It says that it needs nothing, then writes more than there is.
    rig.tell("claim=1\nsize=209715200");
    let error = rig.install(&run(VALHEIM), 1).await.expect_err("it does not fit");
    assert_eq!(error.failure, Failure::DiskFull, "{error}");
    assert!(error.hint.is_some());
    assert!(free(&small.path) + (4 << 20) > before, "what was half downloaded is gone: {} of {before}", free(&small.path));
    assert!(!rig.directory(1).join("valheim_server.x86_64").exists());
    // With room, the same goes on by itself.
    rig.tell("size=1048576");
    rig.install(&run(VALHEIM), 1).await.expect("it fits");
}

#[tokio::test]
async fn laying_out_asks_for_room_first() {
    let Some(small) = Small::new(260) else { return };
    let rig = Rig::at(&small.path, |_| {});
    rig.tell("size=115343360");
    let error = rig.install(&run(VALHEIM), 1).await;
    let Err(error) = error else {
        // A game that does not run as root shares its large files: there is nothing to copy.
        assert!(!rustix::process::geteuid().is_root());
        return;
    };
    assert_eq!(error.failure, Failure::DiskFull, "{error}");
    assert!(error.to_string().contains("laying app 896660 out"), "{error}");
    assert!(!rig.directory(1).join("valheim_server.x86_64").exists());
    // Another user's game shares them, and fits.
    rig.install_as(&run(VALHEIM), 1, Some((54_321, 54_321))).await.expect("it fits");
}
