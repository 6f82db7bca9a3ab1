//! Accounts: what is typed goes to SteamCMD and nowhere else.

use std::sync::Mutex;

use manman_steam::{Ask, Failure, Secret};

use crate::rig::{Rig, VALHEIM, spec};

async fn login(rig: &Rig, answers: &[&str]) -> (Result<(), manman_steam::SteamError>, Vec<Ask>) {
    let asked = Mutex::new(Vec::new());
    let mut answers = answers.iter();
    let result = rig
        .steam
        .login("gamer", |ask| {
            asked.lock().expect("no panic").push(ask);
            if ask == Ask::Phone {
                return Ok(Secret::default());
            }
            answers.next().map(|answer| Secret::new((*answer).to_owned())).ok_or_else(|| std::io::Error::other("nobody is there"))
        })
        .await;
    (result, asked.into_inner().expect("no panic"))
}

#[tokio::test]
async fn an_account_signs_in_once() {
    let rig = Rig::new();
    rig.tell("password=correct horse\nguard=mail");
    let owned = spec(VALHEIM, serde_json::json!({ "login": "account" }));
    let error = rig.install(&owned, 1).await.expect_err("nobody has signed in");
    assert_eq!(error.failure, Failure::NoAccount);
    assert!(error.hint.expect("there is one").contains("steam login"));

    let (result, asked) = login(&rig, &["correct horse", "12345"]).await;
    result.expect("it is signed in");
    assert_eq!(asked, [Ask::Password, Ask::MailCode]);
    assert_eq!(rig.steam.account().expect("it can be read").as_deref(), Some("gamer"));

    rig.install(&owned, 1).await.expect("it is installed");
    let lines = rig.command_lines();
    assert!(lines[1].windows(3).any(|words| words == ["+login", "gamer", "+app_update"]), "{lines:?}");
    // Neither a command line nor a file of anybody has what was typed.
    let found = std::process::Command::new("grep")
        .args(["-r", "-l", "-e", "correct horse", "-e", "12345"])
        .arg(&rig.root)
        .output()
        .expect("grep runs");
    let files = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(files.trim(), rig.root.join("steam/home/stand-in").display().to_string(), "but for what the stand-in was told");

    rig.tell("expired=1");
    let error = rig.install(&spec(4020, serde_json::json!({ "login": "account" })), 2).await.expect_err("the login is old");
    assert_eq!(error.failure, Failure::LoginExpired, "{error}");
    assert!(error.hint.expect("there is one").contains("steam login"));
}

#[tokio::test]
async fn wrong_answers_are_told_apart() {
    for (options, answers, failure) in [
        ("", &["wrong"][..], Failure::InvalidPassword),
        ("guard=mail", &["secret", "99999"], Failure::GuardNeeded),
        ("guard=app", &["secret", "99999"], Failure::GuardNeeded),
        ("guard=app", &["secret"], Failure::GuardNeeded),
        ("fail=rate-limit", &["secret"], Failure::RateLimit),
        ("fail=no-connection", &["secret"], Failure::NoConnection),
        ("", &["se\ncret"], Failure::InvalidPassword),
    ] {
        let rig = Rig::new();
        rig.tell(options);
        let (result, _) = login(&rig, answers).await;
        let error = result.expect_err(options);
        assert_eq!(error.failure, failure, "{options} {answers:?}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(rig.steam.account().expect("it can be read"), None);
    }
}

#[tokio::test]
async fn codes_and_phones_are_asked_for() {
    for (options, answers, expected) in [
        ("guard=app", &["secret", "12345"][..], &[Ask::Password, Ask::AppCode][..]),
        ("guard=phone", &["secret"], &[Ask::Password, Ask::Phone]),
        ("", &["secret"], &[Ask::Password]),
    ] {
        let rig = Rig::new();
        rig.tell(options);
        let (result, asked) = login(&rig, answers).await;
        result.unwrap_or_else(|error| panic!("{options}: {error}"));
        assert_eq!(asked, expected, "{options}");
        // The second time SteamCMD still knows it.
        assert_eq!(login(&rig, &[]).await.1, []);
    }
}

#[tokio::test]
async fn a_name_is_no_option() {
    let rig = Rig::new();
    for bad in ["", "+quit", "a b", "-x", "anonymous", "me@example.org", "a\n+quit"] {
        let error = rig.steam.login(bad, |_| Ok(Secret::default())).await.expect_err(bad);
        assert_eq!(error.failure, Failure::InvalidPassword, "{bad}");
    }
    assert!(rig.command_lines().is_empty());
}
