//! The catalogue through the real router, and what of it a server's view may show.

use manman_common::WorkerId;
use manman_common::wire::Scope;
use serde_json::{Value, json};

use crate::config::Config;
use crate::testing::TestHost;

const RUST: &str = "steamcmd:258550";

/// An accepted worker whose SteamCMD is usable, and which may have Proton.
async fn steam_worker(host: &TestHost, name: &str, proton: Option<&str>) -> WorkerId {
    let join = host.token(Scope::Join, |_| ()).await;
    let reserved = host.call_as(&join, "POST", "/worker", json!({ "name": name })).await;
    let id = reserved.body["id"].as_str().unwrap_or_else(|| panic!("{:#}", reserved.body)).to_owned();
    let capabilities = json!({
        "drivers": [{ "method": "steamcmd", "ready": true }], "memory_bytes": 64_000_000_000_u64, "cpus": 8, "proton": proton,
    });
    let body = json!({ "worker-name": name, "ip-address": "192.168.1.11", "capabilities": capabilities });
    let registered = host.call_as(&join, "POST", &format!("/worker/{id}"), body).await.expect(201);
    let token = registered["token"].as_str().unwrap_or_else(|| panic!("{registered:#}")).to_owned();
    host.call_as(&token, "POST", &format!("/worker/{id}/health"), Value::Null).await.expect(200);
    id.parse().expect("an id")
}

/// The password of the console as the worker gets it.
async fn console_secret(host: &TestHost) -> String {
    sqlx::query_scalar("select run->'console_access'->>'secret' from server").fetch_one(&host.app.db).await.expect("a secret")
}

#[tokio::test]
async fn the_catalogue_is_found_by_word_and_by_short_name() {
    let host = TestHost::start().await;
    let all = host.get("/game").await.expect(200);
    assert!(all["items"].as_array().is_some_and(|items| items.len() >= 60), "on one page");
    let found = host.get("/game?word=Valheim").await.expect(200);
    let shorts: Vec<&str> = found["items"].as_array().expect("items").iter().filter_map(|game| game["short"].as_str()).collect();
    assert_eq!(shorts, ["valheim", "valheim-docker"]);
    assert_eq!(host.get("/game?word=nobody-plays-this").await.expect(200)["items"], json!([]));
    let by_id = host.get("/game/steamcmd:896660").await.expect(200);
    assert_eq!(host.get("/game/valheim").await.expect(200), by_id);
    assert_eq!((&by_id["steam_login"], &by_id["proven"]), (&json!("anonymous"), &Value::Null));
    host.get("/game/steamcmd:1").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_secret_that_was_made_is_kept_and_never_shown() {
    let host = TestHost::start().await;
    steam_worker(&host, "attic", None).await;
    let auth = format!("Bearer {}", host.admin);
    let headers = [("authorization", auth.as_str()), ("idempotency-key", "k1")];
    let wish = json!({ "game_id": RUST, "name": "wipe", "variables": { "SERVER_NAME": "Wipe" } });
    let made = host.send("POST", "/server", &headers, wish.clone()).await.expect(201);
    let secret = console_secret(&host).await;
    assert_eq!(secret.len(), 32);
    let argv: Value = sqlx::query_scalar("select run->'argv' from server").fetch_one(&host.app.db).await.expect("an argv");
    assert!(argv.as_array().is_some_and(|argv| argv.contains(&json!(secret))), "the game is told it by its arguments: {argv}");

    let again = host.send("POST", "/server", &headers, wish).await.expect(201);
    let patched = host.call("PATCH", "/server/wipe", json!({ "variables": { "SEED": "7" } })).await.expect(200);
    assert_eq!(console_secret(&host).await, secret, "a change elsewhere keeps it");
    for (what, body) in [
        ("created", made),
        ("replayed", again),
        ("patched", patched),
        ("item", host.get("/server/wipe").await.expect(200)),
        ("list", host.get("/server").await.expect(200)),
        ("events", host.get("/event").await.expect(200)),
        ("status", host.get("/status").await.expect(200)),
        ("workers", host.get("/worker").await.expect(200)),
        ("metrics", host.get("/metrics").await.expect(200)),
    ] {
        assert!(!body.to_string().contains(&secret), "{what} shows the secret: {body:#}");
    }

    // `null` brings back the default, which is a fresh one; a person's own is taken as it is.
    host.call("PATCH", "/server/wipe", json!({ "variables": { "RCON_PASSWORD": null } })).await.expect(200);
    let fresh = console_secret(&host).await;
    assert!(fresh != secret && fresh.len() == 32);
    let own = host.call("PATCH", "/server/wipe", json!({ "variables": { "RCON_PASSWORD": "hunter22hunter22" } })).await.expect(200);
    assert_eq!((console_secret(&host).await.as_str(), &own["variables"]["RCON_PASSWORD"]), ("hunter22hunter22", &Value::Null));
    let refused = host.call("PATCH", "/server/wipe", json!({ "variables": { "RCON_PASSWORD": "a \"bad\" one" } })).await;
    assert!(!refused.problem(400, "invalid").to_string().contains("bad"), "what is wrong with a secret does not repeat it");
}

#[tokio::test]
async fn a_windows_build_waits_for_a_worker_with_proton() {
    let host = TestHost::start().await;
    steam_worker(&host, "attic", None).await;
    let wish = json!({ "game_id": "steamcmd:2278520", "variables": { "PASSWORD": "secret12" } });
    let problem = host.call("POST", "/server", wish.clone()).await.problem(409, "conflict");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`attic` has no Proton")), "{problem:#}");
    steam_worker(&host, "cellar", Some("9.0-4")).await;
    assert_eq!(host.call("POST", "/server", wish).await.expect(201)["worker_name"], "cellar");
}

#[tokio::test]
async fn a_bad_definition_is_told_of_where_people_look() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bad.yaml"), "game: docker:a\nname: A\nports:\n  game: {protocol: sctp, default: 1}\n")
        .expect("written");
    std::fs::write(folder.path().join("good.yaml"), "game: docker:b\nname: B\n").expect("written");
    let host = TestHost::with(Config { games: vec![folder.path().to_owned()], ..Config::default() }).await;
    let status = host.get("/status").await.expect(200);
    let said = status["attention"].as_array().expect("sentences").iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n");
    assert!(said.contains("bad.yaml:4:20: ") && said.contains("sctp"), "{said}");
    assert_eq!(host.get("/game/good").await.expect(200)["name"], "B");
    host.get("/game/docker:a").await.problem(404, "not-found");
}
