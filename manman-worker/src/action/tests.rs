use std::collections::BTreeMap;

use manman_common::wire::{ActionFailure, ActionRun, ActionState};
use manman_common::{CommandId, ServerId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::place::interpreter;
use super::teller::{Teller, event};
use super::{Failed, ended};
use crate::clock;
use crate::store::Store;

fn run(id: u128) -> ActionRun {
    ActionRun {
        id: CommandId::from_uuid(Uuid::from_u128(id)),
        server_id: ServerId::from_uuid(Uuid::from_u128(7)),
        action: "look".to_owned(),
        actor: "admin".to_owned(),
        inputs: BTreeMap::new(),
        state: ActionState::Running,
        progress: None,
        answer: Value::Null,
        reason: None,
        problem: None,
        began_at: clock::now(),
        ended_at: None,
    }
}

#[tokio::test]
async fn a_run_is_begun_once_and_its_end_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store").store;
    let one = run(1);
    assert!(store.action_begin(one.clone(), event("server.action_started", &one, "begins")).await.expect("stored"));
    assert!(
        !store.action_begin(one.clone(), event("server.action_started", &one, "begins")).await.expect("looked up"),
        "the same id again"
    );
    assert_eq!(store.actions_cut_off().await.expect("read"), std::slice::from_ref(&one));
    // Its worker was killed: the next one says so, and only once.
    let over = ended(&one, &Err(Failed::interrupted()));
    assert_eq!((over.state, over.reason), (ActionState::Failed, Some(ActionFailure::Interrupted)));
    store.action_end(over.clone(), event("server.action", &over, "failed")).await.expect("stored");
    store.action_end(over.clone(), event("server.action", &over, "failed")).await.expect("stored");
    assert!(store.actions_cut_off().await.expect("read").is_empty());
    assert_eq!(store.action_find(one.server_id, one.id).await.expect("read"), Some(over));
    assert_eq!(store.action_find(ServerId::from_uuid(Uuid::from_u128(8)), one.id).await.expect("read"), None, "another server's run");
    let kinds: Vec<String> = store.events_after(0, 100).await.expect("read").into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["server.action_started", "server.action"]);
}

#[tokio::test]
async fn progress_is_told_at_once_and_becomes_few_events() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store").store;
    let (teller, told) = Teller::new(run(1), vec!["pass".to_owned(), "password".to_owned()]);
    let speaking = async {
        for number in 0..150_u32 {
            teller.say(Some(u8::try_from(number / 2).expect("at most a hundred")), &format!("step {number} of password\n\u{1b}[2J"));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    // Cancel-safe: the herald only tells.
    tokio::select! {
        () = speaking => {}
        () = teller.herald(&store) => unreachable!("it never ends"),
    }
    let step = told.borrow().progress.clone().expect("progress").step;
    assert_eq!(step, "step 149 of ***  [2J", "no secret and no control character");
    let events = store.events_after(0, 1000).await.expect("read");
    assert!((1..=4).contains(&events.len()), "{} events of 150 words in two seconds", events.len());
    assert!(events.iter().all(|event| event.kind == "server.action_progress" && !event.data.to_string().contains("password")));
}

#[test]
fn what_runs_a_script() {
    assert_eq!(interpreter("echo hi\n"), ["/bin/sh"]);
    assert_eq!(interpreter("#!/usr/bin/python3\nprint()\n"), ["/usr/bin/python3"]);
    assert_eq!(interpreter("#! /usr/bin/env bash -e\n"), ["/usr/bin/env", "bash -e"], "one argument, as the kernel does it");
    assert_eq!(interpreter("#!\n"), ["/bin/sh"]);
    assert_eq!(interpreter(""), ["/bin/sh"]);
}

#[test]
fn a_long_answer_is_not_in_the_event() {
    let mut long = run(1);
    long.answer = json!("x".repeat(100_000));
    let data = event("server.action", &long, "is done").data;
    assert!(data.to_string().len() < 2000, "{} bytes", data.to_string().len());
    long.answer = json!({"a": 1});
    assert_eq!(event("server.action", &long, "is done").data["run"]["answer"], json!({"a": 1}));
}
