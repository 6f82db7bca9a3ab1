//! An install that goes well, and one that is cut short.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use manman_common::spec::Platform;
use manman_steam::{Failure, Steam};

use crate::rig::{Rig, VALHEIM, inode, processes, run, server, spec, text, until};

#[tokio::test]
async fn a_game_is_brought_and_laid_out() {
    let rig = Rig::new();
    let installed = rig.install(&run(VALHEIM), 1).await.expect("it is installed");
    assert_eq!(installed.build, "1000");
    let directory = rig.directory(1);
    let game = directory.join("valheim_server.x86_64");
    assert_eq!(fs::metadata(&game).expect("it is there").permissions().mode() & 0o111, 0o111);
    assert_eq!(text(directory.join("stand-in/build.txt")), "1000 public\n");
    assert!(directory.join("steamapps/appmanifest_896660.acf").is_file());
    assert!(directory.join(".steam/sdk64/steamclient.so").is_file());
    assert!(directory.join(".steam/sdk32/steamclient.so").is_file());

    let base = rig.base("896660-public-linux").display().to_string();
    let expected = [
        "+@ShutdownOnFailedCommand",
        "1",
        "+@NoPromptForPassword",
        "1",
        "+@sSteamCmdForcePlatformType",
        "linux",
        "+force_install_dir",
        base.as_str(),
        "+login",
        "anonymous",
        "+app_update",
        "896660",
        "validate",
        "+quit",
    ];
    assert_eq!(rig.command_lines(), [expected]);

    let seen = rig.seen.lock().expect("no panic").clone();
    let percents: Vec<u8> = seen.iter().filter_map(|progress| progress.percent).collect();
    assert!(percents.is_sorted(), "{percents:?}");
    assert_eq!(percents.last(), Some(&100));
    assert!(percents.iter().any(|percent| (9..90).contains(percent)), "{percents:?}");
    for step in ["preallocating", "downloading", "verifying update", "committing", "laying"] {
        assert!(seen.iter().any(|progress| progress.step.starts_with(step)), "{step}: {seen:?}");
    }
    let found = rig.steam.installed(&run(VALHEIM), server(1), &directory).expect("it can be seen");
    assert_eq!(found, Some(installed));
    assert!(processes(&rig.root).is_empty());
}

#[tokio::test]
async fn a_second_server_needs_no_download() {
    let rig = Rig::new();
    rig.install(&run(VALHEIM), 1).await.expect("it is installed");
    // Steam being away is no matter.
    rig.tell("fail=no-connection");
    rig.again(|_| {}).install(&run(VALHEIM), 2).await.expect("it is laid out");
    assert_eq!(rig.command_lines().len(), 1);
    assert_eq!(text(rig.directory(2).join("stand-in/build.txt")), "1000 public\n");
    assert_ne!(inode(rig.directory(1).join("stand-in/defaults.cfg")), inode(rig.directory(2).join("stand-in/defaults.cfg")));
}

#[tokio::test]
async fn what_is_shared_can_not_be_written_by_the_game() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files to another user");
        return;
    }
    let rig = Rig::new();
    let (user, group) = (54_321, 54_322);
    rig.install_as(&run(VALHEIM), 1, Some((user, group))).await.expect("it is installed");
    let (directory, base) = (rig.directory(1), rig.base("896660-public-linux"));
    for entry in walk(&directory) {
        let metadata = fs::symlink_metadata(&entry).expect("it is there");
        if metadata.uid() == user {
            assert_eq!(metadata.gid(), group);
            assert!(metadata.is_dir() || metadata.nlink() == 1, "{} is the game's, and shared", entry.display());
        } else {
            assert_eq!(metadata.mode() & 0o222, 0, "{} is shared, and can be written", entry.display());
            assert_eq!(metadata.mode() & 0o444, 0o444, "{} can not be read", entry.display());
        }
    }
    let (shared, shared_base) = (directory.join("stand-in/content.pak"), base.join("stand-in/content.pak"));
    assert_eq!(inode(&shared), inode(&shared_base), "large content is shared");
    assert_ne!(inode(directory.join("stand-in/defaults.cfg")), inode(base.join("stand-in/defaults.cfg")), "configuration is a copy");

    // The same for a game that runs as root, whom no bits stop: nothing is shared.
    rig.install(&run(VALHEIM), 2).await.expect("it is laid out");
    assert_ne!(inode(rig.directory(2).join("stand-in/content.pak")), inode(&shared_base));
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![directory.to_owned()];
    let mut at = 0;
    while let Some(path) = all.get(at).cloned() {
        at += 1;
        if path.is_dir() {
            all.extend(fs::read_dir(path).expect("it is read").flatten().map(|entry| entry.path()));
        }
    }
    all
}

