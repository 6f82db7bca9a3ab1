use std::time::Duration;

use manman_common::link::Call;
use manman_common::{Phase, ServerId};
use serde_json::{Value, json};

use crate::clock;
use crate::fleet::fake_worker::{FakeWorker, eventually, listen, status};
use crate::testing::TestHost;

const SOON: Duration = Duration::from_secs(10);

async fn running(host: &TestHost) -> (FakeWorker, ServerId) {
    let address = listen(host).await;
    let mut worker = FakeWorker::join(host, address, "attic").await;
    worker.link().await;
    let made = host.call("POST", "/server", json!({"game_id": "docker:manman/openarena", "name": "oa"})).await.expect(201);
    let id: ServerId = made["id"].as_str().expect("an id").parse().expect("an id");
    worker.beat(vec![status(id, 1, Phase::Ready)]).await.expect("a beat");
    (worker, id)
}

#[tokio::test]
async fn a_line_reaches_the_game_and_its_answer_comes_back() {
    let host = TestHost::start().await;
    let (worker, id) = running(&host).await;
    let answer = host.call("POST", "/server/oa/command", json!({"command": "say hi"})).await.expect(200);
    assert_eq!(answer["sent"], json!(["say hi"]));
    {
        let inner = worker.state.lock();
        let call = inner.calls.last().expect("a call");
        assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", format!("/server/{id}/command").as_str()));
        assert_eq!(call.body, json!({"command": "say hi"}));
        assert!(call.expect_instance.is_some(), "a late line does not reach the next instance");
    }
    let by_type = host.call("POST", "/server/oa/command", json!({"type": 200, "body": "status"})).await.expect(200);
    assert_eq!(by_type["sent"], json!(["status"]));
    // The worker's own refusal passes through, with the status that it chose.
    host.call("POST", "/server/oa/command", json!({"type": "COMMAND_1", "body": {}})).await;
    let action = worker.state.lock().calls.last().expect("a call").body.clone();
    assert!(action["action"].is_string(), "{action}");

    assert_eq!(host.call("POST", "/server/oa/command", json!({"type": "HEALTH"})).await.expect(200)["phase"], "Ready");
    let stopped = host.call("POST", "/server/oa/command", json!({"type": 3})).await.expect(202);
    assert_eq!(stopped["server"]["desired"], "stopped");
}

#[tokio::test]
async fn bad_commands_are_refused_before_they_travel() {
    let host = TestHost::start().await;
    let (worker, _) = running(&host).await;
    for (body, field) in [
        (json!({"command": "say hi\nquit"}), "command"),
        (json!({"command": "\u{1b}[2J"}), "command"),
        (json!({"command": ""}), "command"),
        (json!({"command": 7}), "command"),
        (json!({"commands": []}), "commands"),
        (json!({"commands": ["a", "b\r"]}), "commands[1]"),
        (json!({"commands": vec!["x"; 101]}), "commands"),
        (json!({"command": "x".repeat(5000)}), "command"),
        (json!({"action": "kick", "inputs": {"who": "a\nb"}}), "inputs.who"),
        (json!({"command": "a", "colour": 1}), "colour"),
        (json!({"type": 5}), "type"),
        (json!({"type": 199}), "type"),
        (json!({"type": "COMMAND_999"}), "type"),
        (json!({"type": "COMMAND", "body": 7}), "body"),
        (json!({}), ""),
        (json!({"command": "a", "action": "b"}), ""),
        (json!([1]), ""),
    ] {
        let shown = body.to_string();
        let problem = host.call("POST", "/server/oa/command", body).await.problem(400, "invalid");
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{shown:.80}: {problem:#}");
    }
    assert_eq!(worker.state.lock().commands(), Vec::<&Call>::new());
}

#[tokio::test]
async fn what_is_not_alive_is_said_at_once() {
    let host = TestHost::start().await;
    let (mut worker, id) = running(&host).await;
    worker.beat(vec![status(id, 1, Phase::Stopped)]).await.expect("a beat");
    let began = clock::instant();
    let problem = host.call("POST", "/server/oa/command", json!({"command": "a"})).await.problem(409, "not-alive");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("Stopped")), "{problem:#}");
    worker.beat(vec![status(id, 1, Phase::Ready)]).await.expect("a beat");
    worker.hang_up().await;
    eventually(SOON, || async {
        let answer = host.call("POST", "/server/oa/command", json!({"command": "a"})).await;
        if answer.status == 409 { Ok(()) } else { Err(answer.body.to_string()) }
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(5), "nothing waits for a time-out");
    host.call("POST", "/server/none/command", json!({"command": "a"})).await.problem(404, "not-found");
}

#[tokio::test]
async fn a_broken_link_is_indeterminate_and_nothing_is_sent_again() {
    let host = TestHost::start().await;
    let (mut worker, _) = running(&host).await;
    worker.state.lock().mute = true;
    let asking = host.call("POST", "/server/oa/command", json!({"command": "save"}));
    let breaking = async {
        let state = std::sync::Arc::clone(&worker.state);
        eventually(SOON, || async { if state.lock().commands().is_empty() { Err("no call".to_owned()) } else { Ok(()) } }).await;
        worker.hang_up().await;
    };
    let (answer, ()) = tokio::join!(asking, breaking);
    let problem = answer.problem(504, "timeout");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with("indeterminate")), "{problem:#}");
    worker.state.lock().mute = false;
    worker.link().await;
    assert_eq!(host.call("POST", "/server/oa/command", json!({"command": "next"})).await.expect(200)["sent"], json!(["next"]));
    let sent: Vec<Value> = worker.state.lock().commands().iter().map(|call| call.body["command"].clone()).collect();
    assert_eq!(sent, [json!("save"), json!("next")]);
}
