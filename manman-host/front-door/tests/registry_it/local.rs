//! L13: what only this machine's own programs may do.

use manman_front_door::registry::{Clock, Keep};
use serde_json::json;

use super::rig::{Rig, config, lan_address, rig};

#[tokio::test]
async fn l13_any_address_is_registered_from_loopback() {
    let rig = rig().await;
    let body = r#"{"name": "nas", "expiry": 60, "ip": "192.168.1.20", "port": 445}"#;
    assert_eq!(rig.put("/register", body).await.status, 201);
    assert_eq!(rig.get("/discover/nas").await.json(), json!({"ip": "192.168.1.20", "port": 445}));
    // The same rules as for everybody.
    assert_eq!(rig.put("/register", body).await.json()["result"], "refreshed");
    let other = r#"{"name": "nas", "expiry": 60, "ip": "192.168.1.21", "port": 445}"#;
    let ignored = rig.put("/register", other).await;
    assert_eq!((ignored.status, ignored.json()["result"].clone()), (409, json!("ignored")));
    let forced = r#"{"name": "nas", "expiry": 30, "ip": "192.168.1.21", "port": 445, "force": true}"#;
    let forced = rig.put("/register", forced).await;
    assert_eq!((forced.json()["result"].clone(), forced.json()["expire"].clone()), (json!("replaced"), json!(30)));
    assert_eq!(rig.ask(None, "DELETE", "/register/nas", &[], "").await.status, 204);
    assert_eq!(rig.ask(None, "DELETE", "/register/nas", &[], "").await.status, 404);
    for body in [
        r#"{"name":"x","expiry":60,"ip":"0.0.0.0","port":1}"#,
        r#"{"name":"x","expiry":60,"ip":"224.0.0.1","port":1}"#,
        r#"{"name":"x","expiry":60,"ip":"nas.lan","port":1}"#,
        r#"{"name":"x","expiry":60,"ip":"10.0.0.1"}"#,
        r#"{"name":"x","expiry":86401,"ip":"10.0.0.1","port":1}"#,
    ] {
        assert_eq!(rig.put("/register", body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn l13_a_local_proxy_makes_nobody_local() {
    let rig = rig().await;
    let body = r#"{"name": "nas", "expiry": 60, "ip": "192.168.1.20", "port": 445}"#;
    for header in [("forwarded", "for=10.0.0.1"), ("x-forwarded-for", "127.0.0.1"), ("X-Forwarded-Proto", "http")] {
        let refused = rig.ask(None, "PUT", "/register", &[header], body).await;
        assert_eq!((refused.status, refused.json()["result"].clone()), (403, json!("ignored")), "{header:?}");
        assert_eq!(rig.ask(None, "DELETE", "/register/nas", &[header], "").await.status, 403);
    }
    assert_eq!(rig.registry.len(), 0);
}

#[tokio::test]
async fn l13_from_the_network_it_is_ignored() {
    let Some(lan) = lan_address() else { return };
    let rig = Rig::bind("0.0.0.0:0", config(), Keep::Nowhere, Clock::real()).await;
    let there = std::net::SocketAddr::new(lan, rig.address.port());
    let body = r#"{"name": "nas", "expiry": 60, "ip": "192.168.1.20", "port": 445}"#;
    let stream = tokio::net::TcpStream::connect(there).await.expect("it listens");
    let refused = super::rig::exchange(stream, there, "PUT", "/register", &[], body).await;
    assert_eq!((refused.status, rig.registry.len()), (403, 0), "{}", refused.body);
    let stream = tokio::net::TcpStream::connect(there).await.expect("it listens");
    let own = super::rig::exchange(stream, there, "PUT", "/self-register", &[], r#"{"name":"own","expire":60,"port":1}"#).await;
    assert_eq!((own.status, own.json()["ip"].clone()), (201, json!(lan.to_string())));
}
