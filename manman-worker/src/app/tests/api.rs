//! The worker's own listener: who gets in, and what bad input is answered with.

use super::{Answer, TestWorker, ask, config, server_id};
use crate::logs::{LogBook, Retention};

fn problem(answer: &Answer, status: u16, kind: &str) -> serde_json::Value {
    assert_eq!((answer.status, answer.content_type.as_str()), (status, "application/problem+json"), "{answer:?}");
    let json = answer.json();
    assert_eq!(json["type"], kind, "{answer:?}");
    json
}

#[tokio::test]
async fn nobody_gets_in_without_the_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let worker = TestWorker::start(config(directory.path(), None)).await;
    let address = worker.ready.api_address;
    assert!(address.ip().is_loopback(), "it listens on loopback unless told otherwise");
    for headers in ["", "authorization: Bearer mm_api_wrong\r\n", "authorization: Basic Zm9v\r\n"] {
        for path in ["/status", "/server", "/no/such/route"] {
            problem(&ask(address, "GET", path, headers, "").await, 401, "unauthenticated");
        }
    }
    let file = std::fs::read_to_string(directory.path().join("api-token")).expect("the token is in a file");
    let headers = format!("authorization: Bearer {}\r\n", file.trim());
    assert_eq!(ask(address, "GET", "/status", &headers, "").await.body, "ok");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(directory.path().join("api-token")).expect("it is there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    worker.stop().await;
}

#[tokio::test]
async fn bad_input_is_told_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let worker = TestWorker::start(config(directory.path(), None)).await;
    problem(&worker.get("/nowhere").await, 404, "not-found");
    problem(&worker.ask("PATCH", "/status", "").await, 405, "method-not-allowed");
    problem(&worker.get("/server/oa").await, 404, "not-found");
    problem(&worker.post("/server/oa/start", "").await, 404, "not-found");
    problem(&worker.post("/shutdown?reason=boredom", "").await, 400, "invalid");
    problem(&worker.get("/status?format=xml").await, 400, "invalid");

    let field = |answer: Answer, expected: &str| {
        let json = problem(&answer, 400, "invalid");
        assert_eq!(json["field"], expected, "{json}");
    };
    problem(&worker.post("/server", "{").await, 400, "invalid");
    field(worker.post("/server", r#"{"game_id": "floppy:1"}"#).await, "game_id");
    field(worker.post("/server", r#"{"game_id": "docker:a", "name": "a/b"}"#).await, "name");
    field(worker.post("/server", r#"{"game_id": "docker:a", "id": 7}"#).await, "id");
    let bad_port = r#"{"game_id": "docker:a", "ports": [{"name": "g", "protocol": "udp", "port": 70000}]}"#;
    field(worker.post("/server", bad_port).await, "ports[0].port");
    field(worker.post("/ports/check", r#"{"ports": [{"port": 1}, {"port": 0}]}"#).await, "ports[1].port");

    let long = format!("{{\"game_id\": \"{}\"}}", "x".repeat(2 * 1024 * 1024));
    problem(&worker.post("/server", &long).await, 413, "too-large");
    assert_eq!(worker.get("/server").await.json()["items"].as_array().map(Vec::len), Some(0), "nothing half-made remains");
    worker.stop().await;
}

#[tokio::test]
async fn a_server_made_here_lives_its_life_here() {
    let directory = tempfile::tempdir().expect("a directory");
    let worker = TestWorker::start(config(directory.path(), None)).await;
    let id = server_id(5);
    let body = format!(r#"{{"id": "{id}", "game_id": "docker:a/b", "desired": "stopped", "name": "mine"}}"#);
    let made = worker.post("/server", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["created_here"], true);
    assert_eq!(worker.post("/server", &body).await.status, 200, "the same again changes nothing");
    let other = body.replace("a/b", "c/d");
    problem(&worker.post("/server", &other).await, 409, "conflict");
    for path in [format!("/server/{id}"), "/server/mine".to_owned(), "/server/MINE".to_owned()] {
        assert_eq!(worker.get(&path).await.json()["id"], id.to_string());
    }
    assert_eq!(worker.post(&format!("/server/{id}/start"), "").await.status, 202);
    assert_eq!(worker.post(&format!("/server/{id}/start"), "").await.status, 200, "a second start is none");
    assert_eq!(worker.post(&format!("/server/{id}/shutdown"), "").await.status, 202);
    assert_eq!(worker.ask("DELETE", &format!("/server/{id}"), "").await.status, 202);
    worker.stop().await;
}

#[tokio::test]
async fn frozen_stays_frozen() {
    let directory = tempfile::tempdir().expect("a directory");
    let worker = TestWorker::start(config(directory.path(), None)).await;
    assert_eq!(worker.post("/freeze", "").await.json()["status"], "frozen");
    problem(&worker.post("/server", r#"{"game_id": "docker:a"}"#).await, 409, "conflict");
    worker.stop().await;
    let worker = TestWorker::start(config(directory.path(), None)).await;
    assert_eq!(worker.get("/status?format=json").await.json()["status"], "frozen");
    assert_eq!(worker.post("/unfreeze", "").await.json()["status"], "alive");
    assert_eq!(worker.post("/server", r#"{"game_id": "docker:a", "desired": "stopped"}"#).await.status, 201);
    worker.stop().await;
}

#[tokio::test]
async fn taken_ports_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let worker = TestWorker::start(config(directory.path(), None)).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let port = taken.local_addr().expect("it is bound").port();
    let check = |port: u16| format!(r#"{{"ports": [{{"protocol": "tcp", "port": {port}}}]}}"#);
    let busy = worker.post("/ports/check", &check(port)).await;
    assert_eq!(busy.json(), serde_json::json!({"busy": [{"protocol": "tcp", "port": port}]}));
    drop(taken);
    let free = worker.post("/ports/check", &check(port)).await;
    assert_eq!(free.json(), serde_json::json!({"busy": []}));
    worker.stop().await;
}

#[tokio::test]
async fn history_comes_in_pages() {
    const LINES: u64 = 12_000;
    let directory = tempfile::tempdir().expect("a directory");
    let id = server_id(5);
    {
        let book = LogBook::open(&directory.path().join(format!("servers/{id}/log")), Retention::default()).expect("a log");
        for n in 0..LINES {
            book.note(&format!("line {n}")).expect("it is written");
        }
    }
    let worker = TestWorker::start(config(directory.path(), None)).await;
    let body = format!(r#"{{"id": "{id}", "game_id": "docker:a/b", "desired": "stopped", "name": "mine"}}"#);
    assert_eq!(worker.post("/server", &body).await.status, 201);
    let pointer = worker.get(&format!("/server/{id}/log")).await.json();
    assert_eq!(pointer["first_seq"], 1);
    let mut url = pointer["url"].as_str().expect("a url").to_owned();
    let mut seen = Vec::new();
    loop {
        let page = worker.get(&url).await.json();
        seen.extend(page["items"].as_array().expect("lines").iter().map(|line| line["seq"].as_u64().expect("a number")));
        match page["next"].as_str() {
            Some(next) => url = format!("/server/{id}/log/stream?follow=false&since_seq={next}"),
            None => break,
        }
    }
    assert!(seen.len() as u64 >= LINES, "{} came", seen.len());
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>(), "without a gap or a double");
    let found = worker.get(&format!("/server/{id}/log/stream?follow=false&grep=line%2011$")).await.json();
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    problem(&worker.get(&format!("/server/{id}/log/stream?grep=%5B")).await, 400, "invalid");
    worker.stop().await;
}
