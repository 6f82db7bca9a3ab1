//! L1 to L6: who gets a name, and for how long.

use std::time::Duration;

use manman_front_door::registry::{Clock, Keep, RegistryConfig};
use serde_json::json;

use super::rig::{Rig, config, free_port, rig};

#[tokio::test]
async fn l01_the_port_is_the_sockets_or_the_bodys() {
    let rig = rig().await;
    let port = free_port().await;
    let from = format!("127.0.0.1:{port}");
    // The very bodies of the user's text, with both words for the expiry.
    let added = rig.put_from(&from, "/self-register", r#"{"name": "links", "expire": 60}"#).await;
    assert_eq!(added.status, 201, "{}", added.body);
    assert_eq!(rig.get("/discover/links").await.json(), json!({"ip": "127.0.0.1", "port": port}));

    let body = r#"{"name": "mattccs.test1", "expiry": 60, "port": 8000}"#;
    assert_eq!(rig.ask(None, "POST", "/self-register", &[], body).await.status, 201);
    assert_eq!(rig.get("/discover/mattccs.test1").await.json(), json!({"ip": "127.0.0.1", "port": 8000}));
    // What curl calls all that it sends.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(rig.ask(None, "PUT", "/self-register", &form, r#"{"name":"curl","expire":1,"port":1}"#).await.status, 201);
    assert_eq!(rig.put("/self-register", r#"{"name":"day","expire":86400,"port":65535}"#).await.status, 201);

    for (body, field) in [
        (r#"{"name": "a/b", "expire": 60}"#, "name"),
        (r#"{"name": "", "expire": 60}"#, "name"),
        (r#"{"name": "a", "expire": 86401}"#, "expire"),
        (r#"{"name": "a", "expire": -1}"#, "expire"),
        (r#"{"name": "a", "expire": 1.5}"#, "expire"),
        (r#"{"name": "a", "expire": "60"}"#, "expire"),
        (r#"{"name": "a", "expire": 60, "port": 0}"#, "port"),
        (r#"{"name": "a", "expire": 60, "port": 65536}"#, "port"),
    ] {
        let refused = rig.put("/self-register", body).await;
        assert_eq!((refused.status, refused.json()["field"].clone()), (400, json!(field)), "{body}: {}", refused.body);
    }
    for body in [r#"{"name": "a"}"#, r#"{"expire": 60}"#, "", "[]", "nonsense", r#"{"name":"a","expire":1} x"#] {
        assert_eq!(rig.put("/self-register", body).await.status, 400, "{body}");
    }
    assert_eq!(rig.registry.len(), 4);
}

#[tokio::test]
async fn l02_a_free_name_is_added_and_zero_never_lapses() {
    let (clock, hand) = Clock::by_hand();
    let rig = Rig::start(RegistryConfig { deaf_after: None, ..config() }, Keep::Nowhere, clock).await;
    let added = rig.put("/self-register", r#"{"name":"brief","expire":60,"port":1}"#).await;
    assert_eq!(added.status, 201);
    let token = added.json()["token"].clone();
    assert_eq!(added.json(), json!({"result": "added", "ip": "127.0.0.1", "port": 1, "expire": 60, "expires_in": 60, "token": token}));
    let eternal = rig.put("/self-register", r#"{"name":"eternal","expire":0,"port":2}"#).await;
    assert_eq!((eternal.json()["expire"].clone(), eternal.json()["expires_in"].clone()), (json!(0), json!(null)));
    hand.turn(Duration::from_secs(600));
    assert_eq!(rig.get("/discover").await.json(), json!({"eternal": {"ip": "127.0.0.1", "port": 2}}));
}

#[tokio::test]
async fn l03_a_refresh_takes_the_recorded_expiry() {
    let (clock, hand) = Clock::by_hand();
    let rig = Rig::start(config(), Keep::Nowhere, clock).await;
    rig.put("/self-register", r#"{"name":"a","expire":60,"port":1}"#).await;
    hand.turn(Duration::from_secs(30));
    assert_eq!(rig.get("/discover/a?verbose=1").await.json()["expires_in"], 30);
    let refreshed = rig.put("/self-register", r#"{"name":"a","expire":5,"port":1}"#).await;
    assert_eq!(refreshed.status, 200);
    assert_eq!(refreshed.json(), json!({"result": "refreshed", "ip": "127.0.0.1", "port": 1, "expire": 60, "expires_in": 60}));
}

#[tokio::test]
async fn l04_a_rival_is_ignored_until_the_end() {
    let (clock, hand) = Clock::by_hand();
    let rig = Rig::start(config(), Keep::Nowhere, clock).await;
    let token = rig.put("/self-register", r#"{"name":"a","expire":60,"port":1}"#).await.json()["token"].clone();
    hand.turn(Duration::from_millis(10_500));
    let before = rig.get("/discover/a?verbose=1").await.body;
    for (from, port) in [("127.0.0.1:0", 2), ("127.0.0.2:0", 1)] {
        let body = format!(r#"{{"name":"a","expire":60,"port":{port}}}"#);
        let ignored = rig.put_from(from, "/self-register", &body).await;
        assert_eq!((ignored.status, ignored.header("retry-after")), (409, Some("50")));
        assert_eq!((ignored.json()["result"].clone(), ignored.json()["retry_after"].clone()), (json!("ignored"), json!(50)));
    }
    assert_eq!(rig.get("/discover/a?verbose=1").await.body, before);

    // The owner may move, and leave before the end.
    let moved = rig.put_from("127.0.0.3:0", "/self-register", &format!(r#"{{"name":"a","expire":5,"port":9,"token":{token}}}"#)).await;
    assert_eq!(moved.json(), json!({"result": "moved", "ip": "127.0.0.3", "port": 9, "expire": 60, "expires_in": 60}));
    let wrong = rig.ask(None, "DELETE", "/self-register/a", &[], r#"{"token":"mm_service_x"}"#).await;
    assert_eq!(wrong.status, 403);
    let left = rig.ask(None, "DELETE", "/self-register/a", &[], &format!(r#"{{"token":{token}}}"#)).await;
    assert_eq!((left.status, rig.get("/discover/a").await.status), (204, 404));

    // After the end the second one wins.
    rig.put("/self-register", r#"{"name":"a","expire":60,"port":1}"#).await;
    hand.turn(Duration::from_secs(60));
    let second = rig.put_from("127.0.0.2:0", "/self-register", r#"{"name":"a","expire":60,"port":1}"#).await;
    assert_eq!((second.status, second.json()["ip"].clone()), (201, json!("127.0.0.2")));
}

#[tokio::test]
async fn l05_what_never_lapses_is_replaced_by_anybody() {
    let rig = rig().await;
    rig.put("/self-register", r#"{"name":"a","expire":0,"port":1}"#).await;
    let replaced = rig.put_from("127.0.0.2:0", "/self-register", r#"{"name":"a","expire":0,"port":2}"#).await;
    assert_eq!((replaced.status, replaced.json()["result"].clone()), (200, json!("replaced")));
    assert_eq!(rig.get("/discover/a").await.json(), json!({"ip": "127.0.0.2", "port": 2}));
    let finite = rig.put_from("127.0.0.3:0", "/self-register", r#"{"name":"a","expire":9,"port":3}"#).await;
    assert_eq!((finite.json()["result"].clone(), finite.json()["expire"].clone()), (json!("replaced"), json!(9)));
}

#[tokio::test]
async fn l05_a_protected_name_asks_for_the_token() {
    let rig = Rig::start(RegistryConfig { protect: true, ..config() }, Keep::Nowhere, Clock::real()).await;
    let token = rig.put("/self-register", r#"{"name":"a","expire":0,"port":1}"#).await.json()["token"].clone();
    let rival = rig.put_from("127.0.0.2:0", "/self-register", r#"{"name":"a","expire":0,"port":2}"#).await;
    assert_eq!((rival.status, rival.json()["result"].clone()), (409, json!("ignored")));
    assert_eq!(rig.put("/self-register", r#"{"name":"a","expire":0,"port":1}"#).await.json()["result"], "replaced");
    // The token of the record as it is now; the one of before has gone with what it was for.
    let old = rig.put_from("127.0.0.2:0", "/self-register", &format!(r#"{{"name":"a","expire":0,"port":2,"token":{token}}}"#)).await;
    assert_eq!(old.status, 409);
    let token = rig.put("/self-register", r#"{"name":"a","expire":0,"port":1}"#).await.json()["token"].clone();
    let owner = rig.put_from("127.0.0.2:0", "/self-register", &format!(r#"{{"name":"a","expire":0,"port":2,"token":{token}}}"#)).await;
    assert_eq!((owner.status, owner.json()["result"].clone()), (200, json!("replaced")));
}

#[tokio::test]
async fn l06_ten_thousand_are_gone_a_millisecond_after_their_end() {
    let (clock, hand) = Clock::by_hand();
    let rig = Rig::start(RegistryConfig { names_per_ip: 10_000, ..config() }, Keep::Nowhere, clock).await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://{}/self-register", rig.address);
    for n in 0..10_000_u32 {
        let body = format!(r#"{{"name":"n{n}","expire":{},"port":{}}}"#, 1 + n % 4, 1 + n);
        assert_eq!(client.put(&url).body(body).send().await.expect("an answer").status(), 201);
    }
    assert_eq!(client.put(&url).body(r#"{"name":"more","expire":1,"port":1}"#).send().await.expect("an answer").status(), 429);
    let count = |answer: super::rig::Answer| answer.json().as_object().map_or(0, serde_json::Map::len);
    hand.turn(Duration::from_millis(999));
    assert_eq!(count(rig.get("/discover").await), 10_000);
    hand.turn(Duration::from_millis(2));
    assert_eq!(count(rig.get("/discover").await), 7_500);
    hand.turn(Duration::from_secs(2));
    assert_eq!(count(rig.get("/discover").await), 2_500);
    hand.turn(Duration::from_secs(1));
    assert_eq!(rig.get("/discover").await.body, "{}");
    assert_eq!(rig.registry.len(), 0);
}

/// A registry that was stopped, or whose machine slept, has heard nobody: that is not their end.
#[tokio::test]
async fn l06_a_registry_that_stood_still_gives_one_more_term() {
    let (clock, hand) = Clock::by_hand();
    let rig = Rig::start(config(), Keep::Nowhere, clock).await;
    for name in ["a", "b", "c", "d"] {
        rig.put("/self-register", &format!(r#"{{"name":"{name}","expire":10,"port":1}}"#)).await;
    }
    hand.turn(Duration::from_secs(60));
    assert_eq!(rig.get("/discover/a?verbose=1").await.json()["expires_in"], 10);
    // It ran all the time since, and nobody came.
    for _ in 0..3 {
        hand.turn(Duration::from_millis(3_300));
        assert_eq!(rig.get("/discover/a").await.status, 200);
    }
    hand.turn(Duration::from_millis(100));
    assert_eq!(rig.get("/discover").await.body, "{}");
}

#[tokio::test]
async fn l06_of_two_racers_one_wins() {
    let rig = rig().await;
    for round in 0..50 {
        let body = |port: u16| format!(r#"{{"name":"race{round}","expire":60,"port":{port}}}"#);
        let (first, second) = (body(1), body(2));
        let (one, other) =
            tokio::join!(rig.put_from("127.0.0.1:0", "/self-register", &first), rig.put_from("127.0.0.2:0", "/self-register", &second));
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
        let winner = if one.status == 201 { one } else { other };
        assert_eq!(rig.get(&format!("/discover/race{round}")).await.json()["ip"], winner.json()["ip"]);
    }
}
