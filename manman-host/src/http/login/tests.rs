//! People come and go, through the real router and a real database.

use std::time::Duration;

use futures_util::StreamExt as _;
use manman_common::client::Socket;
use manman_common::wire::Scope;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::clock;
use crate::fleet::fake_worker::{client, listen};
use crate::testing::{Answer, TestHost};

const PASSWORD: &str = "correct horse battery";
const HOME: [u8; 4] = [192, 168, 1, 7];

/// An account with a password; answers its id.
pub(crate) async fn account(host: &TestHost, name: &str, role: &str) -> String {
    let body = json!({ "name": name, "role": role, "password": PASSWORD });
    let made = host.call("POST", "/account", body).await.expect(201);
    assert!(!made.to_string().contains(PASSWORD) && made.get("login_url").is_none(), "{made:#}");
    made["id"].as_str().expect("an id").to_owned()
}

/// The secret in the cookie of an answer that signs in.
#[track_caller]
pub(crate) fn secret(answer: &Answer) -> String {
    let cookie = answer.headers.get("set-cookie").unwrap_or_else(|| panic!("{:#}", answer.body)).to_str().expect("text");
    for mark in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(mark), "{cookie}");
    }
    let secret = cookie.split(';').next().and_then(|pair| pair.strip_prefix("manman_session=")).expect("a cookie");
    assert!(secret.starts_with("mm_session_"), "{secret}");
    secret.to_owned()
}

/// Signs in and answers the session's secret.
pub(crate) async fn sign_in(host: &TestHost, body: Value) -> String {
    let answer = host.send("POST", "/login", &[("user-agent", "Test/1.0")], body).await;
    assert_eq!(answer.status, 204, "{:#}", answer.body);
    secret(&answer)
}

async fn by_password(host: &TestHost, name: &str) -> String {
    sign_in(host, json!({ "name": name, "password": PASSWORD })).await
}

async fn me(host: &TestHost, secret: &str) -> Value {
    host.call_as(secret, "GET", "/me", Value::Null).await.expect(200)
}

