//! L10 to L12: services without expiry are asked for their name.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use manman_front_door::registry::{Clock, Keep, RegistryConfig};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::rig::{Rig, config, free_port};

/// Ten times as fast as real ones, and a hundred.
fn hurried() -> RegistryConfig {
    RegistryConfig {
        probe_every: Duration::from_millis(100),
        probe_within: Duration::from_millis(500),
        drop_after: Duration::from_millis(800),
        ..config()
    }
}

const SOON: Duration = Duration::from_secs(10);

/// A service that answers as it is told, and counts who asks.
struct Service {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    served: JoinHandle<()>,
}

#[derive(Clone, Debug)]
enum Says {
    Text(String),
    Status(u16),
    Elsewhere(String),
    Nothing,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Service {
    async fn start(port: u16, says: Says) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is free");
        let address = listener.local_addr().expect("an address");
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(AtomicUsize::new(0)));
        let state = (Arc::clone(&says), Arc::clone(&asked));
        let router = Router::new().route("/health", get(answer)).with_state(state);
        let served = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, says, asked, served }
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("nobody panics with it") = says;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn until_asked(&self, times: usize) {
        let more = self.asked() + times;
        let waited = tokio::time::timeout(SOON, async {
            while self.asked() < more {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("it is asked");
    }
}

type Shared = (Arc<Mutex<Says>>, Arc<AtomicUsize>);

async fn answer(State((says, asked)): State<Shared>) -> Response {
    asked.fetch_add(1, Ordering::SeqCst);
    let says = says.lock().expect("nobody panics with it").clone();
    match says {
        Says::Text(text) => text.into_response(),
        Says::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        Says::Elsewhere(url) => Redirect::temporary(&url).into_response(),
        Says::Nothing => std::future::pending().await,
    }
}

fn says(text: &str) -> Says {
    Says::Text(text.to_owned())
}

fn registration(name: &str, expire: u32, port: u16) -> String {
    json!({"name": name, "expire": expire, "port": port}).to_string()
}

#[tokio::test]
async fn l10_only_who_has_no_expiry_is_asked_for_its_name() {
    let rig = Rig::start(hurried(), Keep::Nowhere, Clock::real()).await;
    let eternal = Service::start(0, says("eternal\n")).await;
    let as_json = Service::start(0, says(r#"{"name": "as-json"}"#)).await;
    let finite = Service::start(0, says("another name")).await;
    rig.put("/self-register", &registration("finite", 60, finite.address.port())).await;
    rig.put("/self-register", &registration("eternal", 0, eternal.address.port())).await;
    rig.put("/self-register", &registration("as-json", 0, as_json.address.port())).await;
    eternal.until_asked(4).await;
    as_json.until_asked(4).await;
    assert_eq!(finite.asked(), 0);
    let all = rig.get("/discover?verbose=1").await.json();
    assert_eq!((all["eternal"]["status"].clone(), all["as-json"]["status"].clone()), (json!("passing"), json!("passing")));
    assert_eq!(all["finite"]["status"], "unknown");
    // To register again is no way around being asked.
    let before = eternal.asked();
    let mut tries = 0;
    while eternal.asked() < before + 2 {
        tries += 1;
        assert!(tries < 1000, "it was never asked again");
        rig.put("/self-register", &registration("eternal", 0, eternal.address.port())).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn l11_another_name_is_discarded_at_once() {
    let rig = Rig::start(hurried(), Keep::Nowhere, Clock::real()).await;
    let mut changes = rig.registry.changes();
    let service = Service::start(0, says("impostor")).await;
    rig.put("/self-register", &registration("a", 0, service.address.port())).await;
    rig.until("/discover/a?all=1", SOON, |answer| answer.status == 404).await;
    assert_eq!(service.asked(), 1);
    let told = [changes.recv().await.expect("added"), changes.recv().await.expect("discarded")];
    assert_eq!(told.map(|event| event.change.as_str()), ["added", "discarded"]);
}

#[tokio::test]
async fn l12_who_does_not_answer_is_hidden_comes_back_and_is_dropped_in_the_end() {
    let rig = Rig::start(RegistryConfig { drop_after: Duration::from_secs(1), ..hurried() }, Keep::Nowhere, Clock::real()).await;
    let port = free_port().await;
    rig.put("/self-register", &registration("a", 0, port)).await;
    let hidden = rig.until("/discover/a", SOON, |answer| answer.status == 404).await;
    assert_eq!(hidden.status, 404);
    let all = rig.get("/discover/a?all=1&verbose=1").await;
    assert_eq!((all.status, all.json()["status"].clone()), (200, json!("critical")));
    assert_eq!(rig.get("/discover").await.body, "{}");
    let service = Service::start(port, says("a")).await;
    rig.until("/discover/a", SOON, |answer| answer.status == 200).await;
    // An error, a redirect, a page and silence are no names: none is a reason to discard it at once.
    for (bad, fails) in
        [(Says::Status(500), 2), (Says::Elsewhere(format!("http://127.0.0.1:{port}/other")), 2), (says(&"<html>".repeat(300)), 2)]
    {
        service.say(bad.clone());
        service.until_asked(fails).await;
        assert_eq!(rig.get("/discover/a").await.status, 200, "{bad:?}");
        service.say(says("a"));
        service.until_asked(2).await;
    }
    service.say(Says::Nothing);
    rig.until("/discover/a", SOON, |answer| answer.status == 404).await;
    rig.until("/discover/a?all=1", SOON, |answer| answer.status == 404).await;
    assert_eq!(rig.registry.len(), 0);
}

#[tokio::test]
async fn l12_the_times_are_those_of_the_design() {
    let RegistryConfig { probe_every, probe_within, drop_after, .. } = RegistryConfig::default();
    assert_eq!((probe_every, probe_within, drop_after), (Duration::from_secs(10), Duration::from_secs(2), Duration::from_secs(600)));
}
