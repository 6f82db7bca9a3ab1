//! Failures on demand: each has a name, words and a way on.

use std::os::unix::fs::symlink;
use std::time::Duration;

use manman_steam::{Failure, SteamErrorKind};

use crate::rig::{Rig, VALHEIM, processes, run, server, spec};

#[tokio::test]
async fn each_failure_has_a_name() {
    use SteamErrorKind::{Final, Retry};
    for (fail, failure, kind, runs) in [
        ("no-subscription", Failure::NoSubscription, Final, 1),
        ("invalid-platform", Failure::InvalidPlatform, Final, 1),
        ("missing-configuration", Failure::MissingConfiguration, Final, 3),
        ("disk-write", Failure::DiskFull, Retry, 1),
        ("rate-limit", Failure::RateLimit, Retry, 1),
        ("no-connection", Failure::NoConnection, Retry, 3),
        ("appinfo-timeout", Failure::NoConnection, Retry, 3),
        ("silent", Failure::Unexplained, Retry, 3),
        ("0x202", Failure::AppState(0x202), Retry, 3),
        ("0x212", Failure::AppState(0x212), Retry, 3),
        ("0x602", Failure::AppState(0x602), Retry, 3),
        ("0x402", Failure::AppState(0x402), Retry, 3),
        ("0x6", Failure::AppState(0x6), Retry, 3),
        ("0x10e", Failure::AppState(0x10e), Retry, 3),
    ] {
        let rig = Rig::new();
        rig.tell(&format!("fail={fail}"));
        let error = rig.install(&run(VALHEIM), 1).await.expect_err(fail);
        assert_eq!((error.failure, error.kind()), (failure, kind), "{fail}: {error}");
        assert!(error.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{fail} has no hint");
        assert!(error.to_string().starts_with(|c: char| !c.is_ascii_uppercase() || error.to_string().starts_with("Steam")), "{error}");
        assert_eq!(rig.command_lines().len(), runs, "{fail}");
        assert!(!rig.directory(1).join("valheim_server.x86_64").exists());
        // Whatever it was, the next try may do better.
        rig.tell("");
        if failure != Failure::RateLimit {
            rig.install(&run(VALHEIM), 1).await.unwrap_or_else(|error| panic!("after {fail}: {error}"));
        }
    }
}

#[tokio::test]
async fn a_rate_limit_is_not_made_longer() {
    let rig = Rig::new();
    rig.tell("fail=rate-limit");
    let error = rig.install(&run(VALHEIM), 1).await.expect_err("Steam refuses");
    assert!(error.retry_after().is_some());
    rig.tell("");
    assert_eq!(rig.install(&run(VALHEIM), 1).await.expect_err("it is not even tried").failure, Failure::RateLimit);
    assert_eq!(rig.command_lines().len(), 1);
}

#[tokio::test]
async fn standing_still_is_ended_and_gone_on_with() {
    for fail in ["hang", "repeat"] {
        let rig = Rig::new();
        rig.tell(&format!("fail={fail}\ntimes=1\nsize=4194304"));
        let rig = rig.again(|config| config.inactive_after = Duration::from_secs(2));
        rig.install(&run(VALHEIM), 1).await.unwrap_or_else(|error| panic!("{fail}: {error}"));
        assert_eq!(rig.command_lines().len(), 2, "{fail}");
    }
    let rig = Rig::new();
    rig.tell("fail=hang");
    let rig = rig.again(|config| config.inactive_after = Duration::from_secs(1));
    let error = rig.install(&run(VALHEIM), 1).await.expect_err("it stands still each time");
    assert_eq!(error.failure, Failure::Inactive);
    assert!(processes(&rig.root).is_empty());
}

#[tokio::test]
async fn noise_and_self_updates_are_no_failures() {
    let rig = Rig::new();
    rig.tell("fail=noise\nself-update=2");
    rig.install(&run(VALHEIM), 1).await.expect("it is installed");
    assert!(rig.seen.lock().expect("no panic").iter().any(|progress| progress.step.contains("up to date")));
    let rig = Rig::new();
    rig.tell("self-update=100");
    assert_eq!(rig.install(&run(VALHEIM), 1).await.expect_err("it updates for ever").failure, Failure::Tool);
}

#[tokio::test]
async fn success_without_the_game_is_none() {
    let rig = Rig::new();
    rig.tell("fail=empty");
    let error = rig.install(&run(VALHEIM), 1).await.expect_err("there are no files");
    assert_eq!(error.failure, Failure::Incomplete, "{error}");
    assert!(error.to_string().contains("valheim_server.x86_64"), "{error}");
    let rig = Rig::new();
    let wrong = spec(VALHEIM, serde_json::json!({ "expect": ["Valheim_Server.x86_64"] }));
    assert_eq!(rig.install(&wrong, 1).await.expect_err("letters have a case").failure, Failure::Incomplete);
}

#[tokio::test]
async fn an_app_that_nobody_knows_is_refused() {
    let rig = Rig::new();
    let error = rig.install(&spec(999_999_999, serde_json::json!({})), 1).await.expect_err("there is none");
    assert_eq!(error.failure, Failure::NoSubscription, "{error}");
    let nowhere = spec(VALHEIM, serde_json::json!({ "branch": "nowhere" }));
    assert_eq!(rig.install(&nowhere, 1).await.expect_err("there is no such branch").failure, Failure::MissingConfiguration);
}

#[tokio::test]
async fn nothing_is_laid_out_outside_the_data() {
    let rig = Rig::new();
    let elsewhere = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(rig.directory(1).parent().expect("it has one")).expect("it is made");
    symlink(elsewhere.path(), rig.directory(1)).expect("it is made");
    assert_eq!(rig.install(&run(VALHEIM), 1).await.expect_err("it is a link").failure, Failure::Outside);
    for outside in [elsewhere.path().to_owned(), rig.root.join("servers/../../x")] {
        let error = rig.steam.install(&run(VALHEIM), server(2), &outside, None, |_| {}).await.expect_err("it is outside");
        assert_eq!(error.failure, Failure::Outside);
    }
    // A game's user planted a link where the build has a directory.
    std::fs::create_dir_all(rig.directory(3)).expect("it is made");
    symlink(elsewhere.path(), rig.directory(3).join("stand-in")).expect("it is made");
    assert_eq!(rig.install(&run(VALHEIM), 3).await.expect_err("it is a link").failure, Failure::Outside);
    // And where it has a file: that is replaced, what it leads to is not touched.
    let treasure = elsewhere.path().join("treasure");
    std::fs::write(&treasure, "safe").expect("it is written");
    std::fs::create_dir_all(rig.directory(4)).expect("it is made");
    symlink(&treasure, rig.directory(4).join("valheim_server.x86_64")).expect("it is made");
    rig.install(&run(VALHEIM), 4).await.expect("it is installed");
    assert_eq!(std::fs::read_to_string(&treasure).expect("it is there"), "safe");
    assert!(!rig.directory(4).join("valheim_server.x86_64").is_symlink());
    assert_eq!(std::fs::read_dir(elsewhere.path()).expect("it is read").count(), 1);
    let bad = spec(VALHEIM, serde_json::json!({ "expect": ["../../etc/passwd"] }));
    assert_eq!(rig.install(&bad, 5).await.expect_err("it leads out").failure, Failure::Outside);
}
