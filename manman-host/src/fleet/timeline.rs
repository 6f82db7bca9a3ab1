//! The timeline that the host's database is on. When the database went back in time, workers know
//! more than it does: on a new timeline they take its word with reserve, and stop nothing for it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use manman_common::WorkerId;
use manman_common::error::GoneReason;
use uuid::Uuid;

use super::Fleet;
use super::link::Farewell;
use crate::app::App;
use crate::clock;
use crate::db::event::{NewEvent, event_insert, event_newest};
use crate::db::host::{Lifeline, host_ensure, host_lifeline, host_renew, host_start};
use crate::high_water::HighWater;

impl Fleet {
    /// The host's present timeline.
    #[must_use]
    pub fn timeline(&self) -> Uuid {
        self.lifeline().timeline
    }

    fn lifeline(&self) -> Lifeline {
        *self.lifeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called once, before anything is loaded: notes the start, and takes a new timeline where the
    /// database is behind what this host last saw of it; whether it has.
    pub async fn begin_timeline(&self, app: &App) -> sqlx::Result<bool> {
        let mut tx = app.db.begin().await?;
        let mut line = host_start(&mut tx, clock::new_uuid()).await?;
        let now = HighWater { host_id: app.host_id, start_seq: line.start_seq, event: event_newest(&mut tx).await? };
        let known = app.config.data.as_deref().and_then(HighWater::read);
        let mut renewed = false;
        if let Some(known) = known.filter(|known| known.is_ahead_of(&now)) {
            let why =
                format!("the database is behind: {} events of {}, {} starts of {}", now.event, known.event, now.start_seq, known.start_seq);
            if let Some(next) = renew(&mut tx, line.timeline, known.start_seq, &why, None).await? {
                (line, renewed) = (next, true);
            }
        }
        let newest = event_newest(&mut tx).await?;
        tx.commit().await?;
        self.follow(app, line, newest);
        Ok(renewed)
    }

    /// Takes a new timeline in place of `from`, and has every worker register again to hear of it.
    pub(crate) async fn renew_timeline(&self, app: &App, from: Uuid, why: &str, worker: Option<WorkerId>) -> sqlx::Result<()> {
        let mut tx = app.db.begin().await?;
        let line = match renew(&mut tx, from, self.lifeline().start_seq, why, worker).await? {
            Some(renewed) => renewed,
            // Somebody else has just done so.
            None => host_lifeline(&mut tx).await?,
        };
        let newest = event_newest(&mut tx).await?;
        tx.commit().await?;
        self.follow(app, line, newest);
        self.event_recorded();
        self.dismiss_all();
        Ok(())
    }

    /// Looks whether the database was restored or renewed under this host as it runs.
    pub(crate) async fn check_timeline(&self, app: &App) -> sqlx::Result<()> {
        let known = self.lifeline();
        let seen = self.newest_event.load(Ordering::Relaxed);
        let mut conn = app.db.acquire().await?;
        let now = host_lifeline(&mut conn).await?;
        let newest = event_newest(&mut conn).await?;
        drop(conn);
        if now.start_seq < known.start_seq || newest < seen {
            return self.renew_timeline(app, now.timeline, "the database went back in time under the running host", None).await;
        }
        if now.timeline != known.timeline {
            tracing::warn!("the database has another timeline; every worker registers again");
            self.follow(app, now, newest);
            self.dismiss_all();
        } else if (now != known || newest != seen) && self.lifeline() == known {
            // Else a registration has renewed it since it was read.
            self.follow(app, now, newest);
        }
        Ok(())
    }

    fn follow(&self, app: &App, line: Lifeline, newest: i64) {
        self.newest_event.store(newest, Ordering::Relaxed);
        *self.lifeline.lock().unwrap_or_else(PoisonError::into_inner) = line;
        let Some(data) = &app.config.data else { return };
        let water = HighWater { host_id: app.host_id, start_seq: line.start_seq, event: newest };
        if let Err(error) = water.write(data) {
            tracing::warn!(error = crate::chain(&error), "a database that is restored later will not be noticed by this file");
        }
    }

    pub(crate) fn dismiss_all(&self) {
        for machine in self.machines() {
            let mut state = machine.lock();
            state.standing.dismissed = true;
            if let Some(link) = state.link.take() {
                let detail = "the host's database went back in time: register again".to_owned();
                link.close(Farewell { reason: Some(GoneReason::Revoked), detail });
            }
        }
    }
}

/// A person says that the database was restored. A host that runs notices.
pub(crate) async fn renew_by_hand(db: &sqlx::PgPool) -> sqlx::Result<()> {
    let mut tx = db.begin().await?;
    host_ensure(&mut tx, clock::new_uuid(), clock::now()).await?;
    let line = host_start(&mut tx, clock::new_uuid()).await?;
    renew(&mut tx, line.timeline, line.start_seq, "a person says that the host's database was restored", None).await?;
    tx.commit().await
}

async fn renew(
    conn: &mut sqlx::PgConnection,
    from: Uuid,
    at_least: u64,
    why: &str,
    worker: Option<WorkerId>,
) -> sqlx::Result<Option<Lifeline>> {
    let fresh = clock::new_uuid();
    let Some(line) = host_renew(conn, from, fresh, at_least).await? else { return Ok(None) };
    tracing::warn!(
        worker.id = worker.map(tracing::field::display),
        why,
        "the host takes a new timeline: nothing is stopped or deleted on its word"
    );
    let event = NewEvent {
        actor: "host".to_owned(),
        kind: "host.regressed",
        worker_id: worker,
        server_id: None,
        message: format!("{why}. Workers stop and delete nothing until a person has looked: manman worker rebase"),
        data: serde_json::json!({ "before": from, "after": fresh }),
    };
    event_insert(conn, clock::now(), &event).await?;
    Ok(Some(line))
}
