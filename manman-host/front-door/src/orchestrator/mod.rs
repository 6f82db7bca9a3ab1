//! Who may be reached from outside: services say hello, get a route, a database, and are watched.
//!
//! Every small service of the house is a *waifu*. What is known of them is held in memory under the
//! rules of [`manman_common::lease`], published as a table that the proxy reads without waiting, and
//! kept as one document, so that one hello is enough.

mod bind;
mod caddy;
mod database;
mod hello;
mod http;
mod incident;
mod name;
mod probe;
mod provide;
mod route;
mod secret;
mod snapshot;
mod store;
mod target;
#[cfg(test)]
mod tests;
mod traefik;
mod webhook;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

pub(crate) use manman_common::error::chain;
use manman_common::lease::{Leases, Tick};
use manman_common::{Kind, Problem};
use serde::Serialize;
use tokio::sync::{Mutex, broadcast};

use crate::clock::Clock;
use crate::proxy::{Connector, OwnListeners};
pub use bind::{Bind, MainDomain, Reason, Rejected};
pub use database::{Credentials, DatabaseView, Databases, ProvideError};
pub use hello::{Binds, HelloReply, HelloRequest};
pub(crate) use http::respond;
pub use http::{admin_routes, open_routes};
use incident::Failures;
pub use incident::{Incident, Incidents};
pub use name::{NameError, WaifuName};
use route::Table;
pub use route::{Health, Route};
pub use secret::{Secret, SecretError, hash as hash_secret, verify as verify_secret};
pub use store::{FileStore, NoStore, Store, StoreError};
pub use target::{Target, TargetError, is_forbidden};
pub use webhook::{Webhook, WebhookError};

/// Services of one home; each is a route, its counters and its checks.
const WAIFUS_MAX: usize = 1000;
/// Incidents that whoever is told of them may be behind.
const NEWS_MAX: usize = 64;

/// What the orchestrator is told at its start.
#[derive(Clone, Debug)]
pub struct OrchestratorConfig {
    pub main_domain: MainDomain,
    /// First segments of paths that the front door has itself, and so no waifu may be named.
    pub reserved: HashSet<String>,
    /// Between two checks of one waifu's health, give or take a tenth.
    pub check_every: Duration,
}

impl Default for OrchestratorConfig {
    fn default() -> Self {
        Self { main_domain: MainDomain::default(), reserved: HashSet::new(), check_every: Duration::from_secs(10) }
    }
}

pub struct Orchestrator {
    config: OrchestratorConfig,
    state: Mutex<State>,
    table: RwLock<Arc<Table>>,
    failures: std::sync::Mutex<Failures>,
    store: Box<dyn Store>,
    databases: OnceLock<Arc<dyn Databases>>,
    public_url: RwLock<String>,
    connector: Connector,
    own: OwnListeners,
    clock: Clock,
    incidents_total: AtomicU64,
    incident_news: broadcast::Sender<Incident>,
}

struct State {
    waifus: Leases<WaifuName, Target, Waifu>,
    incidents: Incidents,
    /// What was saved last, to know whether there is something new.
    saved: u64,
}

/// What is held under a name.
struct Waifu {
    route: Arc<Route>,
    binds: Vec<Bind>,
    secret_hash: Option<String>,
    health_path: Option<String>,
    pin: Option<[u8; 32]>,
}

/// What a decision about a name needs of who has it.
struct Known {
    target: Target,
    leased: bool,
    secret_hash: Option<String>,
    health_path: Option<String>,
}

/// A waifu as people see it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct WaifuView {
    pub name: WaifuName,
    pub target: String,
    pub health: &'static str,
    pub binds: Vec<String>,
    /// Seconds until its lease ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    pub requests: u64,
}

/// What is counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By health.
    pub waifus: BTreeMap<&'static str, u64>,
    /// By name, of those that live.
    pub requests: BTreeMap<String, u64>,
    /// Answered by us because the waifu did not.
    pub refused: u64,
    pub incidents: u64,
}

impl Orchestrator {
    /// Reads what was known before; those waifus are on probation until a check has seen them.
    pub async fn start(config: OrchestratorConfig, store: Box<dyn Store>) -> Result<Arc<Self>, StoreError> {
        Self::with_clock(config, store, Clock::real()).await
    }

    pub async fn with_clock(config: OrchestratorConfig, store: Box<dyn Store>, clock: Clock) -> Result<Arc<Self>, StoreError> {
        let own = OwnListeners::default();
        let connector = Connector::new(own.clone());
        let state = State { waifus: Leases::new(WAIFUS_MAX), incidents: Incidents::default(), saved: 0 };
        let orchestrator = Self {
            config,
            state: Mutex::new(state),
            table: RwLock::default(),
            failures: std::sync::Mutex::default(),
            databases: OnceLock::new(),
            public_url: RwLock::default(),
            connector,
            own,
            clock,
            incidents_total: AtomicU64::new(0),
            incident_news: broadcast::channel(NEWS_MAX).0,
            store,
        };
        orchestrator.restore().await?;
        Ok(Arc::new(orchestrator))
    }

