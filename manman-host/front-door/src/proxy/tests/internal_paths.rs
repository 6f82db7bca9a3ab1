use super::*;
use serde_json::json;

#[tokio::test]
async fn w07_no_bypass_reaches_the_waifu() {
    let (door, waifu) = (TestDoor::start().await, TestWaifu::start().await);
    door.hello("x", waifu.address).await;
    door.say(json!({ "name": "y", "host": waifu.address.to_string(), "additionalBinds": { "http://y.waifu": "/" } })).await;
    let unknown = door.get("/nobody/at/all").await;
    assert_eq!(unknown.status, 404);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: house\r\nConnection: close\r\n\r\n");
    let mut requests: Vec<String> = [
        "/x/__internal/health",
        "/x/__internal/secret",
        "/x/%5f%5finternal/a",
        "/x/%255f%255finternal/a",
        "/x/%25255f_internal/a",
        "/x/%5F%5F%69nternal/a",
        "/x/a/../__internal/a",
        "/x/a/%2e%2e/__internal/a",
        "/x/./__internal/a",
        "/x//__internal/a",
        "//x//__internal/a",
        "/x/__InTernal/a",
        "/x/__internalfoo",
        "/x/a\\__internal/a",
        "/x/a%5c__internal/a",
        "/x/a%2f__internal/a",
        "/x/;v/__internal/a",
        "/x/__internal;v=1/a",
        "/x/..;/__internal/a",
        "/x/%c0%af__internal/a",
        "/x/%00/__internal/a",
        "/x/%u005f_internal/a",
        "/x/\u{ff3f}\u{ff3f}internal/a",
        "/__internal/health",
        "/__internal/hello",
        "/y/../x/__internal/a",
    ]
    .into_iter()
    .map(get)
    .collect();
    requests.push("GET http://house/x/__internal/a HTTP/1.1\r\nHost: house\r\nConnection: close\r\n\r\n".to_owned());
    requests.push("GET http://y.waifu/__internal/a HTTP/1.1\r\nHost: house\r\nConnection: close\r\n\r\n".to_owned());
    requests.push("GET /__internal/a HTTP/1.1\r\nHost: y.waifu\r\nConnection: close\r\n\r\n".to_owned());
    let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    requests.push(format!("GET /x/__internal/ws HTTP/1.1\r\nHost: house\r\n{socket}\r\n\r\n"));
    for request in &requests {
        // A kept connection is closed by us, since nothing more comes.
        let answer =
            tokio::time::timeout(Duration::from_secs(15), door.raw(&request.replace("Upgrade\r\nUp", "Upgrade, close\r\nUp"))).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer to {request}"));
        assert!(matches!(answer.status, 404 | 400), "{request} is answered {}", answer.head);
        if answer.status == 404 {
            assert_eq!(answer.body, unknown.body, "{request} looks other than what is unknown");
        }
    }
    assert_eq!(waifu.seen(), Vec::<String>::new(), "the waifu has seen something");
    // And what only looks like it passes.
    assert_eq!(door.get("/x/my__internal?a=__internal").await.status, 200);
    // A server that goes by such a header would answer for another path than the one that was checked.
    let sly =
        "GET /x/a HTTP/1.1\r\nHost: house\r\nX-Original-URL: /__internal/a\r\nX-Rewrite-URL: /__internal/a\r\nConnection: close\r\n\r\n";
    let answer = door.raw(sly).await;
    assert!(answer.status == 200 && !answer.body.contains("-url"), "{}", answer.body);
    assert_eq!(waifu.seen(), ["GET /my__internal?a=__internal", "GET /a"]);
}

#[tokio::test]
async fn w07_an_upgrade_to_anything_but_websocket_is_not_asked_for() {
    let (door, waifu) = (TestDoor::start().await, TestWaifu::start().await);
    door.hello("x", waifu.address).await;
    let request = "GET /x/a HTTP/1.1\r\nHost: house\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let answer = door.raw(request).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(!answer.body.contains("upgrade") && !answer.body.contains("http2-settings"), "{}", answer.body);
}
