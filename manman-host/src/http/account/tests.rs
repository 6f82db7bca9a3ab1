use manman_common::wire::Scope;
use serde_json::{Value, json};

use crate::http::login::tests::{account, secret, sign_in};
use crate::testing::TestHost;

const PASSWORD: &str = "correct horse battery";

fn path_of(url: &Value) -> String {
    url.as_str().expect("a link").strip_prefix("http://127.0.0.1:8080").expect("our own address").to_owned()
}

#[tokio::test]
async fn an_account_begins_with_a_link_and_its_links_are_its_own() {
    let host = TestHost::start().await;
    let made = host.call("POST", "/account", json!({ "name": "anna", "role": "admin" })).await.expect(201);
    assert_eq!((&made["has_password"], &made["disabled"]), (&json!(false), &json!(false)));
    let signed_in = host.send("GET", &path_of(&made["login_url"]), &[], Value::Null).await;
    assert_eq!((signed_in.status.as_u16(), signed_in.headers["location"].to_str().expect("text")), (303, "/"));
    let session = secret(&signed_in);
    let me = host.call_as(&session, "GET", "/me", Value::Null).await.expect(200);
    assert_eq!((&me["account_id"], &me["has_password"]), (&made["id"], &json!(false)));
    // Who has no password yet chooses one without another.
    host.call_as(&session, "PUT", "/me/password", json!({ "new": PASSWORD })).await.expect(204);
    host.call_as(&session, "PUT", "/me/password", json!({ "new": "second horse battery" })).await.problem(400, "invalid");

    let link = host.call_as(&session, "POST", "/login-link", Value::Null).await.expect(201);
    let phone = secret(&host.send("GET", &path_of(&link["url"]), &[], Value::Null).await);
    assert_eq!(host.call_as(&phone, "GET", "/me", Value::Null).await.expect(200)["account_id"], made["id"]);

    // A link that nobody has followed dies with the account, as everything else of it.
    let unused = host.call_as(&session, "POST", "/login-link", Value::Null).await.expect(201);
    let token = host.call_as(&session, "POST", "/token", json!({ "scope": "viewer" })).await.expect(201);
    let token = token["token"].as_str().expect("a secret").to_owned();
    let of_token = sign_in(&host, json!({ "token": token })).await;
    host.call_as(&token, "GET", "/server", Value::Null).await.expect(200);
    host.call("DELETE", &format!("/account/{}", made["id"].as_str().expect("an id")), Value::Null).await.expect(204);
    for held in [&session, &phone, &token, &of_token] {
        host.call_as(held, "GET", "/me", Value::Null).await.problem(401, "unauthenticated");
    }
    assert_eq!(host.send("GET", &path_of(&unused["url"]), &[], Value::Null).await.status, 401);
    assert_eq!(host.get("/account").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn the_first_start_has_no_account_and_makes_the_first() {
    let host = TestHost::start().await;
    // What the first start prints is a link of nobody's.
    let grant = crate::db::session::Grant {
        role: manman_common::wire::Role::Admin,
        label: String::new(),
        server_id: None,
        account_id: None,
        parent_id: None,
        until: None,
    };
    let mut conn = host.app.db.acquire().await.expect("a connection");
    let life = std::time::Duration::from_secs(600);
    let link = crate::http::login::login_link(&host.app, &mut conn, &grant, life).await.expect("a link");
    drop(conn);
    let session = secret(&host.send("GET", &path_of(&json!(link.url)), &[], Value::Null).await);
    let me = host.call_as(&session, "GET", "/me", Value::Null).await.expect(200);
    assert_eq!((&me["name"], &me["role"], &me["account_id"]), (&json!("admin"), &json!("admin"), &Value::Null));
    host.call_as(&session, "PUT", "/me/password", json!({ "new": PASSWORD })).await.problem(403, "forbidden");
    let made =
        host.call_as(&session, "POST", "/account", json!({ "name": "anna", "role": "admin", "password": PASSWORD })).await.expect(201);
    sign_in(&host, json!({ "name": "anna", "password": PASSWORD })).await;
    assert_eq!(host.get("/account").await.expect(200)["items"][0]["id"], made["id"]);
}

#[tokio::test]
async fn accounts_are_changed_and_who_did_it_is_written_down() {
    let host = TestHost::start().await;
    host.worker("attic").await;
    let server = host.call("POST", "/server", json!({ "game_id": "docker:manman/openarena", "name": "oa" })).await.expect(201);
    account(&host, "boss", "admin").await;
    let boss = sign_in(&host, json!({ "name": "boss", "password": PASSWORD })).await;
    let made = host.call_as(
        &boss,
        "POST",
        "/account",
        json!({ "name": "anna", "role": "operator", "server_id": server["id"], "password": PASSWORD }),
    );
    let made = made.await.expect(201);
    let path = format!("/account/{}", made["id"].as_str().expect("an id"));
    let anna = sign_in(&host, json!({ "name": "anna", "password": PASSWORD })).await;
    // Confined to one server: that one, and nothing else.
    host.call_as(&anna, "POST", "/server/oa/stop", Value::Null).await.expect(202);
    host.call_as(&anna, "POST", "/server", json!({ "game_id": "docker:manman/openarena" })).await.problem(403, "forbidden");
    host.call_as(&anna, "GET", "/worker", Value::Null).await.problem(403, "forbidden");
    assert_eq!(host.call_as(&anna, "GET", "/me", Value::Null).await.expect(200)["server_id"], server["id"]);

    // Another name is no reason to sign in again, and events have it at once.
    host.call_as(&boss, "PUT", &path, json!({ "name": "Annika" })).await.expect(200);
    host.call_as(&anna, "PATCH", "/server/oa", json!({ "variables": { "MAP": "oa_ctf", "PASSWORD": "hush-hush" } })).await.expect(200);
    let event = host.get("/event?kind=server.changed").await.expect(200)["items"][0].clone();
    assert_eq!((&event["actor"], &event["data"]["peer"]), (&json!("Annika"), &json!("192.168.1.7")));
    assert_eq!(event["data"]["after"]["variables"], json!({ "MAP": "oa_ctf", "PASSWORD": "•••" }), "{event:#}");
    assert!(event["data"]["before"]["variables"].get("MAP").is_none() && !event.to_string().contains("hush"), "{event:#}");

    let changed = host.call_as(&boss, "PUT", &path, json!({ "server_id": null, "password": "another horse battery" })).await.expect(200);
    assert_eq!(changed["server_id"], Value::Null);
    host.call_as(&anna, "GET", "/me", Value::Null).await.problem(401, "unauthenticated");
    let event = host.get("/event?kind=account.changed").await.expect(200)["items"][0].clone();
    assert_eq!((&event["actor"], &event["data"]["before"]["server_id"]), (&json!("boss"), &server["id"]));
    assert_eq!(event["data"]["after"]["server_id"], Value::Null);
    assert!(!event.to_string().contains("battery") && !event.to_string().contains("argon2"), "{event:#}");
    let link = host.call_as(&boss, "POST", &format!("{path}/login-link"), Value::Null).await.expect(201);
    let by_link = secret(&host.send("GET", &path_of(&link["url"]), &[], Value::Null).await);
    assert_eq!(host.call_as(&by_link, "GET", "/me", Value::Null).await.expect(200)["name"], "Annika");
    let everybody = host.get("/session?all=true").await.expect(200);
    assert_eq!(everybody["items"].as_array().map(Vec::len), Some(2), "{everybody:#}");
}

#[tokio::test]
async fn what_is_no_account_is_refused_and_leaves_nothing_behind() {
    let host = TestHost::start().await;
    account(&host, "anna", "viewer").await;
    for (body, status, kind, field) in [
        (json!({ "name": "ANNA", "role": "viewer" }), 409, "conflict", "name"),
        (json!({ "name": "a b", "role": "viewer" }), 400, "invalid", "name"),
        (json!({ "name": "bert", "role": "worker" }), 400, "invalid", "role"),
        (json!({ "name": "bert", "role": "viewer", "password": "short" }), 400, "invalid", "password"),
        (json!({ "name": "bert-the-second", "role": "viewer", "password": "Bert-The-Second" }), 400, "invalid", "password"),
        (json!({ "name": "bert", "role": "admin", "server_id": "01a1fb5d-a3f0-731d-86e7-8cea18ccd479" }), 400, "invalid", "server_id"),
        (json!({ "name": "bert", "role": "viewer", "server_id": "01a1fb5d-a3f0-731d-86e7-8cea18ccd479" }), 400, "invalid", "server_id"),
        (json!({ "name": "bert", "role": "viewer", "colour": "red" }), 400, "invalid", "colour"),
    ] {
        let shown = body.to_string();
        assert_eq!(host.call("POST", "/account", body).await.problem(status, kind)["field"], field, "{shown}");
    }
    let accounts = host.get("/account").await.expect(200);
    assert_eq!(accounts["items"].as_array().map(Vec::len), Some(1));
    host.call("PUT", "/account/01a1fb5d-a3f0-731d-86e7-8cea18ccd479", json!({})).await.problem(404, "not-found");
    host.call("DELETE", "/account/nobody", Value::Null).await.problem(404, "not-found");
    for scope in [Scope::Operator, Scope::Viewer, Scope::Join] {
        let token = host.token(scope, |_| ()).await;
        host.call_as(&token, "GET", "/account", Value::Null).await.problem(403, "forbidden");
        host.call_as(&token, "POST", "/account", json!({ "name": "own", "role": "admin" })).await.problem(403, "forbidden");
    }
    // Many at once with one name: one gets it.
    let body = |name: &str| json!({ "name": name, "role": "viewer" });
    let answers =
        futures_util::future::join_all(["carl", "Carl", "CARL", "cARL"].map(|name| host.call("POST", "/account", body(name)))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    let pages = host.get("/account?limit=1").await.expect(200);
    let next = pages["next"].as_str().expect("a second page");
    assert_eq!(host.get(&format!("/account?limit=1&cursor={next}")).await.expect(200)["next"], Value::Null);
}
