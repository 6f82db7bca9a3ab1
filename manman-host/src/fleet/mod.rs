//! PLACEHOLDER, to be replaced by H2 whole: the signatures below are what the server routes call.

use std::sync::Arc;

use manman_common::link::{Call, Reply};
use manman_common::{Problem, ServerId, Timestamp, WorkerId};
use tokio::sync::broadcast;

use crate::app::App;

pub struct Fleet {
    changed: broadcast::Sender<ServerId>,
}

impl Fleet {
    #[must_use]
    pub fn new() -> Self {
        Self { changed: broadcast::channel(1024).0 }
    }

    /// Called after the commit of a change of what this worker should do: the delta goes out.
    pub fn desired_changed(&self, _app: &Arc<App>, _worker: WorkerId) {}

    /// Called after the commit of an event: streams of events look.
    pub fn event_recorded(&self) {}

    /// Servers whose status (or freshness) has changed; one that lags looks at all of its own.
    #[must_use]
    pub fn server_changes(&self) -> broadcast::Receiver<ServerId> {
        self.changed.subscribe()
    }

    /// Called where a status was stored or a wish made.
    pub fn server_changed(&self, server: ServerId) {
        let _ = self.changed.send(server);
    }

    /// Whether the server is silent though its worker may not be (30 s, POST /server/{id}/health).
    #[must_use]
    pub fn server_is_silent(&self, _server: ServerId) -> bool {
        false
    }

    /// POST /server/{id}/health was heard.
    pub fn server_heard(&self, _server: ServerId) {}

    #[must_use]
    pub fn linked(&self, _worker: WorkerId) -> bool {
        false
    }

    #[must_use]
    pub fn last_seen(&self, _worker: WorkerId) -> Option<Timestamp> {
        None
    }

    /// Seconds left in which the host calls nobody stale.
    #[must_use]
    pub fn settling_seconds(&self) -> u32 {
        0
    }

    /// A request to the worker's own routes, over its link or its own listener; an error is a
    /// problem fit to be answered with (`not-alive`, `timeout`).
    pub async fn call(&self, _worker: WorkerId, _call: Call) -> Result<Reply, Problem> {
        Err(Problem::new(manman_common::Kind::NotAlive, "the worker has no link"))
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}
