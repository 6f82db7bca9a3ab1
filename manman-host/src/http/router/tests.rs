//! What holds for every route: who may come in, and how refusals look.

use manman_common::wire::Scope;
use serde_json::{Value, json};

use crate::testing::TestHost;

/// Every route of the description, with its parameters filled in.
async fn all_routes(host: &TestHost) -> Vec<(String, String)> {
    let openapi = host.send("GET", "/openapi.json", &[], Value::Null).await.expect(200);
    let paths = openapi["paths"].as_object().expect("paths").clone();
    let mut routes = Vec::new();
    for (path, item) in paths {
        for method in
            item.as_object().expect("methods").keys().filter(|key| ["get", "post", "put", "patch", "delete"].contains(&key.as_str()))
        {
            let path = path.replace("{id}", "01a1fb5d-a3f0-731d-86e7-8cea18ccd479").replace("{game_id}", "docker:manman/openarena");
            routes.push((method.to_uppercase(), path));
        }
    }
    assert!(routes.len() > 30, "{routes:?}");
    routes
}

#[tokio::test]
async fn without_a_token_only_the_open_routes_answer() {
    let host = TestHost::start().await;
    let open = [("GET", "/login"), ("POST", "/worker"), ("POST", "/worker/01a1fb5d-a3f0-731d-86e7-8cea18ccd479")];
    for (method, path) in all_routes(&host).await {
        let answer = host.send(&method, &path, &[], Value::Null).await;
        let is_open = open.contains(&(method.as_str(), path.as_str()));
        assert_eq!(answer.status == 401, !is_open, "{method} {path}: {:#}", answer.body);
        if is_open {
            continue;
        }
        answer.problem(401, "unauthenticated");
        host.call_as("mm_admin_wrong", &method, &path, Value::Null).await.problem(401, "unauthenticated");
    }
    for path in ["/", "/docs/", "/docs/swagger-ui.css", "/openapi.json"] {
        assert_eq!(host.send("GET", path, &[], Value::Null).await.status, 200, "{path}");
    }
}

/// A token that admits workers is in a terminal's history on every machine: it opens nothing else.
#[tokio::test]
async fn a_join_token_reads_and_changes_nothing() {
    let host = TestHost::start().await;
    host.worker("attic").await;
    let server = host.call("POST", "/server", json!({ "game_id": "docker:manman/openarena" })).await.expect(201);
    let join = host.token(Scope::Join, |_| ()).await;
    for (method, path) in all_routes(&host).await {
        if path.starts_with("/game")
            || path == "/logout"
            || path == "/login"
            || (method == "POST" && (path == "/worker" || path.matches('/').count() == 2 && path.starts_with("/worker/")))
        {
            continue;
        }
        let path =
            path.replace("/server/01a1fb5d-a3f0-731d-86e7-8cea18ccd479", &format!("/server/{}", server["id"].as_str().expect("an id")));
        let path = path.replace("/worker/01a1fb5d-a3f0-731d-86e7-8cea18ccd479", "/worker/attic");
        let body = if matches!(method.as_str(), "GET" | "DELETE") { Value::Null } else { json!({}) };
        let answer = host.call_as(&join, &method, &path, body).await;
        assert!(answer.status.is_client_error() && answer.status != 401, "{method} {path}: {} {:#}", answer.status, answer.body);
        assert!(answer.body.get("items").is_none());
    }
    assert_eq!(host.get("/server").await.expect(200)["items"][0]["desired"], "running");
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let host = TestHost::start().await;
    host.get("/nowhere").await.problem(404, "not-found");
    host.call("DELETE", "/server", Value::Null).await.problem(405, "method-not-allowed");
    let auth = format!("Bearer {}", host.admin);
    let json_type = ("content-type", "application/json");
    let send = |body: String, kind: (&'static str, &'static str)| {
        let (host, auth) = (&host, auth.clone());
        async move { host.send("POST", "/server", &[("authorization", &auth), kind], Value::String(body)).await }
    };
    send("a".repeat(2 * 1024 * 1024), json_type).await.problem(413, "too-large");
    send("{\"game_id\":".to_owned(), json_type).await.problem(400, "invalid");
    send("{}{}".to_owned(), json_type).await.problem(400, "invalid");
    send("{\"variables\":".repeat(50_000), json_type).await.problem(400, "invalid");
    send("<a/>".to_owned(), ("content-type", "text/xml")).await.problem(415, "unsupported-media-type");
    // What curl sends with -d and no header.
    send("{}".to_owned(), ("content-type", "application/x-www-form-urlencoded")).await.problem(400, "invalid");
}

#[tokio::test]
async fn a_browser_signs_in_once_by_a_link() {
    let host = TestHost::start().await;
    let link = host.call("POST", "/login-link", Value::Null).await.expect(201)["url"].as_str().expect("a link").to_owned();
    let path = link.strip_prefix("http://127.0.0.1:8080").expect("our own address").to_owned();
    let signed_in = host.send("GET", &path, &[], Value::Null).await;
    assert_eq!(signed_in.status, 303);
    let cookie = signed_in.headers["set-cookie"].to_str().expect("text").to_owned();
    for mark in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(mark), "{cookie}");
    }
    assert_eq!(host.send("GET", &path, &[], Value::Null).await.status, 401, "a link works once");
    let cookie = cookie.split(';').next().expect("a cookie").to_owned();
    let by_cookie = |method: &'static str, path: &'static str, origin: &'static str| {
        let (host, cookie) = (&host, cookie.clone());
        async move {
            let headers = [("cookie", cookie.as_str()), ("host", "127.0.0.1:8080"), ("origin", origin)];
            host.send(method, path, &headers, Value::Null).await
        }
    };
    by_cookie("GET", "/status", "http://127.0.0.1:8080").await.expect(200);
    by_cookie("POST", "/login-link", "http://127.0.0.1:9999").await.problem(403, "forbidden");
    by_cookie("POST", "/login-link", "http://127.0.0.1:8080").await.expect(201);
    by_cookie("POST", "/logout", "http://127.0.0.1:8080").await.expect(204);
    by_cookie("GET", "/status", "http://127.0.0.1:8080").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_revoked_token_ends_at_once_and_is_told_of() {
    let host = TestHost::start().await;
    let made = host.call("POST", "/token", json!({ "scope": "viewer", "label": "friend" })).await.expect(201);
    let secret = made["token"].as_str().expect("a secret").to_owned();
    host.call_as(&secret, "GET", "/server", Value::Null).await.expect(200);
    host.call_as(&secret, "GET", "/token", Value::Null).await.problem(403, "forbidden");
    let listed = host.get("/token").await.expect(200).to_string();
    assert!(listed.contains("friend") && !listed.contains(&secret));

    let mut revoked = host.app.revoked.subscribe();
    let path = format!("/token/{}", made["id"].as_str().expect("an id"));
    host.call("DELETE", &path, Value::Null).await.expect(204);
    host.call_as(&secret, "GET", "/server", Value::Null).await.problem(401, "unauthenticated");
    assert_eq!(revoked.try_recv().expect("news").to_string(), made["id"]);
    host.call("DELETE", &path, Value::Null).await.problem(404, "not-found");

    let brief = host.call("POST", "/token", json!({ "scope": "join", "expires_in": 0 })).await;
    assert_eq!(brief.problem(400, "invalid")["field"], "expires_in");
    let stored: i64 = sqlx::query_scalar("select count(*) from token where secret_hash = $1")
        .bind(secret.as_bytes())
        .fetch_one(&host.app.db)
        .await
        .expect("a count");
    assert_eq!(stored, 0, "no secret is stored as it is");
}
