//! Writes in batches what need not be written at once, and a last time when the host ends.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::app::AppRef;

/// Usage shown after a restart of the host is at most this old; 10,000 workers' rows take 50 ms.
const STORE_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn run(app: AppRef, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(STORE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        store(&app).await;
        if let Err(error) = app.fleet.check_timeline(&app).await {
            tracing::warn!(%error, "the database's timeline could not be read");
        }
    }
    app.fleet.hang_up();
    store(&app).await;
}

async fn store(app: &AppRef) {
    if let Err(error) = app.fleet.store_rest(app).await {
        tracing::warn!(%error, "what workers use could not be stored; it is tried again");
    }
}
