//! What holds for every route: who may come in, and how refusals look.

use manman_common::wire::Scope;
use serde_json::{Value, json};

use super::{Door, router};
use crate::testing::TestHost;

const SOMEBODY: &str = "01a1fb5d-a3f0-731d-86e7-8cea18ccd479";

/// Every route of the description: its method, its path as described, and with its parameters
/// filled in.
async fn described(host: &TestHost) -> Vec<(String, String, String)> {
    let openapi = host.send("GET", "/openapi.json", &[], Value::Null).await.expect(200);
    let paths = openapi["paths"].as_object().expect("paths").clone();
    let mut routes = Vec::new();
    for (path, item) in paths {
        for method in
            item.as_object().expect("methods").keys().filter(|key| ["get", "post", "put", "patch", "delete"].contains(&key.as_str()))
        {
            routes.push((method.to_uppercase(), path.clone(), filled(&path, SOMEBODY)));
        }
    }
    assert!(routes.len() > 30, "{routes:?}");
    routes
}

fn filled(path: &str, id: &str) -> String {
    let segment = |segment: &str| match segment {
        "{game_id}" => "docker:manman/openarena".to_owned(),
        parameter if parameter.starts_with('{') => id.to_owned(),
        word => word.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

async fn all_routes(host: &TestHost) -> Vec<(String, String)> {
    described(host).await.into_iter().map(|(method, _, path)| (method, path)).collect()
}

/// What answers without a token, of what the description has.
const PUBLIC: &[(&str, &str)] = &[("GET", "/login"), ("POST", "/login"), ("GET", "/me"), ("POST", "/worker"), ("POST", "/worker/{id}")];
/// The same on the internal door besides.
const INTERNAL: &[(&str, &str)] = &[
    ("PUT", "/self-register"),
    ("POST", "/self-register"),
    ("DELETE", "/self-register/{name}"),
    ("PUT", "/register"),
    ("POST", "/register"),
    ("DELETE", "/register/{name}"),
    ("GET", "/discover"),
    ("GET", "/discover/"),
    ("GET", "/discover/{name}"),
    ("GET", "/health"),
];

#[tokio::test]
async fn without_a_token_only_the_open_routes_answer() {
    let mut host = TestHost::start().await;
    host.worker("attic").await;
    let server = host.call("POST", "/server", json!({ "game_id": "docker:manman/openarena", "name": "secret-lair" })).await.expect(201);
    for door in [Door::Public, Door::Internal] {
        host.router = router(&host.app, door);
        let open: Vec<_> = PUBLIC.iter().chain(if door == Door::Internal { INTERNAL } else { &[] }).copied().collect();
        let routes = described(&host).await;
        let paths: std::collections::BTreeSet<_> = routes.iter().map(|(_, path, _)| path.clone()).collect();
        for path in paths {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
                let described_as = if method == "HEAD" { "GET" } else { method };
                if open.contains(&(described_as, path.as_str())) {
                    assert_ne!(host.send(method, &filled(&path, SOMEBODY), &[], Value::Null).await.status, 401, "{method} {path}");
                    continue;
                }
                for id in [SOMEBODY, server["id"].as_str().expect("an id"), "attic", "secret-lair"] {
                    let path = filled(&path, id);
                    let strangers =
                        [&[][..], &[("authorization", "Bearer mm_admin_wrong")], &[("cookie", "manman_session=mm_session_wrong")]];
                    for headers in strangers {
                        let answer = host.send(method, &path, headers, json!({})).await;
                        let status = answer.status.as_u16();
                        // A cookie alone is refused before anybody looks whose it is.
                        assert!(
                            status == 401 || (status == 403 && headers.iter().any(|(name, _)| *name == "cookie")),
                            "{method} {path}: {status}"
                        );
                        if method != "HEAD" {
                            let told = answer.problem(status, if status == 401 { "unauthenticated" } else { "forbidden" }).to_string();
                            assert!(!told.contains("secret-lair") && !told.contains("attic"), "{method} {path}: {told}");
                        }
                    }
                }
            }
        }
    }
    host.router = router(&host.app, Door::Public);
    for path in ["/", "/docs/", "/docs/swagger-ui.css", "/openapi.json"] {
        assert_eq!(host.send("GET", path, &[], Value::Null).await.status, 200, "{path}");
    }
    assert_eq!(host.get("/server").await.expect(200)["items"][0]["desired"], "running");
}

/// Whoever may only look changes nothing, by whatever route and in whatever state the thing is.
#[tokio::test]
async fn a_viewers_token_is_refused_by_every_route_that_changes_something() {
    let host = TestHost::start().await;
    let (worker, _) = host.worker("attic").await;
    let server = host.call("POST", "/server", json!({ "game_id": "docker:manman/openarena" })).await.expect(201);
    let server = server["id"].as_str().expect("an id").to_owned();
    let worker = worker.to_string();
    let only = server.parse().expect("an id");
    let viewers = [host.token(Scope::Viewer, |_| ()).await, host.token(Scope::Viewer, |token| token.server_id = Some(only)).await];
    let count = async || -> i64 {
        let query = "select (select count(*) from token) + (select count(*) from event) + (select count(*) from server) + (select count(*) from account)";
        sqlx::query_scalar(query).fetch_one(&host.app.db).await.expect("a count")
    };
    let before = count().await;
    let mut tried = 0;
    for (method, described, _) in described(&host).await {
        if method == "GET" || PUBLIC.contains(&(method.as_str(), described.as_str())) {
            continue;
        }
        let ids = if described.starts_with("/server") {
            vec![server.as_str()]
        } else if described.starts_with("/worker") {
            vec![worker.as_str()]
        } else {
            vec![SOMEBODY]
        };
        for (viewer, id) in viewers.iter().flat_map(|viewer| ids.iter().map(move |id| (viewer, *id))) {
            let path = filled(&described, id);
            for body in [Value::Null, json!({}), json!({ "command": "quit" }), Value::String("{".to_owned())] {
                let answer = host.call_as(viewer, &method, &path, body.clone()).await;
                assert_eq!(answer.status, 403, "{method} {path} {body}: {:#}", answer.body);
                answer.problem(403, "forbidden");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
    assert_eq!(count().await, before, "nothing was made and nothing happened");
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
