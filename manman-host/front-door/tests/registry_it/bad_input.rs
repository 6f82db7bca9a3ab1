//! What is thrown at it, and that nobody else notices.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::rig;

#[tokio::test]
async fn names_that_are_no_names_are_refused_by_their_field() {
    let rig = rig().await;
    for name in [
        "a/b",
        "..",
        ".",
        "../x",
        "-a",
        "~a",
        "_a",
        "a b",
        "a%2fb",
        "a\u{0}",
        "a\nb",
        "lіnks",
        "ｌinks",
        "links\u{200b}",
        "a\u{202e}b",
        "é",
        "😀",
        &"x".repeat(64),
    ] {
        for path in ["/self-register", "/register"] {
            let body = json!({"name": name, "expire": 60, "ip": "10.0.0.1", "port": 80}).to_string();
            let refused = rig.put(path, &body).await;
            assert_eq!((refused.status, refused.json()["field"].clone()), (400, json!("name")), "{name:?}");
        }
    }
    assert_eq!(rig.get("/discover").await.body, "{}");
}

#[tokio::test]
async fn a_body_is_bounded_in_length_and_depth() {
    let rig = rig().await;
    let long = json!({"name": "a", "expire": 60, "port": 80, "junk": "x".repeat(20_000)}).to_string();
    assert_eq!(rig.put("/self-register", &long).await.status, 413);
    let deep = format!(r#"{{"name":"a","expire":60,"port":80,"meta":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(rig.put("/self-register", &deep).await.status, 400);
    let notes = json!({"name": "a", "expire": 60, "port": 80, "meta": {"k": "x".repeat(2_000)}}).to_string();
    assert_eq!(rig.put("/self-register", &notes).await.json()["field"], "meta");
    let tags = json!({"name": "a", "expire": 60, "port": 80, "tags": vec![""; 1_000]}).to_string();
    assert_eq!(rig.put("/self-register", &tags).await.status, 400);
    let twice = r#"{"name":"a","expire":60,"expiry":5,"port":80}"#;
    assert_eq!(rig.put("/self-register", twice).await.status, 400);
    assert_eq!(rig.registry.len(), 0);
}

#[tokio::test]
async fn a_page_of_another_origin_is_kept_out() {
    let rig = rig().await;
    let body = r#"{"name":"a","expire":60,"port":80}"#;
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let headers = [("origin", origin), ("content-type", "text/plain")];
        assert_eq!(rig.ask(None, "POST", "/self-register", &headers, body).await.status, 403, "{origin}");
        assert_eq!(rig.ask(None, "DELETE", "/register/a", &headers, "").await.status, 403);
    }
}

#[tokio::test]
async fn two_that_fight_for_a_name_change_nothing_for_anybody() {
    let rig = rig().await;
    rig.put("/self-register", r#"{"name":"prize","expire":60,"port":1}"#).await;
    rig.put("/self-register", r#"{"name":"bystander","expire":60,"port":1}"#).await;
    let before = rig.get("/discover").await.header("x-index").map(str::to_owned);
    for round in 0..100 {
        let body = format!(r#"{{"name":"prize","expire":60,"port":{}}}"#, 2 + round);
        assert_eq!(rig.put_from("127.0.0.2:0", "/self-register", &body).await.status, 409);
        assert_eq!(rig.put("/self-register", r#"{"name":"prize","expire":60,"port":1}"#).await.status, 200);
    }
    assert_eq!(rig.get("/discover").await.header("x-index").map(str::to_owned), before);
}

#[tokio::test]
async fn a_sender_that_never_ends_holds_nobody_up() {
    let rig = rig().await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = rig.connect(None).await;
        stream.write_all(b"PUT /self-register HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"name\":").await.expect("sent");
        slow.push(stream);
    }
    let begun = tokio::time::Instant::now();
    assert_eq!(rig.put("/self-register", r#"{"name":"a","expire":60,"port":1}"#).await.status, 201);
    assert!(begun.elapsed() < Duration::from_secs(2));
    let mut answer = String::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        let mut piece = [0; 1024];
        while !answer.contains("did not come") {
            let length = slow[0].read(&mut piece).await.expect("it answers");
            assert!(length > 0, "it was closed without a word");
            answer.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
    });
    ended.await.expect("it is given up");
}
