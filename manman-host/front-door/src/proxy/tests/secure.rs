use std::path::Path;
use std::sync::Arc;

use axum::extract::ws::Message;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::proxy::Certificates;

/// A certificate for that host in the directory, as a person would put it there.
fn put(directory: &Path, host: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a certificate");
    std::fs::write(directory.join(format!("{host}.crt")), made.cert.pem()).expect("written");
    std::fs::write(directory.join(format!("{host}.key")), made.signing_key.serialize_pem()).expect("written");
    made.cert.der().clone()
}

/// A front door with TLS for that host, and what a client must trust.
async fn secure_door(door: &TestDoor, host: &str) -> (SocketAddr, CertificateDer<'static>, DropGuard) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a directory");
    let der = put(folder.path(), host);
    let certificates = Arc::new(Certificates::new(None).expect("none by default"));
    certificates.read(folder.path()).expect("readable");
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), Some(certificates.server_config())).await.expect("a port");
    let address = listener.address();
    let end = CancellationToken::new();
    tokio::spawn(listener.serve(FrontDoor::new(Arc::clone(&door.orchestrator), ProxyConfig::default()), end.clone()));
    (address, der, end.drop_guard())
}

/// A WebSocket within HTTP/2: an extended CONNECT (RFC 8441), of which the waifu sees an ordinary upgrade.
#[tokio::test]
async fn w06_a_websocket_over_http2_goes_both_ways() {
    let routes = Router::new().route(
        "/ws",
        axum::routing::any(async |upgrade: axum::extract::WebSocketUpgrade| {
            upgrade.protocols(["chat"]).on_upgrade(async |mut socket| {
                while let Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) = socket.recv().await {
                    if socket.send(message).await.is_err() {
                        break;
                    }
                }
            })
        }),
    );
    let (door, waifu) = (TestDoor::start().await, TestWaifu::with(routes).await);
    door.say(serde_json::json!({ "name": "chat", "host": waifu.address.to_string(), "additionalBinds": { "https://link.waifu": "/" } }))
        .await;
    let (address, der, _end) = secure_door(&door, "link.waifu").await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der).expect("a certificate");
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let name = rustls::pki_types::ServerName::try_from("link.waifu").expect("a name");
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("TLS");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
    let (mut sender, connection) = handshake.expect("HTTP/2");
    tokio::spawn(connection);

    let ask = |path: &str, protocol: &'static str| {
        let mut request = Request::connect(format!("https://link.waifu{path}"));
        request = request.header("sec-websocket-version", "13").header("sec-websocket-protocol", "chat");
        let mut request = request.body(Body::empty()).expect("a request");
        request.extensions_mut().insert(hyper::ext::Protocol::from_static(protocol));
        request
    };
    let mut response = sender.send_request(ask("/ws", "websocket")).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("sec-websocket-protocol").map(|value| value.as_bytes()), Some(&b"chat"[..]));
    let stream = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("a stream"));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    for size in [1, 1000, 200_000] {
        let message = tungstenite::Message::text("x".repeat(size));
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(socket.next().await.expect("an answer").expect("readable"), message);
    }
    // What is internal is unknown in this form, too; another protocol is refused, and the connection goes on.
    assert_eq!(sender.send_request(ask("/__internal/ws", "websocket")).await.expect("an answer").status(), 404);
    let refused = sender.send_request(ask("/ws", "connect-udp")).await.expect("an answer");
    assert_eq!(refused.status(), 405);
    assert_eq!(waifu.seen(), Vec::<String>::new());
    let message = tungstenite::Message::text("still there");
    socket.send(message.clone()).await.expect("sent");
    assert_eq!(socket.next().await.expect("an answer").expect("readable"), message);
}

#[tokio::test]
async fn w12_each_host_is_answered_with_its_own_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a directory");
    let known = [put(folder.path(), "link.waifu"), put(folder.path(), "other.waifu")];
    std::fs::write(folder.path().join("broken.crt"), "nothing").expect("written");
    let certificates = Arc::new(Certificates::new(None).expect("none by default"));
    assert_eq!(certificates.read(folder.path()).expect("readable"), 2, "what is broken is left out");
    let (door, waifu) = (TestDoor::start().await, TestWaifu::start().await);
    let binds = serde_json::json!({ "https://link.waifu": "/link", "https://other.waifu": "/other" });
    door.say(serde_json::json!({ "name": "links", "host": waifu.address.to_string(), "additionalBinds": binds })).await;
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), Some(certificates.server_config())).await.expect("a port");
    let address = listener.address();
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    tokio::spawn(listener.serve(FrontDoor::new(Arc::clone(&door.orchestrator), ProxyConfig::default()), end));
    for (host, der, other) in [("link.waifu", &known[0], "other.waifu"), ("other.waifu", &known[1], "link.waifu")] {
        let root = reqwest::Certificate::from_der(der).expect("a certificate");
        let client =
            reqwest::Client::builder().tls_certs_only([root]).resolve(host, address).resolve(other, address).build().expect("a client");
        let answer = client.get(format!("https://{host}:{}/x", address.port())).send().await.expect("an answer");
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        let text = answer.text().await.expect("readable");
        assert!(text.contains("x-forwarded-proto: https"), "{text}");
        assert!(client.get(format!("https://{other}:{}/x", address.port())).send().await.is_err(), "{other} has another certificate");
    }
    assert_eq!(waifu.seen(), ["GET /link/x", "GET /other/x"]);
}
