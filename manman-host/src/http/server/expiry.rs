//! A restart is meant for now: one that its worker has not taken within a minute is withdrawn, so
//! that no world restarts under its players an hour later, when a link is back. What should run is a
//! level and stays wished for; only the restart expires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manman_common::{DesiredState, Revision, ServerId, WorkerId};

use super::power::TRIES;
use crate::app::{App, AppRef};
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::server::{Server, Wish, revision_bump, server_change, server_get};

/// Longer than a worker needs to come back from its own restart.
const WITHIN: Duration = Duration::from_secs(60);

/// The time that a restart has to reach its worker; tests have less of it.
fn within() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(millis) = std::env::var("MANMAN_RESTART_WITHIN_MS").ok().and_then(|millis| millis.parse().ok()) {
        return Duration::from_millis(millis);
    }
    WITHIN
}

/// Restarts that may still expire, by server.
#[derive(Debug, Default)]
pub struct Restarts(Mutex<HashMap<ServerId, Pending>>);

#[derive(Clone, Copy, Debug)]
struct Pending {
    /// What the wish goes back to.
    before: u64,
    /// The newest of them, and the revision in which it is wished for.
    asked: u64,
    revision: Revision,
}

impl Restarts {
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of several that wait the worker has heard none: all of them are taken back with the last.
    fn add(&self, server: ServerId, asked: Pending, taken: impl FnOnce(Revision) -> bool) {
        let mut pending = self.lock();
        let before = pending.get(&server).filter(|earlier| !taken(earlier.revision)).map_or(asked.before, |earlier| earlier.before);
        pending.insert(server, Pending { before, ..asked });
    }

    /// What waits, if this one is still the newest.
    fn take(&self, server: ServerId, asked: u64) -> Option<Pending> {
        let mut pending = self.lock();
        pending.get(&server).filter(|newest| newest.asked == asked)?;
        pending.remove(&server)
    }
}

/// Sees to it that a restart which was just wished for, in this revision of its worker, expires.
pub(super) fn watch(app: &AppRef, server: &Server, asked: u64, revision: Revision) {
    let (app, id, worker) = (Arc::clone(app), server.id, server.worker_id);
    app.restarts.add(id, Pending { before: server.restart_seq, asked, revision }, |revision| taken(&app, worker, revision));
    tokio::spawn(async move {
        tokio::time::sleep(within()).await;
        let Some(pending) = app.restarts.take(id, asked) else { return };
        if !taken(&app, worker, pending.revision)
            && let Err(error) = withdraw(&app, id, pending).await
        {
            tracing::warn!(server.id = %id, %error, "a restart that has expired could not be withdrawn");
        }
    });
}

fn taken(app: &App, worker: WorkerId, revision: Revision) -> bool {
    app.fleet.machine(worker).is_none_or(|machine| machine.lock().observed_revision >= revision)
}

/// Takes the restarts off the wish. A worker that has taken one, and whose word of it was lost, has
/// carried it out, and does nothing again.
async fn withdraw(app: &AppRef, id: ServerId, pending: Pending) -> sqlx::Result<()> {
    for _ in 0..TRIES {
        let mut tx = app.db.begin().await?;
        let Some(server) = server_get(&mut tx, id).await? else { return Ok(()) };
        // Somebody has asked for something newer, or nothing is to run any more.
        if server.desired != DesiredState::Running || server.restart_seq != pending.asked {
            return Ok(());
        }
        let wish = Wish {
            name: server.name.clone(),
            request: server.request.clone(),
            run: server.run.clone(),
            run_changed: false,
            desired: server.desired,
            stop_mode: server.stop_mode,
            restart_seq: pending.before,
            purge: server.purge,
        };
        let now = clock::now();
        let revision = revision_bump(&mut tx, server.worker_id).await?;
        if server_change(&mut tx, id, server.generation, &wish, revision, now).await?.is_none() {
            tx.rollback().await?;
            continue;
        }
        let event = NewEvent {
            actor: "host".to_owned(),
            kind: "server.restart_expired",
            worker_id: Some(server.worker_id),
            server_id: Some(id),
            message: format!(
                "the restart of server `{}` has expired: worker `{}` did not hear of it within {} s",
                server.name,
                server.worker_name,
                within().as_secs()
            ),
            data: serde_json::Value::Null,
        };
        event_insert(&mut tx, now, &event).await?;
        tx.commit().await?;
        app.fleet.event_recorded();
        app.fleet.desired_changed(app, server.worker_id);
        app.fleet.server_changed(id);
        return Ok(());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_that_wait_are_taken_back_together_with_the_last() {
        let restarts = Restarts::default();
        let server = clock::new_server_id();
        let pending = |before, asked| Pending { before, asked, revision: Revision::new(asked) };
        restarts.add(server, pending(2, 5), |_| false);
        restarts.add(server, pending(5, 7), |_| false);
        assert!(restarts.take(server, 5).is_none(), "a newer one waits");
        assert_eq!(restarts.take(server, 7).map(|pending| pending.before), Some(2));
        assert!(restarts.take(server, 7).is_none(), "it is taken once");

        restarts.add(server, pending(7, 9), |_| false);
        restarts.add(server, pending(9, 11), |revision| revision == Revision::new(9));
        assert_eq!(restarts.take(server, 11).map(|pending| pending.before), Some(9), "the one before was carried out");
    }
}
