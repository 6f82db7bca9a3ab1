//! Wakes the worker when something happened to a container of its own.

use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use manman_common::WorkerId;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::engine::Engine;
use super::fields;
use super::observe::Seen;

/// Between two looks for an engine that is away; each costs one refused connection.
const AWAY: Duration = Duration::from_secs(2);

pub(super) struct Watch(AbortHandle);

impl Watch {
    pub(super) fn start(engine: Engine, worker: WorkerId, changes: Arc<Notify>, seen: Arc<Seen>) -> Self {
        Self(tokio::spawn(watch(engine, worker, changes, seen)).abort_handle())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(engine: Engine, worker: WorkerId, changes: Arc<Notify>, seen: Arc<Seen>) {
    let mut filters = fields::own(worker);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    filters.insert("event".to_owned(), ["start", "die", "oom", "destroy"].map(str::to_owned).to_vec());
    loop {
        if let Ok(docker) = engine.docker().await {
            let mut events = docker.events(Some(EventsOptionsBuilder::new().filters(&filters).build())).boxed();
            // What happened while nobody listened is found by looking.
            changes.notify_one();
            while let Some(Ok(event)) = events.next().await {
                if event.action.as_deref() == Some("die")
                    && let Some(container) = event.actor.and_then(|actor| actor.id)
                {
                    seen.died(container);
                }
                changes.notify_one();
            }
            seen.lost();
            changes.notify_one();
        }
        tokio::time::sleep(AWAY).await;
    }
}
