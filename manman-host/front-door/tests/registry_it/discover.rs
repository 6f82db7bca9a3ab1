//! L7 to L9: how services are found, and how one hears of changes.

use std::collections::BTreeSet;
use std::time::Duration;

use manman_front_door::registry::{Clock, Keep, RegistryConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::{Rig, config, exchange, rig};

#[tokio::test]
async fn l07_an_ipv4_address_in_ipv6s_clothes_is_the_same() {
    // A listener on `::` sees IPv4 peers as ::ffff:a.b.c.d.
    let rig = Rig::bind("[::]:0", config(), Keep::Nowhere, Clock::real()).await;
    let v4 = std::net::SocketAddr::from(([127, 0, 0, 1], rig.address.port()));
    let stream = tokio::net::TcpStream::connect(v4).await.expect("it listens");
    let body = r#"{"name":"a","expire":60,"port":8000}"#;
    let added = exchange(stream, v4, "PUT", "/self-register", &[], body).await;
    assert_eq!((added.status, added.json()["ip"].clone()), (201, json!("127.0.0.1")));
    let admin = r#"{"name":"a","expiry":5,"ip":"::ffff:127.0.0.1","port":8000}"#;
    let stream = tokio::net::TcpStream::connect(v4).await.expect("it listens");
    let same = exchange(stream, v4, "PUT", "/register", &[], admin).await;
    assert_eq!(same.json()["result"], "refreshed");
    // Another family is another address.
    let v6 = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, rig.address.port()));
    let stream = tokio::net::TcpStream::connect(v6).await.expect("it listens");
    assert_eq!(exchange(stream, v6, "PUT", "/self-register", &[], body).await.status, 409);
}

