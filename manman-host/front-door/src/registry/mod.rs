//! Who is alive, and where: services register themselves and find each other.
//!
//! ```text
//! let registry = Registry::new(RegistryConfig::default(), Keep::File(path));
//! registry.restore().await?;                    // what was known before a restart
//! tokio::spawn(registry.clone().run(shutdown)); // expiry, probes, saving
//! let router = registry::routes(registry);      // for the internal listener, and no other
//! ```

pub mod address;
mod entry;
mod http;
mod probe;
mod rate;
mod run;
mod state;
mod store;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manman_common::lease::Tick;
use manman_common::wire::registry::{Located, Registration, Service, ServiceEvent, ServiceName};
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use uuid::Uuid;

use self::entry::{Notes, Owner};
use self::state::{Ask, State, Told};

pub use self::entry::Record;
pub use self::http::routes;
pub use self::store::{Change, Keep, Store, StoreError};
pub use crate::clock::{Clock, Hand};

/// How a registry is to be.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// What `GET /health` of the registry itself answers.
    pub own_name: String,
    /// Whether a name without expiry stands against others as long as its service answers.
    pub protect: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    pub names_max: usize,
    pub names_per_ip: usize,
    pub requests_per_second: u32,
    pub probe_every: Duration,
    pub probe_within: Duration,
    /// A service that has been critical for so long is dropped.
    pub drop_after: Duration,
    /// A registry that did not run for so long doubts itself before it doubts most services.
    pub deaf_after: Option<Duration>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            own_name: "registry".to_owned(),
            protect: false,
            trusted_proxies: Vec::new(),
            names_max: 10_000,
            names_per_ip: 100,
            requests_per_second: 50,
            probe_every: Duration::from_secs(10),
            probe_within: Duration::from_secs(2),
            drop_after: Duration::from_secs(600),
            deaf_after: Some(Duration::from_secs(5)),
        }
    }
}

/// Long polls and streams that are open at once; who comes on top is answered at once.
const WAITERS_MAX: usize = 1024;
/// Changes that the slowest stream may be behind.
const NEWS_MAX: usize = 1024;

/// Who is alive, and where. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    config: RegistryConfig,
    clock: Clock,
    keep: Keep,
    state: Mutex<State>,
    /// The newest change's number.
    index: watch::Sender<u64>,
    news: broadcast::Sender<Arc<ServiceEvent>>,
    waiters: Semaphore,
    /// There may be something to do earlier than it was.
    wake: Notify,
    /// Something other than a time is to be saved.
    changed: Notify,
    renewed: Notify,
}

/// What the host leases for its own: a worker, a running game.
#[derive(Clone, Debug)]
pub struct HostLease {
    pub name: ServiceName,
    pub address: SocketAddr,
    /// Whose it is; with it the record moves and ends.
    pub id: Uuid,
    /// Seconds.
    pub expire: u32,
    pub tags: Vec<String>,
}

impl Registry {
    #[must_use]
    pub fn new(config: RegistryConfig, keep: Keep) -> Self {
        Self::with_clock(config, keep, Clock::real())
    }

    #[must_use]
    pub fn with_clock(config: RegistryConfig, keep: Keep, clock: Clock) -> Self {
        // It begins where no earlier life of this registry has been, so a client's number from
        // then is never taken for one of now.
        let index = u64::try_from(clock.wall().as_micros()).unwrap_or_default();
        let state = State::new(config.clone(), index, clock.now());
        Self(Arc::new(Inner {
            config,
            keep,
            state: Mutex::new(state),
            index: watch::Sender::new(index),
            news: broadcast::Sender::new(NEWS_MAX),
            waiters: Semaphore::new(WAITERS_MAX),
            wake: Notify::new(),
            changed: Notify::new(),
            renewed: Notify::new(),
            clock,
        }))
    }

    /// Takes or renews a name for something of the host's own. Whether the name is its own now.
    pub fn lease(&self, lease: HostLease) -> bool {
        let HostLease { name, address, id, expire, tags } = lease;
        let told = self.claim(Ask {
            name: name.clone(),
            address: address::canonical(address),
            expire,
            owner: Owner::Host(id),
            shown: None,
            force: false,
            notes: Notes::boxed(tags, std::collections::BTreeMap::new()),
        });
        matches!(told, Told::Held { .. })
    }

    /// Ends what [`Registry::lease`] began.
    pub fn release(&self, name: &str, id: Uuid) {
        self.with(|state, now| {
            if state.host_holds(now, name, id) {
                state.remove(now, name, |_| true);
            }
        });
    }

    /// Where a service is.
    #[must_use]
    pub fn locate(&self, name: &str) -> Option<Located> {
        self.with(|state, now| state.locate(now, name, false))
    }

    /// The text of `GET /discover`.
    #[must_use]
    pub fn list(&self) -> bytes::Bytes {
        self.with(|state, now| state.list(now, false))
    }

    /// All services with what is known of each, those that do not answer included.
    #[must_use]
    pub fn services(&self) -> BTreeMap<String, Service> {
        self.with(|state, now| state.services(now, true))
    }

    /// All that happens to services from now on; who is too slow misses some.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Arc<ServiceEvent>> {
        self.0.news.subscribe()
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|state, _| state.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn claim(&self, ask: Ask) -> Told {
        let (name, address) = (ask.name.clone(), ask.address);
        let told = self.with(|state, now| state.claim(now, ask));
        match &told {
            Told::Held { result: Registration::Added | Registration::Moved | Registration::Replaced, .. } => {
                tracing::debug!(service = %name, %address, "a service is registered");
            }
            Told::Ignored { tell: true, .. } => {
                tracing::warn!(service = %name, %address, "a second service wants this name and is ignored; this is told once");
            }
            Told::Full { tell: true } => {
                tracing::warn!(limit = self.0.config.names_max, "the registry is full, and takes no new names");
            }
            Told::Held { .. } | Told::Ignored { .. } | Told::Full { .. } | Told::TooManyOfOne => {}
        }
        told
    }

    /// The one way to the records: brings them to the present first, and tells what has changed.
    fn with<T>(&self, f: impl FnOnce(&mut State, Tick) -> T) -> T {
        let inner = &*self.0;
        let mut state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = inner.clock.now();
        state.advance(now);
        let next = state.next();
        let result = f(&mut state, now);
        let news = std::mem::take(&mut state.news);
        if !news.is_empty() {
            // Sent under the lock, so that all hear of changes in their order.
            inner.index.send_replace(state.index());
            for event in news {
                let _ = inner.news.send(Arc::new(event));
            }
        }
        if state.next() < next || next.is_none() && state.next().is_some() {
            inner.wake.notify_one();
        }
        if std::mem::take(&mut state.changed) {
            inner.changed.notify_one();
        } else if !state.unsaved.is_empty() {
            inner.renewed.notify_one();
        }
        result
    }
}
