//! A newer build, and what it leaves alone.

use std::fs::{self, File};
use std::io::Read as _;

use manman_common::Generation;
use manman_common::spec::UpdatePolicy;

use crate::rig::{Rig, VALHEIM, inode, run, server, text};

#[tokio::test]
async fn an_update_changes_the_game_and_not_the_server() {
    let rig = Rig::new();
    rig.install(&run(VALHEIM), 1).await.expect("it is installed");
    rig.install(&run(VALHEIM), 2).await.expect("it is installed");
    assert_eq!(rig.steam.update_available(&run(VALHEIM), server(1)).await.expect("Steam answers"), None);
    let directory = rig.directory(1);
    fs::write(directory.join("stand-in/defaults.cfg"), "mine").expect("it is written");
    fs::create_dir_all(directory.join("worlds")).expect("it is made");
    fs::write(directory.join("worlds/one"), "a world").expect("it is written");
    fs::write(directory.join("stand-in/only-in-1001.pak"), "in the way").expect("it is written");
    let mut running = File::open(directory.join("stand-in/content.pak")).expect("it is there");
    let same = inode(directory.join("stand-in/same.pak"));

    rig.tell("build=1001");
    // Nobody asked for it: what is here is good enough.
    assert_eq!(rig.install(&run(VALHEIM), 1).await.expect("it is there").build, "1000");
    assert_eq!(rig.steam.update_available(&run(VALHEIM), server(1)).await.expect("Steam answers"), Some("1001".to_owned()));
    assert_eq!(rig.install(&run(VALHEIM), 1).await.expect("it is updated").build, "1001");

    assert_eq!(text(directory.join("stand-in/defaults.cfg")), "mine");
    assert_eq!(text(directory.join("worlds/one")), "a world");
    assert_eq!(text(directory.join("stand-in/build.txt")), "1001 public\n");
    assert_eq!(text(directory.join("stand-in/only-in-1001.pak")), "only in 1001\n");
    assert!(!directory.join("stand-in/only-in-1000.pak").exists(), "what the new build no longer has is gone");
    assert_eq!(inode(directory.join("stand-in/same.pak")), same, "what is the same is not touched");
    assert!(text(directory.join("stand-in/content.pak")).starts_with("content of 896660 1001\n"));
    let mut old = String::new();
    running.read_to_string(&mut old).expect("it is read");
    assert!(old.starts_with("content of 896660 1000\n"), "who had the old file open keeps it");

    // The other server still has what it had, all of it, until it is its turn.
    let other = rig.directory(2);
    assert_eq!(text(other.join("stand-in/build.txt")), "1000 public\n");
    assert!(text(other.join("stand-in/content.pak")).starts_with("content of 896660 1000\n"));
    assert_eq!(rig.steam.update_available(&run(VALHEIM), server(2)).await.expect("Steam answers"), Some("1001".to_owned()));
    let runs = rig.command_lines().len();
    assert_eq!(rig.install(&run(VALHEIM), 2).await.expect("it is updated").build, "1001");
    assert_eq!(rig.command_lines().len(), runs, "it is here already");
    // A default that this server never changed is the new one.
    assert_eq!(text(other.join("stand-in/defaults.cfg")), "// defaults of build 1001\nname stand-in\n");
}

#[tokio::test]
async fn an_update_that_fails_leaves_the_old_build_good() {
    let rig = Rig::new();
    rig.install(&run(VALHEIM), 1).await.expect("it is installed");
    rig.tell("build=1001");
    assert!(rig.steam.update_available(&run(VALHEIM), server(1)).await.expect("Steam answers").is_some());
    rig.tell("build=1001\nfail=no-connection");
    assert_eq!(rig.install(&run(VALHEIM), 1).await.expect("it keeps its own").build, "1000");
    let found = rig.steam.installed(&run(VALHEIM), server(1), &rig.directory(1)).expect("it can be seen");
    assert_eq!(found.expect("it still has its game").build, "1000");
    // After a restart of the worker, with Steam still away, there is enough for another server.
    rig.again(|_| {}).install(&run(VALHEIM), 2).await.expect("the base is good");

    // Broken off in the middle, it is not.
    rig.tell("build=1001\nfail=kill\nsize=4194304");
    assert_eq!(rig.install(&run(VALHEIM), 1).await.expect("it keeps its own").build, "1000");
    rig.tell("build=1001\nfail=no-connection\nsize=4194304");
    rig.again(|_| {}).install(&run(VALHEIM), 3).await.expect_err("the base is half written");
    assert!(!rig.directory(3).join("valheim_server.x86_64").exists());
    let found = rig.steam.installed(&run(VALHEIM), server(1), &rig.directory(1)).expect("it can be seen");
    assert_eq!(found.expect("its own files are whole").build, "1000");
}

