//! L16: what outlives the registry, and what it does not take.

use std::time::Duration;

use manman_front_door::registry::{Clock, Keep, RegistryConfig};
use serde_json::json;

use super::rig::{Rig, config};

#[tokio::test]
async fn l16_a_restart_keeps_the_living_and_drops_the_dead() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("registry.json");
    let (clock, hand) = Clock::by_hand();
    let start = || Rig::start(config(), Keep::File(file.clone()), clock.clone());
    let rig = start().await;
    for (name, expire) in [("eternal", 0), ("long", 60), ("short", 20), ("nearly", 32)] {
        let body = format!(r#"{{"name":"{name}","expire":{expire},"port":80,"tags":["t"],"meta":{{"k":"v"}}}}"#);
        assert_eq!(rig.put("/self-register", &body).await.status, 201);
    }
    let token = rig.put("/self-register", r#"{"name":"mine","expire":600,"port":80}"#).await.json()["token"].clone();
    rig.stop().await;
    hand.turn(Duration::from_secs(30));

    let rig = start().await;
    let left = rig.get("/discover?verbose=1").await.json();
    let names: Vec<&String> = left.as_object().expect("a map").keys().collect();
    assert_eq!(names, ["eternal", "long", "mine", "nearly"]);
    assert_eq!((left["long"]["expires_in"].clone(), left["long"]["expire"].clone()), (json!(30), json!(60)));
    assert_eq!(left["nearly"]["expires_in"], 10, "it has time for its next sign of life");
    assert_eq!((left["long"]["tags"].clone(), left["long"]["meta"].clone()), (json!(["t"]), json!({"k": "v"})));
    // It still belongs to whom it belonged.
    let rival = rig.put_from("127.0.0.2:0", "/self-register", r#"{"name":"mine","expire":600,"port":81}"#).await;
    assert_eq!(rival.status, 409);
    let owner =
        rig.put_from("127.0.0.2:0", "/self-register", &format!(r#"{{"name":"mine","expire":600,"port":81,"token":{token}}}"#)).await;
    assert_eq!(owner.json()["result"], "moved");
    rig.stop().await;

    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).expect("it is there");
    assert!(!text.contains("short") && !text.contains("mm_service_"), "{text}");
}

#[tokio::test]
async fn l16_what_is_registered_is_in_the_file_soon() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("registry.json");
    let rig = Rig::start(config(), Keep::File(file.clone()), Clock::real()).await;
    rig.put("/self-register", r#"{"name":"a","expire":600,"port":80}"#).await;
    let saved = tokio::time::timeout(Duration::from_secs(10), async {
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"a\"")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    saved.await.expect("it is saved without being told to end");
}

#[tokio::test]
async fn l16_a_file_that_makes_no_sense_is_set_aside() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("registry.json");
    std::fs::write(&file, "{\"version\":1,\"serv").expect("written");
    let rig = Rig::start(config(), Keep::File(file.clone()), Clock::real()).await;
    assert_eq!(rig.get("/discover").await.body, "{}");
    assert!(home.path().join("registry.unreadable").exists());
}

#[tokio::test]
async fn l16_so_many_names_in_all_and_from_one_address() {
    let small = RegistryConfig { names_max: 5, names_per_ip: 3, ..config() };
    let rig = Rig::start(small, Keep::Nowhere, Clock::real()).await;
    let mut statuses = Vec::new();
    for (from, name) in [("1", "a"), ("1", "b"), ("1", "c"), ("1", "d"), ("2", "e"), ("2", "f"), ("2", "g")] {
        let body = format!(r#"{{"name":"{name}","expire":60,"port":80}}"#);
        statuses.push(rig.put_from(&format!("127.0.0.{from}:0"), "/self-register", &body).await.status);
    }
    assert_eq!(statuses, [201, 201, 201, 429, 201, 201, 503]);
    // Those that are there are not touched by it, and room that is made is used.
    assert_eq!(rig.put("/self-register", r#"{"name":"a","expire":60,"port":80}"#).await.json()["result"], "refreshed");
    assert_eq!(rig.ask(None, "DELETE", "/register/a", &[], "").await.status, 204);
    assert_eq!(rig.put("/self-register", r#"{"name":"d","expire":60,"port":80}"#).await.status, 201);
}

#[tokio::test]
async fn l16_so_many_requests_a_second_from_one_address() {
    let (clock, hand) = Clock::by_hand();
    let rig = Rig::start(RegistryConfig::default(), Keep::Nowhere, clock).await;
    for _ in 0..50 {
        assert_eq!(rig.get("/discover").await.status, 200);
    }
    let refused = rig.get("/discover").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert_eq!(rig.put("/self-register", r#"{"name":"a","expire":60,"port":80}"#).await.status, 429);
    // Nobody else is affected.
    assert_eq!(rig.put_from("127.0.0.2:0", "/self-register", r#"{"name":"b","expire":60,"port":80}"#).await.status, 201);
    hand.turn(Duration::from_millis(20));
    assert_eq!(rig.get("/discover").await.status, 200);
}
