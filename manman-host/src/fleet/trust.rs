//! Whose memory is not trusted, and when it is again.

use std::sync::Arc;
use std::time::Duration;

use manman_common::link::InventoryItem;
use manman_common::session::Quarantine;
use manman_common::{Phase, ServerId, SessionEpoch};
use manman_link::admission::lifts_itself;
use uuid::Uuid;

use super::Fleet;
use super::machine::Machine;
use super::standing::INVENTORY_MAX;
use crate::app::App;
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::worker::trust::{worker_confirm_resume, worker_holds_moved, worker_quarantine, worker_rebase, worker_unknown_servers};

impl Fleet {
    /// The worker has spoken in its session, so it has the newest resume token. A database that
    /// does not answer is asked again at its next word.
    pub(crate) async fn confirm_resume(&self, app: &App, machine: &Machine, epoch: SessionEpoch) {
        {
            let state = machine.lock();
            if !state.standing.unconfirmed || state.epoch != epoch {
                return;
            }
        }
        let confirmed = async { worker_confirm_resume(&mut *app.db.acquire().await?, machine.id, epoch).await };
        match confirmed.await {
            Ok(()) => {
                let mut state = machine.lock();
                // Another session may have begun meanwhile.
                state.standing.unconfirmed &= state.epoch != epoch;
            }
            Err(error) => tracing::warn!(worker.id = %machine.id, %error, "an older resume token stays good for now"),
        }
    }

    /// A process spoke whose session another has taken over, and which lives elsewhere: there are
    /// two, and neither is believed before a person has looked.
    pub(crate) async fn note_rival(&self, app: &App, machine: &Machine) {
        let (name, epoch) = {
            let mut state = machine.lock();
            if state.standing.quarantine.is_none() {
                state.standing.distrust(Quarantine::Rival);
            }
            (state.name.clone(), state.epoch)
        };
        tracing::warn!(worker.id = %machine.id, worker.name = %name, session_epoch = %epoch, "two machines work under one worker's identity");
        let recorded = async {
            let now = clock::now();
            let mut tx = app.db.begin().await?;
            let news = worker_quarantine(&mut tx, machine.id, Quarantine::Rival).await?;
            event_insert(&mut tx, now, &rival_event(machine, &format!("two machines work as `{name}`, and both are alive"), "displaced"))
                .await?;
            if news {
                event_insert(&mut tx, now, &quarantined_event(machine, Quarantine::Rival)).await?;
            }
            tx.commit().await
        };
        match recorded.await {
            Ok(()) => self.event_recorded(),
            Err(error) => tracing::error!(worker.id = %machine.id, %error, "a rival could not be recorded"),
        }
    }

    /// A second process was refused, and both are alive.
    pub(crate) async fn note_refused_rival(&self, app: &App, machine: &Machine, peer: std::net::IpAddr) {
        let name = machine.lock().name.clone();
        let message = format!("a second machine at {peer} asks to be `{name}`, which is alive elsewhere: it is refused");
        let recorded =
            async { event_insert(&mut *app.db.acquire().await?, clock::now(), &rival_event(machine, &message, "refused")).await };
        match recorded.await {
            Ok(_) => self.event_recorded(),
            Err(error) => tracing::error!(worker.id = %machine.id, %error, "a rival could not be recorded"),
        }
    }

    /// What a worker has, as it says at the beginning of its link: told where the host does not know
    /// of it, and kept for whoever looks.
    pub(crate) async fn take_inventory(&self, app: &App, machine: &Machine, inventory: &[InventoryItem]) -> sqlx::Result<()> {
        let ids: Vec<Uuid> = inventory.iter().take(INVENTORY_MAX).map(|item| item.server.as_uuid()).collect();
        let mut conn = app.db.acquire().await?;
        let unknown = worker_unknown_servers(&mut conn, &ids).await?;
        let moved = worker_holds_moved(&mut conn, machine.id, &ids).await?;
        let known_before = {
            let mut state = machine.lock();
            state.standing.holds_what_was_moved = moved;
            let before = state.standing.inventory.replace(inventory.iter().take(INVENTORY_MAX).cloned().collect());
            before.is_some_and(|before| unknown.iter().all(|id| before.iter().any(|item| item.server == *id)))
        };
        if unknown.is_empty() || known_before {
            return Ok(());
        }
        let name = machine.lock().name.clone();
        let event = NewEvent {
            actor: "host".to_owned(),
            kind: "worker.unknown_servers",
            worker_id: Some(machine.id),
            server_id: None,
            message: format!("`{name}` has {} servers that this host knows nothing of; what runs of them runs on", unknown.len()),
            data: serde_json::json!({ "servers": unknown }),
        };
        event_insert(&mut conn, clock::now(), &event).await?;
        self.event_recorded();
        Ok(())
    }

