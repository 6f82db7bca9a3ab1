use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::get;
use serde_json::json;

use super::*;
use crate::orchestrator::Reason;

#[tokio::test]
async fn w06_a_waifu_is_shown_below_its_name() {
    let (door, waifu) = (TestDoor::start().await, TestWaifu::start().await);
    let reply = door.hello("Links", waifu.address).await;
    assert_eq!(reply.url, format!("http://{}/links/", door.address));
    let request = "GET /links/a%20b/../c?x=1&y=%5f HTTP/1.1\r\nHost: house:81\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n\
                   Forwarded: for=6.6.6.6\r\nX-Forwarded-Prefix: /evil\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\nX-Hop: 1\r\n\
                   Connection: close, X-Hop, Authorization\r\nAuthorization: Basic abc\r\nX-Kept: yes\r\n\r\n";
    let answer = door.raw(request).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let lines: Vec<&str> = answer.body.lines().collect();
    assert_eq!(lines[0], "GET /c?x=1&y=%5f");
    for wanted in [
        "host: house:81",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: house:81",
        "x-forwarded-prefix: /links",
        "forwarded: for=127.0.0.1;host=\"house:81\";proto=http",
        "authorization: Basic abc",
        "x-kept: yes",
    ] {
        assert!(lines.contains(&wanted), "{wanted} is missing in {}", answer.body);
    }
    for unwanted in ["6.6.6.6", "evil", "keep-alive", "proxy-authorization", "x-hop"] {
        assert!(!answer.body.contains(unwanted), "{unwanted} is in {}", answer.body);
    }
    let redirect = door.get("/links?a=b").await;
    assert_eq!((redirect.status, redirect.header("location")), (308, Some("/links/?a=b")));
    assert_eq!(door.get("/LINKS/").await.status, 200);
    assert_eq!(door.get("/unknown/").await.status, 404);
    assert_eq!(door.get("/").await.status, 404);
}

#[tokio::test]
async fn w06_a_trusted_proxy_is_believed() {
    let proxy = ProxyConfig { trusted: vec!["127.0.0.0/8".parse().expect("a network")], ..ProxyConfig::default() };
    let (door, waifu) = (TestDoor::with(OrchestratorConfig::default(), proxy).await, TestWaifu::start().await);
    door.hello("links", waifu.address).await;
    let request = "GET /links/ HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outer\r\nConnection: close\r\n\r\n";
    let answer = door.raw(request).await;
    for wanted in ["x-forwarded-for: 1.2.3.4, 127.0.0.1", "x-forwarded-proto: https", "x-forwarded-host: outer"] {
        assert!(answer.body.lines().any(|line| line == wanted), "{wanted} is missing in {}", answer.body);
    }
}

#[tokio::test]
async fn w06_answers_are_put_right_on_their_way_back() {
    let routes = Router::new().route(
        "/login",
        get(async || {
            let mut headers = HeaderMap::new();
            headers.insert("location", HeaderValue::from_static("/home?x"));
            headers.append("set-cookie", HeaderValue::from_static("a=1; Path=/; HttpOnly"));
            headers.append("set-cookie", HeaderValue::from_static("own=stolen; Path=/"));
            headers.insert("service-worker-allowed", HeaderValue::from_static("/"));
            (StatusCode::FOUND, headers)
        }),
    );
    let proxy = ProxyConfig { own_cookies: vec!["own".to_owned()], own_tokens: vec!["mm_".to_owned()], ..ProxyConfig::default() };
    let (door, waifu) = (TestDoor::with(OrchestratorConfig::default(), proxy).await, TestWaifu::with(routes).await);
    door.hello("links", waifu.address).await;
    let answer = door.get("/links/login").await;
    assert_eq!((answer.status, answer.header("location")), (302, Some("/links/home?x")));
    assert_eq!(answer.header("set-cookie"), Some("a=1; Path=/links/; HttpOnly"));
    assert!(!answer.head.contains("stolen") && answer.header("service-worker-allowed").is_none(), "{}", answer.head);
    let request =
        "GET /links/ HTTP/1.1\r\nHost: house\r\nCookie: own=secret; b=2\r\nAuthorization: Bearer mm_admin_x\r\nConnection: close\r\n\r\n";
    let answer = door.raw(request).await;
    assert!(answer.body.contains("cookie: b=2") && !answer.body.contains("secret") && !answer.body.contains("mm_admin"), "{}", answer.body);
}

