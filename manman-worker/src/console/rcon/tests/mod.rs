//! Against small peers that speak as the real games do, and against some that lie.

mod decode;
pub(crate) mod peers;

use std::time::Duration;

use manman_common::spec::ConsoleAccess;
use regex::bytes::Regex;
use tokio::time::Instant;

use super::*;
use crate::clock;
use peers::{Manners, SECRET};

/// What the game said, and how it ended.
async fn ask(protocol: Protocol, port: u16, line: &str) -> Result<(End, Vec<String>), RemoteError> {
    ask_with(protocol, port, Some(SECRET), line, None).await
}

async fn ask_with(
    protocol: Protocol,
    port: u16,
    secret: Option<&str>,
    line: &str,
    until: Option<&Regex>,
) -> Result<(End, Vec<String>), RemoteError> {
    let access = ConsoleAccess { port, secret: secret.map(str::to_owned) };
    let deadline = Instant::now() + Duration::from_secs(6);
    let (first, silence) = protocol.usual_waits();
    let mut talk = Remotes::default().open(clock::new_instance_id(), protocol, &access, deadline).await?;
    let mut reply = Collected::default();
    let end = talk.say(line, &Patience { first, silence, deadline, until }, &mut reply).await?;
    Ok((end, reply.lines(Some(SECRET))))
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn source_replies_in_pieces_are_put_together() {
    let port = peers::source(Manners::default()).await;
    let (end, said) = ask(Protocol::Source, port, "echo one \"two\" äöü").await.expect("an answer");
    assert_eq!((end, said), (End::Whole, lines("one \"two\" äöü")));
    let (end, said) = ask(Protocol::Source, port, "many 700").await.expect("an answer");
    assert_eq!((end, said.len()), (End::Whole, 700));
    assert_eq!(said[699], "line 699 of 700");
    let (end, said) = ask(Protocol::Source, port, "nothing").await.expect("an answer");
    assert_eq!((end, said), (End::Whole, lines("")));
    let error = ask(Protocol::Source, port, &"x".repeat(4087)).await.expect_err("too long");
    assert!(matches!(error.fault, Fault::TooLong { .. }));
}

#[tokio::test]
async fn source_over_a_line_that_drips_and_a_game_that_marks_no_end() {
    let port = peers::source(Manners { drip: true, ..Manners::default() }).await;
    assert_eq!(ask(Protocol::Source, port, "echo a b").await.expect("an answer"), (End::Whole, lines("a b")));
    let port = peers::source(Manners { mirrors: false, chats: true, ..Manners::default() }).await;
    assert_eq!(ask(Protocol::Source, port, "echo a b").await.expect("an answer"), (End::Quiet, lines("a b")));
    let saved = Regex::new("^World saved$").expect("a pattern");
    let (end, said) = ask_with(Protocol::Source, port, Some(SECRET), "save", Some(&saved)).await.expect("an answer");
    assert_eq!((end, said), (End::Whole, lines("saving\nWorld saved")));
}

#[tokio::test]
async fn a_wrong_password_is_named_and_never_shown() {
    let port = peers::source(Manners::default()).await;
    for (secret, what) in [(Some("wrong word"), "refuses the password"), (None, "asks for a password")] {
        let error = ask_with(Protocol::Source, port, secret, "echo a", None).await.expect_err("it is refused");
        let problem = error.problem();
        let all = format!("{error} {error:?} {problem:?}");
        assert!(all.contains(what) && !all.contains("wrong word"), "{all}");
        assert_eq!(problem.status, 409);
    }
    let port = peers::source(Manners { shuts_door: true, ..Manners::default() }).await;
    let error = ask(Protocol::Source, port, "echo a").await.expect_err("it is refused");
    assert!(matches!(error.fault, Fault::TurnedAway), "{error:?}");
    let port = peers::nobody();
    let error = ask(Protocol::Source, port, "echo a").await.expect_err("nobody");
    assert!(matches!(error.fault, Fault::Unreachable(_)) && error.problem().status == 503, "{error:?}");
}

#[tokio::test]
async fn minecraft_loses_a_packet_that_comes_with_another() {
    let port = peers::minecraft().await;
    assert_eq!(ask(Protocol::Minecraft, port, "echo a b").await.expect("an answer"), (End::Whole, lines("a b")));
    let (end, said) = ask(Protocol::Minecraft, port, "many 700").await.expect("an answer");
    assert_eq!((end, said.len()), (End::Whole, 700));
    // Exactly one fragment, of characters that are two bytes each.
    let (end, said) = ask(Protocol::Minecraft, port, "wide 4096").await.expect("an answer");
    assert_eq!((end, said[0].chars().count()), (End::Whole, 4096));
    assert!(ask(Protocol::Minecraft, port, &"x".repeat(1446)).await.is_ok());
    let error = ask(Protocol::Minecraft, port, &"x".repeat(1447)).await.expect_err("too long");
    assert_eq!(error.problem().field.as_deref(), Some("command"));
    let error = ask_with(Protocol::Minecraft, port, Some("wrong"), "list", None).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Refused), "{error:?}");
}