#[tokio::test]
async fn l07_a_forwarded_address_counts_from_a_trusted_proxy_alone() {
    let trusting = RegistryConfig { trusted_proxies: vec![std::net::Ipv4Addr::new(127, 0, 0, 9).into()], ..config() };
    let rig = Rig::start(trusting, Keep::Nowhere, Clock::real()).await;
    let claim = [("x-forwarded-for", "10.1.2.3")];
    let body = r#"{"name":"a","expire":60,"port":80}"#;
    let from = |text: &str| Some(text.parse().expect("an address"));
    assert_eq!(rig.ask(from("127.0.0.8:0"), "PUT", "/self-register", &claim, body).await.json()["ip"], "127.0.0.8");
    let body = r#"{"name":"b","expire":60,"port":80}"#;
    assert_eq!(rig.ask(from("127.0.0.9:0"), "PUT", "/self-register", &claim, body).await.json()["ip"], "10.1.2.3");
    // The proxy's own port is nobody's service.
    let blind = rig.ask(from("127.0.0.9:0"), "PUT", "/self-register", &claim, r#"{"name":"c","expire":60}"#).await;
    assert_eq!((blind.status, blind.json()["field"].clone()), (400, json!("port")));
}

#[tokio::test]
async fn l08_the_list_is_exactly_the_map_of_the_text() {
    let rig = rig().await;
    let empty = rig.get("/discover").await;
    assert_eq!((empty.status, empty.body.as_str(), empty.header("content-type")), (200, "{}", Some("application/json")));
    for name in ["zeta", "Alpha", "mid.dle"] {
        let body = format!(r#"{{"name":"{name}","expire":60,"port":80,"tags":["t"],"meta":{{"k":"v"}}}}"#);
        assert_eq!(rig.put("/self-register", &body).await.status, 201);
    }
    let list = rig.get("/discover").await;
    assert_eq!(
        list.body,
        r#"{"Alpha":{"ip":"127.0.0.1","port":80},"mid.dle":{"ip":"127.0.0.1","port":80},"zeta":{"ip":"127.0.0.1","port":80}}"#
    );
    assert_eq!(rig.get("/discover/").await.body, list.body);
    let verbose = rig.get("/discover?verbose=1").await.json();
    assert_eq!(
        verbose["zeta"],
        json!({"ip": "127.0.0.1", "port": 80, "expire": 60, "expires_in": 60, "status": "unknown", "tags": ["t"], "meta": {"k": "v"}})
    );

    let tag = list.header("etag").expect("a tag").to_owned();
    let again = rig.ask(None, "GET", "/discover", &[("if-none-match", &tag)], "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    // A refresh changes nothing that is seen.
    rig.put("/self-register", r#"{"name":"zeta","expire":60,"port":80}"#).await;
    assert_eq!(rig.get("/discover").await.header("etag"), Some(tag.as_str()));
    rig.put("/self-register", r#"{"name":"new","expire":60,"port":80}"#).await;
    assert_eq!(rig.ask(None, "GET", "/discover", &[("if-none-match", &tag)], "").await.status, 200);
    for bad in ["/discover?verbose=maybe", "/discover?wait=soon", "/discover?index=-1"] {
        assert_eq!(rig.get(bad).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn l08_a_long_poll_hears_of_the_change_and_of_the_end_of_a_lease() {
    let rig = rig().await;
    let index = rig.get("/discover").await.header("x-index").expect("an index").to_owned();
    let path = format!("/discover?wait=20s&index={index}");
    let (heard, _) = tokio::join!(rig.get(&path), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.put("/self-register", r#"{"name":"a","expire":1,"port":80}"#).await
    });
    assert_eq!(heard.json(), json!({"a": {"ip": "127.0.0.1", "port": 80}}));
    // Who is behind is answered at once, and who comes from another registry as well.
    let begun = tokio::time::Instant::now();
    rig.get(&path).await;
    rig.get("/discover?wait=20s&index=18446744073709551615").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let index = heard.header("x-index").expect("an index");
    let gone = rig.get(&format!("/discover?wait=20s&index={index}")).await;
    assert_eq!(gone.body, "{}");
    assert!(begun.elapsed() < Duration::from_secs(3), "the end of a lease wakes who waits");
    // Nothing happens: the same answer, after the time that was asked for.
    let index = gone.header("x-index").expect("an index");
    let begun = tokio::time::Instant::now();
    let same = rig.get(&format!("/discover?wait=300ms&index={index}")).await;
    assert_eq!(same.header("x-index"), Some(index));
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn l09_one_service_by_its_name() {
    let rig = rig().await;
    for name in ["links", "mattccs.test1", "a~b_c-D.9", &"x".repeat(63)] {
        let body = format!(r#"{{"name":"{name}","expire":60,"port":80}}"#);
        assert_eq!(rig.put("/self-register", &body).await.status, 201);
        // As it stands, and with each letter escaped.
        let escaped: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for path in [name, escaped.as_str()] {
            let found = rig.get(&format!("/discover/{path}")).await;
            assert_eq!((found.status, found.json()), (200, json!({"ip": "127.0.0.1", "port": 80})), "{path}");
        }
    }
    let unknown = rig.get("/discover/nobody").await;
    assert_eq!((unknown.status, unknown.header("content-type")), (404, Some("application/problem+json")));
    assert_eq!(unknown.json()["type"], "not-found");
    for path in ["/discover/a%2Fb", "/discover/%2e%2e", "/discover/%00", "/discover/%ff"] {
        assert!(matches!(rig.get(path).await.status, 400 | 404), "{path}");
    }
}

#[tokio::test]
async fn l09_one_can_wait_for_a_service() {
    let rig = rig().await;
    let (found, _) = tokio::join!(rig.get("/discover/late?wait=20s"), async {
        for name in ["other", "another", "late"] {
            tokio::time::sleep(Duration::from_millis(50)).await;
            rig.put("/self-register", &format!(r#"{{"name":"{name}","expire":60,"port":80}}"#)).await;
        }
    });
    assert_eq!((found.status, found.json()), (200, json!({"ip": "127.0.0.1", "port": 80})));
}

#[tokio::test]
async fn l08_a_stream_tells_each_change_after_the_whole() {
    let rig = rig().await;
    rig.put("/self-register", r#"{"name":"first","expire":60,"port":1}"#).await;
    let mut stream = rig.connect(None).await;
    stream.write_all(b"GET /discover HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n").await.expect("sent");
    let mut heard = String::new();
    let mut told = BTreeSet::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        while !heard.contains("event: removed") {
            if heard.contains("event: services") && told.insert("added") {
                rig.put("/self-register", r#"{"name":"second","expire":60,"port":2}"#).await;
            }
            if heard.contains("event: added") && told.insert("removed") {
                rig.ask(None, "DELETE", "/register/first", &[], "").await;
            }
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).await.expect("it is open");
            heard.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
    });
    ended.await.expect("all three events come");
    assert!(heard.contains(r#"data: {"first":{"ip":"127.0.0.1","port":1}}"#), "{heard}");
    assert!(heard.contains(r#""change":"added","name":"second","ip":"127.0.0.1","port":2}"#), "{heard}");
}
