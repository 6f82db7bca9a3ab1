//! What all parts of a running host share.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use manman_common::{Timestamp, TokenId};
use manman_front_door::proxy::FrontDoor;
use manman_front_door::registry::Registry;
use sqlx::PgPool;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::config::Config;
use crate::fleet::Fleet;
use crate::games::Catalogue;
use crate::http::auth::Callers;
use crate::http::feed::Feed;
use crate::http::login::Attempts;

pub type AppRef = Arc<App>;

pub struct App {
    pub db: PgPool,
    pub config: Config,
    /// This host's own identity; it lives in the database, so a host on another database is another.
    pub host_id: Uuid,
    pub started_at: Timestamp,
    /// `embedded` or `external`, and the version of the server.
    pub database: String,
    pub games: Catalogue,
    pub fleet: Arc<Fleet>,
    /// What consoles hear.
    pub feed: Feed,
    /// Who is alive and where; its routes are on the internal door alone.
    pub registry: Registry,
    /// Who may be reached from outside, where this host has a public listener.
    pub front_door: OnceLock<FrontDoor>,
    /// Tokens as they are revoked: whoever holds a socket open for one closes it.
    pub revoked: broadcast::Sender<TokenId>,
    pub callers: Callers,
    /// The brakes on guessing passwords.
    pub attempts: Attempts,
    /// Where the host listens, once it does.
    pub bound: OnceLock<Bound>,
}

/// The listeners' real addresses, and how a person on this machine reaches them.
#[derive(Clone, Debug)]
pub struct Bound {
    pub public: SocketAddr,
    pub internal: SocketAddr,
    pub public_url: String,
    pub internal_url: String,
    /// SHA-256 of the certificate in hex, where the public listener speaks TLS with our own one.
    pub fingerprint: Option<String>,
}

impl Bound {
    /// The public URL as others may use it: with the fingerprint of a certificate of our own.
    #[must_use]
    pub fn join_url(&self) -> String {
        self.pinned(&self.public_url)
    }

    pub(crate) fn pinned(&self, url: &str) -> String {
        match &self.fingerprint {
            Some(fingerprint) => format!("{url}#sha256={fingerprint}"),
            None => url.to_owned(),
        }
    }
}

impl App {
    #[must_use]
    pub fn new(db: PgPool, config: Config, host_id: Uuid, database: String, games: Catalogue) -> AppRef {
        Arc::new(Self {
            registry: crate::registry::in_database(db.clone()),
            db,
            config,
            host_id,
            started_at: crate::clock::now(),
            database,
            games,
            fleet: Arc::new(Fleet::new()),
            feed: Feed::new(),
            front_door: OnceLock::new(),
            revoked: broadcast::channel(256).0,
            callers: Callers::default(),
            attempts: Attempts::default(),
            bound: OnceLock::new(),
        })
    }
}