#[tokio::test]
async fn a_connection_is_kept_and_made_again_when_the_game_has_hung_up() {
    let (port, connections) = peers::counted_source(Manners { lines_each: 2, ..Manners::default() }).await;
    let remotes = Remotes::default();
    let instance = clock::new_instance_id();
    let access = ConsoleAccess { port, secret: Some(SECRET.to_owned()) };
    let deadline = Instant::now() + Duration::from_secs(10);
    let patience = Patience { first: Duration::from_secs(2), silence: Duration::from_millis(300), deadline, until: None };
    for n in 0..6 {
        let mut talk = remotes.open(instance, Protocol::Source, &access, deadline).await.expect("it opens");
        let mut reply = Collected::default();
        talk.say(&format!("echo {n}"), &patience, &mut reply).await.expect("an answer");
        assert_eq!(reply.lines(None), [n.to_string()]);
        drop(talk);
        if n % 2 == 1 {
            // The peer's end of the connection is on its way.
            let closed = async {
                while connections.open() > 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(5), closed).await.expect("the peer hangs up");
        }
    }
    assert_eq!(connections.made(), 3);
}

#[tokio::test]
async fn a_line_that_ends_the_game_is_lost_and_sent_once() {
    let (port, connections) = peers::counted_source(Manners::default()).await;
    let error = ask(Protocol::Source, port, "quit").await.expect_err("it hangs up");
    assert!(error.fault.was_sent() && error.problem().status == 504, "{error:?}");
    assert_eq!((connections.made(), connections.lines()), (1, 1));
}