async fn is_out(host: &TestHost, secret: &str) {
    host.call_as(secret, "GET", "/me", Value::Null).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_person_signs_in_and_the_host_knows_who_it_is() {
    let host = TestHost::start().await;
    let id = account(&host, "Anna", "operator").await;
    let session = by_password(&host, "anna").await;
    let seen = me(&host, &session).await;
    assert_eq!((&seen["name"], &seen["role"], &seen["account_id"]), (&json!("Anna"), &json!("operator"), &json!(id)));
    assert_eq!((&seen["has_password"], &seen["server_id"]), (&json!(true), &Value::Null));
    assert_eq!(seen["host"]["public_url"], "http://127.0.0.1:8080");
    assert!(seen["host"]["version"].is_string() && seen["host"]["mdns"].is_boolean() && seen["expires_at"].is_string());

    let listed = host.call_as(&session, "GET", "/session", Value::Null).await.expect(200);
    let own = &listed["items"][0];
    assert_eq!((&own["id"], &own["current"], &own["user_agent"]), (&seen["session_id"], &json!(true), &json!("Test/1.0")));
    assert_eq!((&own["peer"], &own["name"], &listed["items"][1]), (&json!("192.168.1.7"), &json!("Anna"), &Value::Null));
    host.call_as(&session, "GET", "/session?all=true", Value::Null).await.problem(403, "forbidden");
    assert!(host.get("/account").await.expect(200)["items"][0]["last_seen_at"].is_string());

    // What the person does is the person's in the events, with where it came from.
    host.call_as(&session, "POST", "/account", json!({ "name": "x", "role": "admin" })).await.problem(403, "forbidden");
    let login = host.get("/event?kind=login").await.expect(200)["items"][0].clone();
    assert_eq!((&login["actor"], &login["data"]["peer"]), (&json!("Anna"), &json!("192.168.1.7")));

    let leaving = host.send("POST", "/logout", &[("authorization", &format!("Bearer {session}"))], Value::Null).await;
    assert!(leaving.headers["set-cookie"].to_str().expect("text").contains("Max-Age=0"));
    leaving.expect(204);
    is_out(&host, &session).await;
    let stored: i64 = sqlx::query_scalar("select count(*) from event where data::text like '%correct horse%'")
        .fetch_one(&host.app.db)
        .await
        .expect("count");
    assert_eq!(stored, 0);
}

#[tokio::test]
async fn nobody_learns_which_of_the_two_was_wrong() {
    let host = TestHost::start().await;
    account(&host, "anna", "viewer").await;
    let disabled = account(&host, "bert", "viewer").await;
    host.call("PUT", &format!("/account/{disabled}"), json!({ "disabled": true })).await.expect(200);
    host.call("POST", "/account", json!({ "name": "carl", "role": "viewer" })).await.expect(201);
    let try_in = async |peer: u8, name: &str, password: &str| {
        let began = clock::instant();
        let body = json!({ "name": name, "password": password });
        let mut problem = host.send_from([192, 0, 2, peer], "POST", "/login", &[], body).await.problem(401, "unauthenticated");
        problem["instance"] = Value::Null;
        (problem.to_string(), began.elapsed())
    };
    let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
    for peer in 0..3 {
        wrong.push(try_in(peer, "anna", "wrong horse battery").await);
        unknown.push(try_in(peer, "nobody", "wrong horse battery").await);
        unknown.push(try_in(peer, "bert", PASSWORD).await);
        unknown.push(try_in(peer, "carl", PASSWORD).await);
        unknown.push(try_in(peer, "anna", &"x".repeat(100_000)).await);
    }
    assert!(unknown.iter().all(|(problem, _)| *problem == wrong[0].0), "{unknown:?}");
    let quickest = |tries: &[(String, Duration)]| tries.iter().map(|(_, took)| *took).min().expect("some");
    assert!(quickest(&unknown) * 3 > quickest(&wrong), "an answer without a hash would come at once: {unknown:?} {wrong:?}");
    for body in [json!({}), json!({ "name": "anna" }), json!({ "name": "anna", "password": PASSWORD, "token": "x" }), json!([])] {
        host.send("POST", "/login", &[], body).await.problem(400, "invalid");
    }
}

#[tokio::test]
async fn guessing_is_slowed_where_it_happens_and_nowhere_else() {
    let host = TestHost::start().await;
    account(&host, "anna", "viewer").await;
    let session = by_password(&host, "anna").await;
    let try_in = async |peer: [u8; 4], name: &str, password: &str| {
        host.send_from(peer, "POST", "/login", &[], json!({ "name": name, "password": password })).await
    };
    let thief = [203, 0, 113, 9];
    for _ in 0..5 {
        try_in(thief, "anna", "wrong horse battery").await.problem(401, "unauthenticated");
    }
    let refused = try_in(thief, "ANNA", PASSWORD).await;
    let after: u64 = refused.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=31).contains(&after), "{after}");
    let problem = refused.problem(429, "too-many-requests");
    assert_eq!(problem["retry_after"], after);
    assert_eq!(try_in(HOME, "anna", PASSWORD).await.status, 204, "the owner elsewhere");
    me(&host, &session).await;
    // At the same address others still get in, until the address itself has had enough.
    account(&host, "bert", "viewer").await;
    assert_eq!(try_in(thief, "bert", PASSWORD).await.status, 204);
    let mut refusals = 0;
    for number in 0..30 {
        refusals += usize::from(try_in(thief, &format!("name{number}"), "wrong horse battery").await.status == 429);
    }
    assert!((10..=16).contains(&refusals), "{refusals}");
    assert_eq!(try_in(thief, "bert", PASSWORD).await.status, 429);
    assert_eq!(try_in(HOME, "bert", PASSWORD).await.status, 204);
}