#[tokio::test]
async fn w04_an_additional_bind_shows_a_path_of_the_waifu() {
    let (door, waifu, other) = (TestDoor::start().await, TestWaifu::start().await, TestWaifu::start().await);
    let binds = json!({ "https://link.waifu": "/link", "https://link.waifu/deep": "/" });
    door.say(json!({ "name": "links", "host": waifu.address.to_string(), "additionalBinds": binds })).await;
    door.say(json!({ "name": "other", "host": other.address.to_string(), "additionalBinds": { "http://link.waifu/deep/er": "/o" } })).await;
    for (path, wanted, by) in [
        ("/x?q=1", "GET /link/x?q=1", &waifu),
        ("/", "GET /link/", &waifu),
        ("/deep/y", "GET /y", &waifu),
        ("/deeper", "GET /link/deeper", &waifu),
        ("/deep/er/z", "GET /o/z", &other),
        ("/links/a", "GET /link/links/a", &waifu),
    ] {
        let answer = door.raw(&format!("GET {path} HTTP/1.1\r\nHost: Link.Waifu\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.head);
        assert_eq!(by.seen().last().map(String::as_str), Some(wanted), "{path}");
    }
    // Absent from a newer hello, a bind is gone.
    door.say(json!({ "name": "links", "host": waifu.address.to_string() })).await;
    let answer = door.raw("GET /x HTTP/1.1\r\nHost: link.waifu\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn w05_refused_binds_are_named_with_their_reason_and_freed() {
    let config = OrchestratorConfig { main_domain: crate::orchestrator::MainDomain::new("house.example"), ..OrchestratorConfig::default() };
    let (door, waifu) = (TestDoor::with(config, ProxyConfig::default()).await, TestWaifu::start().await);
    let host = waifu.address.to_string();
    door.say(json!({ "name": "first", "host": host, "expire": 1, "additionalBinds": { "https://taken.waifu": "/" } })).await;
    let binds = json!({ "https://good.waifu": "/a", "https://taken.waifu": "/", "https://house.example": "/", "ftp://x": "/", "https://n.waifu": 7 });
    let second = json!({ "name": "second", "host": host, "additionalBinds": binds });
    let reply = door.say(second.clone()).await;
    assert_eq!(reply.binds.accepted, ["https://good.waifu"]);
    let reasons: Vec<(&str, Reason)> = reply.binds.rejected.iter().map(|rejected| (rejected.bind.as_str(), rejected.reason)).collect();
    let wanted = [
        ("ftp://x", Reason::Invalid),
        ("https://house.example", Reason::MainDomain),
        ("https://n.waifu", Reason::Invalid),
        ("https://taken.waifu", Reason::Taken),
    ];
    assert_eq!(reasons, wanted);
    eventually("the bind is free when its owner's lease has ended", async || {
        let reply = door.say(second.clone()).await;
        if reply.binds.accepted.iter().any(|bind| bind == "https://taken.waifu") { Ok(()) } else { Err(format!("{:?}", reply.binds)) }
    })
    .await;
}

#[tokio::test]
async fn w03_the_front_door_is_not_forwarded_to() {
    let door = TestDoor::start().await;
    let port = door.address.port();
    for host in
        [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "169.254.169.254".to_owned(), format!("[::ffff:127.0.0.1]:{port}")]
    {
        let request = serde_json::from_value(json!({ "name": "loop", "host": host })).expect("a hello");
        let problem = door.orchestrator.hello(PEER, request).await.expect_err("refused");
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some("host")), "{host}");
    }
}

#[tokio::test]
async fn w03_a_circle_of_front_doors_ends() {
    let (one, other) = (TestDoor::start().await, TestDoor::start().await);
    // Each leads to the other, and the names are such that the path goes round.
    one.hello("a", format!("http://{}/b", other.address)).await;
    other.hello("b", format!("http://{}/a", one.address)).await;
    let answer = one.get("/a/x").await;
    assert_eq!(answer.status, 502, "{} {}", answer.head, answer.body);
}

#[tokio::test]
async fn w11_a_dead_waifu_is_502_then_503_and_comes_back() {
    let config = OrchestratorConfig { check_every: Duration::from_millis(200), ..OrchestratorConfig::default() };
    let (door, waifu) = (TestDoor::with(config, ProxyConfig::default()).await, TestWaifu::start().await);
    let address = waifu.address;
    door.hello("links", address).await;
    assert_eq!(door.get("/links/").await.status, 200);
    waifu.stop().await;
    assert_eq!(door.get("/links/").await.status, 502, "at once");
    eventually("it is 503 after three checks", async || {
        let answer = door.get("/links/").await;
        if answer.status == 503 && answer.header("retry-after").is_some() { Ok(()) } else { Err(answer.head) }
    })
    .await;
    let listener = TcpListener::bind(address).await.expect("the port is free again");
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(async || StatusCode::NO_CONTENT)).await });
    eventually("it is back", async || {
        let answer = door.get("/links/").await;
        if answer.status == 204 { Ok(()) } else { Err(answer.head) }
    })
    .await;
}
