//! L14: the order in which an address is looked for.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A registry that gives every asker this answer, as long as it is held.
struct Registry {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Registry {
    fn start(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            }
        });
        Self { address, asked }
    }

    fn endpoint(&self) -> Endpoint {
        self.address.to_string().parse().expect("an endpoint")
    }
}

const NOT_FOUND: &str = r#"{"type":"not-found","title":"","status":404,"detail":"there is no service `links`"}"#;

/// An address at which nobody listens.
fn nobody() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string().parse().expect("an endpoint")
}

fn name() -> ServiceName {
    "links".parse().expect("a name")
}

fn no_environment(_: &str) -> Option<String> {
    None
}

fn shown(found: &Found) -> (String, Source) {
    (found.endpoint.to_string(), found.source)
}

fn setup() -> tempfile::TempDir {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tempfile::tempdir().expect("a directory")
}

fn answering(address: &str) -> Lookup {
    let endpoint: Endpoint = address.parse().expect("an address");
    Arc::new(move |_| {
        let endpoint = endpoint.clone();
        Box::pin(async move { Some(endpoint) })
    })
}

#[tokio::test]
async fn l14_each_source_gives_way_to_the_one_before() {
    let home = setup();
    let registry = Registry::start("200 OK", r#"{"ip":"10.0.0.3","port":3}"#);
    let resolver = Resolver::new().registry(registry.endpoint()).expect("a client").cache(home.path().join("cache"));
    let resolver = resolver.network(answering("10.0.0.5:5"));
    let environment = |variable: &str| (variable == "MANMAN_SERVICE_LINKS").then(|| "10.0.0.2:2".to_owned());
    let explicit = resolver.resolve_in(&name(), Some("http://10.0.0.1:1"), environment).await.expect("found");
    assert_eq!(shown(&explicit), ("http://10.0.0.1:1".to_owned(), Source::Explicit));
    let said = resolver.resolve_in(&name(), None, environment).await.expect("found");
    assert_eq!(shown(&said), ("http://10.0.0.2:2".to_owned(), Source::Environment));
    assert_eq!(registry.asked.load(Ordering::SeqCst), 0, "nobody is asked for what is known");
    let registered = resolver.resolve_in(&name(), None, no_environment).await.expect("found");
    assert_eq!(shown(&registered), ("http://10.0.0.3:3".to_owned(), Source::Registry));

    // The same program later, and the registry is down: its last answer, and no other's name.
    let resolver = Resolver::new().registry(nobody()).expect("a client").cache(home.path().join("cache"));
    let resolver = resolver.network(answering(&format!("https://[fd00::5]:5#sha256={}", "ab".repeat(32))));
    let cached = resolver.resolve_in(&name(), None, no_environment).await.expect("found");
    assert_eq!(shown(&cached), ("http://10.0.0.3:3".to_owned(), Source::Cache));
    let other = resolver.resolve_in(&"other".parse().expect("a name"), None, no_environment).await.expect("found");
    assert_eq!(shown(&other), (format!("https://[fd00::5]:5#sha256={}", "ab".repeat(32)), Source::Network));
}

#[tokio::test]
async fn l14_what_the_registry_denies_is_not_remembered_and_each_place_is_told() {
    let home = setup();
    let file = home.path().join("cache");
    std::fs::write(&file, r#"{"links":{"ip":"10.0.0.3","port":3}}"#).expect("written");
    let registry = Registry::start("404 Not Found", NOT_FOUND);
    let resolver = Resolver::new().registry(registry.endpoint()).expect("a client").cache(&file);
    let resolver = resolver.network(Arc::new(|_| Box::pin(async { None })));
    let error = resolver.resolve_in(&name(), None, no_environment).await.expect_err("it is nowhere").to_string();
    for part in ["`links`", "MANMAN_SERVICE_LINKS is not set", "does not have it", "nobody on the network"] {
        assert!(error.contains(part), "{error}");
    }
    let alone = Resolver::new().resolve_in(&name(), None, no_environment).await;
    assert!(alone.is_err(), "nobody knows it");
    let wrong = Resolver::new().resolve_in(&name(), Some("ftp://x"), no_environment).await;
    assert!(matches!(wrong, Err(ResolveError::Address { .. })));
}

#[tokio::test]
async fn l14_a_cache_that_makes_no_sense_is_written_anew() {
    let home = setup();
    let file = home.path().join("cache");
    std::fs::write(&file, "nonsense").expect("written");
    let registry = Registry::start("200 OK", r#"{"ip":"10.0.0.3","port":3}"#);
    let resolver = Resolver::new().registry(registry.endpoint()).expect("a client").cache(&file);
    resolver.resolve_in(&name(), None, no_environment).await.expect("found");
    assert_eq!(read_cache(&file).len(), 1);
    assert_eq!(Resolver::variable(&"a.b-c~D".parse().expect("a name")), "MANMAN_SERVICE_A_B_C_D");
}
