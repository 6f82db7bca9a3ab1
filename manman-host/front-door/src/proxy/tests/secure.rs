use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::*;
use crate::proxy::Certificates;

/// A certificate for that host in the directory, as a person would put it there.
fn put(directory: &Path, host: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a certificate");
    std::fs::write(directory.join(format!("{host}.crt")), made.cert.pem()).expect("written");
    std::fs::write(directory.join(format!("{host}.key")), made.signing_key.serialize_pem()).expect("written");
    made.cert.der().clone()
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