#[tokio::test]
async fn a_session_from_a_token_ends_with_the_token() {
    let host = TestHost::start().await;
    let made = host.call("POST", "/token", json!({ "scope": "viewer", "label": "friend", "expires_in": 3600 })).await.expect(201);
    let token = made["token"].as_str().expect("a secret").to_owned();
    let session = sign_in(&host, json!({ "token": token })).await;
    let seen = me(&host, &session).await;
    assert_eq!((&seen["name"], &seen["role"], &seen["account_id"]), (&json!("friend"), &json!("viewer"), &Value::Null));
    let moment = |value: &Value| value.as_str().expect("text").parse::<manman_common::Timestamp>().expect("a moment");
    assert!(moment(&seen["expires_at"]) <= moment(&made["expires_at"]), "{seen:#}");
    host.call_as(&session, "PUT", "/me/password", json!({ "new": PASSWORD })).await.problem(403, "forbidden");
    // A link made in that session has the same end.
    let link = host.call_as(&session, "POST", "/login-link", Value::Null).await.expect(201);
    let path = link["url"].as_str().expect("a link").strip_prefix("http://127.0.0.1:8080").expect("ours").to_owned();
    let second = host.send("GET", &path, &[], Value::Null).await;
    assert_eq!(second.status, 303);
    let second = secret(&second);
    let unused = host.call_as(&session, "POST", "/login-link", Value::Null).await.expect(201);
    assert_eq!(host.call_as(&token, "GET", "/session", Value::Null).await.expect(200)["items"].as_array().map(Vec::len), Some(2));

    host.call("DELETE", &format!("/token/{}", made["id"].as_str().expect("an id")), Value::Null).await.expect(204);
    is_out(&host, &session).await;
    is_out(&host, &second).await;
    let path = unused["url"].as_str().expect("a link").strip_prefix("http://127.0.0.1:8080").expect("ours").to_owned();
    assert_eq!(host.send("GET", &path, &[], Value::Null).await.status, 401);

    let (join, (_, worker)) = (host.token(Scope::Join, |_| ()).await, host.worker("attic").await);
    let admin = sign_in(&host, json!({ "token": host.admin })).await;
    for (bad, peer) in [join.as_str(), &worker, &token, &session, &admin, "mm_admin_x", ""].into_iter().zip(1..) {
        host.send_from([192, 0, 2, peer], "POST", "/login", &[], json!({ "token": bad })).await.problem(401, "unauthenticated");
    }
    host.call_as(&worker, "GET", "/me", Value::Null).await.problem(403, "forbidden");
}

async fn ends_soon(mut socket: Socket) {
    let ended = async {
        while let Some(Ok(message)) = socket.next().await {
            if matches!(message, Message::Close(_)) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), ended).await.expect("the socket is closed within a second");
}

#[tokio::test]
async fn whatever_ends_a_session_closes_its_open_sockets_within_a_second() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let anna = account(&host, "anna", "operator").await;
    let stream = async |secret: &str| client(address, secret).websocket("/event/stream").await.expect("a socket");

    let session = by_password(&host, "anna").await;
    let socket = stream(&session).await;
    let id = me(&host, &session).await["session_id"].as_str().expect("an id").to_owned();
    host.call("DELETE", &format!("/session/{id}"), Value::Null).await.expect(204);
    ends_soon(socket).await;
    is_out(&host, &session).await;
    host.call("DELETE", &format!("/session/{id}"), Value::Null).await.problem(404, "not-found");

    let session = by_password(&host, "anna").await;
    let socket = stream(&session).await;
    host.call_as(&session, "POST", "/logout", Value::Null).await.expect(204);
    ends_soon(socket).await;

    // A new password ends all but the session that has set it.
    let (own, other) = (by_password(&host, "anna").await, by_password(&host, "anna").await);
    let (kept, ended) = (stream(&own).await, stream(&other).await);
    let change = |old: &str| json!({ "old": old, "new": "another horse battery" });
    assert_eq!(host.call_as(&own, "PUT", "/me/password", change("wrong horse")).await.problem(400, "invalid")["field"], "old");
    assert_eq!(host.call_as(&own, "PUT", "/me/password", json!({ "new": "short" })).await.problem(400, "invalid")["field"], "new");
    host.call_as(&own, "PUT", "/me/password", change(PASSWORD)).await.expect(204);
    ends_soon(ended).await;
    is_out(&host, &other).await;
    me(&host, &own).await;
    host.send("POST", "/login", &[], json!({ "name": "anna", "password": PASSWORD })).await.problem(401, "unauthenticated");

    // Another role, a disabled account, and none at all: everything ends.
    let path = format!("/account/{anna}");
    host.call("PUT", &path, json!({ "role": "viewer" })).await.expect(200);
    ends_soon(kept).await;
    is_out(&host, &own).await;
    for (method, body) in [("PUT", json!({ "disabled": true })), ("DELETE", Value::Null)] {
        host.call("PUT", &path, json!({ "disabled": false, "password": PASSWORD })).await.expect(200);
        let session = by_password(&host, "anna").await;
        let socket = stream(&session).await;
        assert!(host.call(method, &path, body).await.status.is_success());
        ends_soon(socket).await;
        is_out(&host, &session).await;
        host.send("POST", "/login", &[], json!({ "name": "anna", "password": PASSWORD })).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_session_that_expires_ends_its_sockets_by_itself() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    let expiry = clock::now().plus(Duration::from_millis(1500));
    let token = host.token(Scope::Viewer, |token| token.expires_at = Some(expiry)).await;
    let session = sign_in(&host, json!({ "token": token })).await;
    let socket = client(address, &session).websocket("/event/stream").await.expect("a socket");
    let left = expiry.since(clock::now());
    tokio::time::timeout(left + Duration::from_secs(1), ends_soon_after(socket)).await.expect("it ends with its token");
    assert!(clock::now() >= expiry);
    is_out(&host, &session).await;
    is_out(&host, &token).await;
}