    /// Trusts a worker again whose database went back in time, where nobody but itself can have
    /// been it meanwhile: on its own data directory, no rival for a while, nothing given elsewhere.
    pub(crate) async fn lift_quarantines(&self, app: &App) {
        let patience = app.config.rebase_after;
        for machine in self.machines() {
            if !machine.lock().may_be_trusted_again(patience) {
                continue;
            }
            if let Err(error) = self.rebase(app, &machine, None, "host".to_owned(), serde_json::json!({ "unasked": true })).await {
                tracing::warn!(worker.id = %machine.id, %error, "a worker could not be trusted again");
            }
        }
    }

    /// The worker's memory is trusted again; with a timeline it follows the host on that one
    /// without reserve. It hears of it with its next beat.
    pub(crate) async fn rebase(
        &self,
        app: &App,
        machine: &Arc<Machine>,
        timeline: Option<Uuid>,
        actor: String,
        data: serde_json::Value,
    ) -> sqlx::Result<()> {
        let name = machine.lock().name.clone();
        let event = NewEvent {
            actor,
            kind: "worker.rebased",
            worker_id: Some(machine.id),
            server_id: None,
            message: format!("`{name}` follows this host again without reserve"),
            data,
        };
        let mut tx = app.db.begin().await?;
        worker_rebase(&mut tx, machine.id, timeline).await?;
        event_insert(&mut tx, clock::now(), &event).await?;
        tx.commit().await?;
        machine.lock().standing.trust(timeline);
        self.event_recorded();
        tracing::info!(worker.id = %machine.id, worker.name = %name, "a worker follows this host again without reserve");
        Ok(())
    }
}

impl super::machine::State {
    fn may_be_trusted_again(&self, patience: Duration) -> bool {
        let standing = &self.standing;
        let Some(cause) = standing.quarantine else { return false };
        let now = clock::instant();
        // The host sees no rival of before its own start, so it counts from there.
        let quiet_since = standing.quarantined_since.max(standing.rival_at());
        let quiet_for = quiet_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let told = standing.inventory.is_some() && self.link.as_ref().is_some_and(|link| !link.is_closed());
        told && lifts_itself(cause, standing.at_home, quiet_for, patience, standing.holds_what_was_moved)
    }
}

pub(crate) fn quarantined_event(machine: &Machine, why: Quarantine) -> NewEvent {
    let name = machine.lock().name.clone();
    NewEvent {
        actor: "host".to_owned(),
        kind: "worker.quarantined",
        worker_id: Some(machine.id),
        server_id: None,
        message: format!("`{name}` keeps what runs and does nothing else: {}", why.explain()),
        data: serde_json::json!({ "quarantine": why }),
    }
}

fn rival_event(machine: &Machine, message: &str, how: &str) -> NewEvent {
    NewEvent {
        actor: "host".to_owned(),
        kind: "worker.rival",
        worker_id: Some(machine.id),
        server_id: None,
        message: message.to_owned(),
        data: serde_json::json!({ "how": how }),
    }
}

/// Servers of an inventory whose generation the host has forgotten.
pub(crate) fn forgotten<'a>(
    inventory: &'a [InventoryItem],
    known: impl Fn(ServerId) -> Option<(u64, u64)> + 'a,
    equal_too: bool,
) -> impl Iterator<Item = &'a InventoryItem> {
    inventory.iter().filter(move |item| {
        known(item.server).is_some_and(|(generation, epoch)| {
            let theirs = item.generation.get();
            let forgotten_epoch = item.epoch > epoch && item.phase != Phase::Deleted;
            theirs > generation || forgotten_epoch || equal_too && theirs == generation
        })
    })
}
