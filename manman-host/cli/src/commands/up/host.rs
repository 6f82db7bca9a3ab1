//! The host within `up`.

use std::path::Path;

use manman_common::client::Client;
use manman_host::Host;
use manman_host::app::Bound;
use manman_host::config::{Config, Database, Tls};

use super::Up;
use crate::failure::Failure;

pub(super) fn config(up: &Up, data: &Path) -> Config {
    let database = match &up.database_url {
        Some(url) => Database::External { url: url.clone() },
        None => Database::Embedded { pg_bin: up.pg_bin.clone() },
    };
    let mut config = Config {
        public: up.public_address(),
        internal: up.internal_address(),
        tls: if up.lan { Tls::Own } else { Tls::Off },
        mdns: up.mdns.unwrap_or(up.lan),
        data: Some(data.to_owned()),
        database,
        games: up.games.clone(),
        ..Config::default()
    };
    if let Some(settle) = up.settle {
        config.settle = settle;
    }
    if let Some(rebase_after) = up.rebase_after {
        config.rebase_after = rebase_after;
    }
    config
}

/// A host that answers.
pub(super) struct Started {
    pub(super) host: Host,
    pub(super) bound: Bound,
    pub(super) database: String,
    /// Through the inner listener, as admin.
    pub(super) client: Client,
    /// What to paste on another machine; none where the doors are closed.
    pub(super) join_line: Option<String>,
}

pub(super) async fn start(config: Config) -> Result<Started, Failure> {
    let host = Host::start(config).await.map_err(|error| {
        let hint = error.hint();
        Failure { hint, ..Failure::new("could not start the host").because(&error) }
    })?;
    let bound = host.bound().cloned().ok_or_else(|| Failure::new("could not start the host").why("it does not know where it listens"))?;
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(format!("could not talk to the host at {}", bound.internal_url)).because(error)
    };
    let endpoint = bound.internal_url.parse().map_err(|error| failed(&error))?;
    let client = Client::new(endpoint, Some(host.token().to_owned())).map_err(|error| failed(&error))?;
    let (database, join_line) = (host.app().database.clone(), host.join_line());
    Ok(Started { bound, database, client, join_line, host })
}