#[tokio::test]
async fn quake3_answers_in_datagrams() {
    let port = peers::quake3().await;
    assert_eq!(ask(Protocol::Quake3, port, "echo a \"b\"").await.expect("an answer"), (End::Quiet, lines("a \"b\"")));
    let (_, said) = ask(Protocol::Quake3, port, "many 300").await.expect("an answer");
    assert_eq!((said.len(), said[299].as_str()), (300, "line 299 of 300"));
    let error = ask_with(Protocol::Quake3, port, Some("wrong"), "status", None).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Refused), "{error:?}");
    let error = ask_with(Protocol::Quake3, port, Some("two words"), "status", None).await.expect_err("never sent");
    assert!(matches!(error.fault, Fault::BadSecret(_)), "{error:?}");
    assert_eq!(ask(Protocol::Quake3, port, "quit").await.expect("no answer").0, End::Mute);
    let error = ask(Protocol::Quake3, peers::nobody_udp(), "status").await.expect_err("nobody");
    assert!(matches!(error.fault, Fault::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn quake3_is_not_asked_faster_than_it_listens() {
    let port = peers::quake3().await;
    let remotes = Remotes::default();
    let access = ConsoleAccess { port, secret: Some(SECRET.to_owned()) };
    let deadline = Instant::now() + Duration::from_secs(8);
    let patience = Patience { first: Duration::from_secs(1), silence: Duration::from_millis(50), deadline, until: None };
    let mut talk = remotes.open(clock::new_instance_id(), Protocol::Quake3, &access, deadline).await.expect("it opens");
    for n in 0..11 {
        let mut reply = Collected::default();
        talk.say(&format!("echo {n}"), &patience, &mut reply).await.expect("an answer");
        assert_eq!(reply.lines(None), [n.to_string()], "the peer drops what comes too fast");
    }
}

#[tokio::test]
async fn telnet_asks_for_its_password() {
    let port = peers::telnet(Some(SECRET)).await;
    let (end, said) = ask(Protocol::Telnet, port, "listplayers").await.expect("an answer");
    assert_eq!(end, End::Quiet);
    assert_eq!(said, lines("INF Executing command 'listplayers' by Telnet\nTotal of 0 in the game"));
    let saved = Regex::new("World saved").expect("a pattern");
    let (end, said) = ask_with(Protocol::Telnet, port, Some(SECRET), "saveworld", Some(&saved)).await.expect("an answer");
    assert_eq!((end, said.last().map(String::as_str)), (End::Whole, Some("World saved")));
    let error = ask_with(Protocol::Telnet, port, Some("wrong"), "help", None).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::Refused), "{error:?}");
    let error = ask_with(Protocol::Telnet, port, None, "help", None).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::NoSecret), "{error:?}");
    let port = peers::telnet(None).await;
    let (_, said) = ask_with(Protocol::Telnet, port, None, "help", None).await.expect("an answer");
    assert_eq!(said.last().map(String::as_str), Some("said: help"));
}

#[tokio::test]
async fn web_replies_are_told_from_the_log() {
    let port = peers::web().await;
    assert_eq!(ask(Protocol::Web, port, "echo a \"b\"").await.expect("an answer"), (End::Whole, lines("a \"b\"")));
    assert_eq!(ask(Protocol::Web, port, "silent").await.expect("none").0, End::Mute);
    let error = ask_with(Protocol::Web, port, Some("wrong"), "status", None).await.expect_err("refused");
    assert!(matches!(error.fault, Fault::TurnedAway | Fault::Refused) && error.fault.is_about_password(), "{error:?}");
    assert!(ask_with(Protocol::Web, port, Some("no/t?it"), "status", None).await.is_err());
}

#[tokio::test]
async fn liars_and_floods_end_in_words_and_in_time() {
    let hostile: [(&str, Vec<u8>); 5] = [
        ("a length of 2 GiB", [&i32::MAX.to_le_bytes()[..], &[7; 64]].concat()),
        ("a negative length", vec![0xff; 64]),
        ("a packet that never ends", [&4000u32.to_le_bytes()[..], &[0; 20]].concat()),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("nothing", Vec::new()),
    ];
    let mut asking = tokio::task::JoinSet::new();
    for protocol in [Protocol::Source, Protocol::Minecraft, Protocol::Web] {
        for (what, bytes) in hostile.clone() {
            let port = peers::says(bytes).await;
            asking.spawn(async move {
                let asked = tokio::time::timeout(Duration::from_secs(9), ask(protocol, port, "status")).await;
                let error = asked.unwrap_or_else(|_| panic!("{what} to {protocol:?} took too long")).expect_err(what);
                assert!(!format!("{error:?}").contains(SECRET));
            });
        }
    }
    while let Some(ended) = asking.join_next().await {
        ended.expect("no panic");
    }
    for (protocol, port) in [
        (Protocol::Source, peers::source(Manners { floods: true, ..Manners::default() }).await),
        (Protocol::Telnet, peers::floods_telnet().await),
    ] {
        let asked = tokio::time::timeout(Duration::from_secs(9), ask(protocol, port, "flood")).await;
        let (end, said) = asked.expect("in time").expect("what came of it");
        assert!(end == End::Cut && said.len() <= 1001, "{protocol:?}: {end:?}, {} lines", said.len());
    }
}