#[tokio::test]
async fn killed_at_sixty_percent_it_goes_on_from_there() {
    let rig = Rig::new();
    rig.tell("fail=kill\ntimes=1\nsize=8388608");
    rig.install(&run(VALHEIM), 1).await.expect("it is installed at the second try");
    let downloaded = rig.downloaded();
    let mut once = downloaded.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), downloaded.len(), "nothing is downloaded twice: {downloaded:?}");
    assert_eq!(rig.command_lines().len(), 2);
}

#[tokio::test]
async fn a_half_written_build_is_never_laid_out() {
    let rig = Rig::new();
    rig.tell("fail=kill\nsize=8388608");
    let error = rig.install(&run(VALHEIM), 1).await.expect_err("it is killed each time");
    assert_eq!(error.failure, Failure::Unexplained, "{error}");
    assert!(!rig.directory(1).join("valheim_server.x86_64").exists());
    assert_eq!(rig.steam.installed(&run(VALHEIM), server(1), &rig.root).expect("it can be seen"), None);
    rig.tell("size=8388608");
    rig.install(&run(VALHEIM), 1).await.expect("it goes on");
    assert!(rig.directory(1).join("valheim_server.x86_64").exists());
}

#[tokio::test]
async fn an_install_that_is_called_off_leaves_no_steamcmd() {
    let rig = Rig::new();
    rig.tell("fail=hang");
    let spec = run(VALHEIM);
    let install = rig.install(&spec, 1);
    let began = until("SteamCMD runs", || rig.command_lines().len(), |count| *count == 1);
    tokio::select! {
        result = install => panic!("it hangs, and ended with {result:?}"),
        _ = began => {}
    }
    until("SteamCMD is gone", || processes(&rig.root), Vec::is_empty).await;
    rig.tell("");
    rig.install(&run(VALHEIM), 1).await.expect("the lock is free");
}

#[tokio::test]
async fn two_installs_wait_for_each_other() {
    let rig = Rig::new();
    rig.tell("seconds=1");
    let (first, other) = (run(VALHEIM), spec(4020, serde_json::json!({})));
    let (first, second, third) = tokio::join!(rig.install(&first, 1), rig.install(&first, 2), rig.install(&other, 3));
    for result in [first, second, third] {
        result.expect("it is installed");
    }
    // One for both servers of the first game.
    assert_eq!(rig.command_lines().len(), 2);
    assert!(rig.seen.lock().expect("no panic").iter().any(|progress| progress.step.starts_with("waiting for another install")));
}

#[tokio::test]
async fn branches_and_platforms_have_bases_of_their_own() {
    let rig = Rig::new();
    rig.tell("build.public-test=2000");
    let beta = spec(VALHEIM, serde_json::json!({ "branch": "public-test" }));
    let installed = rig.install(&beta, 1).await.expect("it is installed");
    assert_eq!(installed.build, "2000");
    assert!(rig.command_lines()[0].windows(2).any(|words| words == ["-beta", "public-test"]));
    let windows = spec(VALHEIM, serde_json::json!({ "platform": "windows-proton" }));
    let error = rig.install(&windows, 2).await.expect_err("there is no Proton");
    assert_eq!(error.failure, Failure::NoProton);
    let with_proton = rig.again(|config| config.proton = Some("/bin/true".into()));
    with_proton.install(&windows, 2).await.expect("it is installed");
    assert!(rig.command_lines()[1].windows(2).any(|words| words == ["+@sSteamCmdForcePlatformType", "windows"]));
    assert_ne!(Steam::install_key(&beta), Steam::install_key(&windows));
    assert_eq!(windows.steam.expect("it is there").platform, Platform::WindowsProton);
}