    /// Where this process listens for the public, once it does; nothing is forwarded there.
    #[must_use]
    pub fn own_listeners(&self) -> &OwnListeners {
        &self.own
    }

    /// How waifus' addresses begin, as in `http://127.0.0.1:8080`.
    pub fn set_public_url(&self, url: &str) {
        *self.public_url.write().unwrap_or_else(PoisonError::into_inner) = url.trim_end_matches('/').to_owned();
    }

    /// Who makes databases; may be said once.
    pub fn set_databases(&self, databases: Arc<dyn Databases>) {
        if self.databases.set(databases).is_err() {
            tracing::error!("the maker of databases was named twice; the first one stays");
        }
    }

    /// Whether that first segment of a path is the front door's own.
    #[must_use]
    pub fn is_reserved(&self, segment: &str) -> bool {
        self.config.reserved.contains(segment)
    }

    pub(crate) fn public_url(&self) -> String {
        self.public_url.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(crate) fn main_domain(&self) -> &MainDomain {
        &self.config.main_domain
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tick(&self) -> Tick {
        self.clock.now()
    }

    /// Counts for a page of metrics, without waiting for anybody.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (table, now) = (self.table(), self.tick());
        let mut counts = Counts { incidents: self.incidents_total.load(Ordering::Relaxed), ..Counts::default() };
        for route in table.routes().filter(|route| route.lives(now)) {
            *counts.waifus.entry(route.health().as_str()).or_default() += 1;
            counts.requests.insert(route.name.to_string(), route.requests.load(Ordering::Relaxed));
            counts.refused += route.refused.load(Ordering::Relaxed);
        }
        counts
    }

    /// All waifus that live.
    pub async fn waifus(&self) -> Vec<WaifuView> {
        let state = self.state.lock().await;
        let now = self.tick();
        let view = |(name, lease): (&WaifuName, &manman_common::lease::Lease<Target, Waifu>)| WaifuView {
            name: name.clone(),
            target: lease.holder.to_string(),
            health: lease.value.route.health().as_str(),
            binds: lease.value.binds.iter().map(|bind| bind.origin.clone()).collect(),
            expires_in: lease.remaining(now).map(|left| left.as_secs()),
            requests: lease.value.route.requests.load(Ordering::Relaxed),
        };
        state.waifus.iter(now).map(view).collect()
    }

    pub async fn incidents(&self) -> Incidents {
        self.state.lock().await.incidents.clone()
    }

    /// Incidents from now on, as they come.
    #[must_use]
    pub fn incident_news(&self) -> broadcast::Receiver<Incident> {
        self.incident_news.subscribe()
    }

    async fn known(&self, name: &WaifuName) -> Option<Known> {
        let state = self.state.lock().await;
        let lease = state.waifus.get(self.tick(), name)?;
        let Waifu { secret_hash, health_path, .. } = &lease.value;
        let (secret_hash, health_path) = (secret_hash.clone(), health_path.clone());
        Some(Known { target: lease.holder.clone(), leased: lease.term.is_some(), secret_hash, health_path })
    }

    /// Refuses a wrong secret, and whoever has shown too many.
    async fn check_secret(&self, peer: IpAddr, name: &WaifuName, secret: &Secret, hash: &str, what: &str) -> Result<(), Problem> {
        self.refuse_impatient(name, peer)?;
        match secret::verify(secret, hash).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.failed(peer, name, what).await;
                Err(forbidden(name))
            }
            Err(error) => Err(hello::internal(name, &error)),
        }
    }

    pub(super) fn refuse_impatient(&self, name: &WaifuName, peer: IpAddr) -> Result<(), Problem> {
        let wait = self.failures.lock().unwrap_or_else(PoisonError::into_inner).wait(name.as_str(), peer, self.tick());
        let Some(wait) = wait else { return Ok(()) };
        let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
        Err(Problem::new(Kind::TooManyRequests, format!("too many wrong secrets for `{name}`")).retry_after(seconds))
    }

    pub(super) async fn failed(&self, peer: IpAddr, name: &WaifuName, what: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).add(name.as_str(), peer, self.tick());
        self.incident(peer, name, what).await;
    }

    async fn incident(&self, peer: IpAddr, name: &WaifuName, what: &str) {
        tracing::warn!(waifu.name = %name, peer = %peer, incident = what, "incident: somebody is not who it says it is");
        self.incidents_total.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock().await;
        let incident = state.incidents.add(self.clock.wall(), name.as_str(), peer, what);
        self.save(&mut state).await;
        // Nobody may be listening.
        let _ = self.incident_news.send(incident);
    }

    /// Shows the proxy what is now.
    fn publish(&self, state: &State) {
        let routes = state.waifus.iter(self.tick()).map(|(_, lease)| (Arc::clone(&lease.value.route), lease.value.binds.clone()));
        let table = Arc::new(Table::new(routes));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }
}

pub(super) fn forbidden(name: &WaifuName) -> Problem {
    Problem::new(Kind::Forbidden, format!("this is not the secret of `{name}`; the incident has been reported"))
}