#[tokio::test]
async fn what_is_missing_is_put_back() {
    let rig = Rig::new();
    rig.install(&run(VALHEIM), 1).await.expect("it is installed");
    let game = rig.directory(1).join("valheim_server.x86_64");
    fs::remove_file(&game).expect("it is removed");
    assert_eq!(rig.steam.installed(&run(VALHEIM), server(1), &rig.directory(1)).expect("it can be seen"), None);
    rig.install(&run(VALHEIM), 1).await.expect("it is laid out again");
    assert!(game.exists());
    assert_eq!(rig.command_lines().len(), 1);
    rig.steam.forget(server(1)).expect("it is forgotten");
    assert_eq!(rig.steam.installed(&run(VALHEIM), server(1), &rig.directory(1)).expect("it can be seen"), None);
}

#[tokio::test]
async fn a_game_can_be_brought_ahead_of_its_servers() {
    let rig = Rig::new();
    let app = manman_steam::App::new(VALHEIM, None).expect("an app");
    assert_eq!(rig.steam.fetch_app(&app, |_| {}).await.expect("it is brought").build, "1000");
    assert_eq!(rig.steam.apps().expect("they can be seen"), [("896660-public-linux".to_owned(), Some("1000".to_owned()))]);
    rig.tell("build=1001");
    assert_eq!(rig.steam.fetch_app(&app, |_| {}).await.expect("by hand, the newest is brought").build, "1001");
    assert_eq!(rig.install(&run(VALHEIM), 1).await.expect("it is laid out").build, "1001");
    assert_eq!(rig.command_lines().len(), 2);
}

#[tokio::test]
async fn a_start_that_a_person_asked_for_brings_the_newest() {
    let rig = Rig::new();
    let mut spec = run(VALHEIM);
    spec.update = UpdatePolicy::Start;
    let directory = rig.directory(1);
    let start = |generation: u64| rig.steam.for_start(&spec, server(1), &directory, Generation::new(generation)).expect("it can be seen");
    rig.install(&spec, 1).await.expect("it is installed");
    assert!(start(1).is_some(), "what was just installed is started");
    rig.tell("build=1001");
    // It crashed: the same again, and Steam is not even asked.
    assert_eq!(start(1).expect("it is whole").build, "1000");
    assert_eq!(rig.command_lines().len(), 1);
    assert_eq!(start(2), None, "a person starts it");
    assert_eq!(rig.install(&spec, 1).await.expect("it is updated").build, "1001");
    assert_eq!(start(2).expect("it is whole").build, "1001");

    // Nobody has to wait for a Steam that is away.
    rig.tell("build=1002\nfail=no-connection");
    assert_eq!(start(3), None);
    assert_eq!(rig.install(&spec, 1).await.expect("it keeps its own").build, "1001");
    assert_eq!(start(3).expect("it is whole").build, "1001");
}

#[tokio::test]
async fn by_hand_means_by_hand() {
    let rig = Rig::new();
    let mut spec = run(VALHEIM);
    spec.update = UpdatePolicy::Manual;
    let directory = rig.directory(1);
    let start = |generation: u64| rig.steam.for_start(&spec, server(1), &directory, Generation::new(generation)).expect("it can be seen");
    rig.install(&spec, 1).await.expect("it is installed");
    rig.tell("build=1001");
    assert!(start(1).is_some() && start(2).is_some(), "Steam is never asked");
    assert_eq!(rig.command_lines().len(), 1);
    let app = manman_steam::App::new(VALHEIM, None).expect("an app");
    rig.steam.fetch_app(&app, |_| {}).await.expect("a person brings it");
    assert_eq!(start(2).expect("a crash changes nothing").build, "1000");
    assert_eq!(start(3), None);
    assert_eq!(rig.install(&spec, 1).await.expect("it is laid out").build, "1001");
    assert_eq!(start(3).expect("it is whole").build, "1001");
}