async fn ends_soon_after(mut socket: Socket) {
    while let Some(Ok(message)) = socket.next().await {
        if matches!(message, Message::Close(_)) {
            break;
        }
    }
}

#[tokio::test]
async fn a_stolen_cookie_does_nothing_for_another_site() {
    let host = TestHost::start().await;
    let address = listen(&host).await;
    account(&host, "anna", "admin").await;
    let session = by_password(&host, "anna").await;
    let cookie = format!("other=1; manman_session={session}");
    let post = async |headers: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> =
            [("cookie", cookie.as_str()), ("host", "127.0.0.1:8080")].into_iter().chain(headers.iter().copied()).collect();
        host.send("POST", "/token", &all, json!({ "scope": "viewer" })).await
    };
    for foreign in [
        &[][..],
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:9999")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")],
    ] {
        post(foreign).await.problem(403, "forbidden");
    }
    post(&[("origin", "http://127.0.0.1:8080")]).await.expect(201);
    post(&[("sec-fetch-site", "same-origin")]).await.expect(201);
    // On an open route it counts for nothing: the machine has to ask a person.
    let asked = host.send("POST", "/worker", &[("cookie", &cookie)], json!({ "name": "attic" })).await.expect(200);
    let path = format!("/worker/{}", asked["id"].as_str().expect("an id"));
    let asked = host.send("POST", &path, &[("cookie", &cookie)], json!({ "worker-name": "attic" })).await.expect(201);
    assert_eq!(asked["status"], "pending", "{asked:#}");

    let open = async |origin: String| {
        let mut request = format!("ws://{address}/event/stream").into_client_request().expect("a request");
        request.headers_mut().insert("cookie", cookie.parse().expect("a header"));
        request.headers_mut().insert("origin", origin.parse().expect("a header"));
        tokio_tungstenite::connect_async(request).await
    };
    let refused = open("http://evil.example".to_owned()).await;
    assert!(matches!(&refused, Err(Error::Http(answer)) if answer.status() == 403), "{refused:?}");
    open(format!("http://{address}")).await.expect("a page of ours");
}

#[tokio::test]
async fn the_sessions_of_one_account_are_bounded_and_the_oldest_give_way() {
    let host = TestHost::start().await;
    let first = sign_in(&host, json!({ "token": host.admin })).await;
    for _ in 0..50 {
        sign_in(&host, json!({ "token": host.admin })).await;
    }
    is_out(&host, &first).await;
    let listed = host.get("/session?limit=200").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(50));
}
