//! What is kept over a restart, as one document.

use std::sync::Arc;
use std::time::Duration;

use manman_common::Timestamp;
use serde::{Deserialize, Serialize};

use super::bind::Bind;
use super::incident::Incidents;
use super::name::WaifuName;
use super::route::{Health, Route};
use super::target::Target;
use super::{Orchestrator, State, StoreError, Waifu, chain};

/// Who had a lease is given at least this long to renew it.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    waifus: Vec<Kept>,
    incidents: Incidents,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    name: WaifuName,
    target: Target,
    binds: Vec<Bind>,
    secret_hash: Option<String>,
    health_path: Option<String>,
    #[serde(default)]
    pin: Option<[u8; 32]>,
    /// The lease, where there is one.
    term_seconds: Option<u64>,
    expires_at: Option<Timestamp>,
}

impl Orchestrator {
    pub(super) async fn restore(&self) -> Result<(), StoreError> {
        let Some(bytes) = self.store.load().await? else { return Ok(()) };
        let document: Document = match serde_json::from_slice(&bytes) {
            Ok(document) => document,
            Err(error) => {
                // Every waifu says hello again at its own next start; a front door that stays shut helps none.
                tracing::error!(%error, "what the orchestrator knew can not be read; it begins anew");
                return Ok(());
            }
        };
        let mut state = self.state.lock().await;
        let (tick, now) = (self.tick(), self.clock.wall());
        state.incidents = document.incidents;
        for Kept { name, target, binds, secret_hash, health_path, pin, term_seconds, expires_at } in document.waifus {
            if expires_at.is_some_and(|end| end <= now) {
                continue;
            }
            let remaining = expires_at.map_or(Duration::ZERO, |end| end.since(now).max(GRACE));
            let term = term_seconds.map(Duration::from_secs);
            // Whoever renews its lease is not asked for its health, and so is believed until the lease ends.
            let health = if term.is_some() { Health::Up } else { Health::Probation };
            let Some(route) = Route::new(name.clone(), target.clone(), health, term.map(|_| tick.plus(remaining))) else { continue };
            self.connector.pin(&target.authority(), pin);
            let waifu = Waifu { route: Arc::new(route), binds, secret_hash, health_path, pin };
            state.waifus.restore(tick, name, (target, term, waifu), remaining);
        }
        self.publish(&state);
        Ok(())
    }

    /// Writes down what is now. A failure is said and not answered: what was asked for holds, if only
    /// until the next restart.
    pub(super) async fn save(&self, state: &mut State) {
        let bytes = self.document(state);
        state.saved = fingerprint(state, self);
        if let Err(error) = self.store.save(bytes).await {
            state.saved = 0;
            tracing::error!(error = chain(&error), "what the orchestrator knows could not be kept");
        }
    }

    /// Whether there is something that was not saved, ends of leases aside.
    pub(super) fn dirty(&self, state: &State) -> bool {
        state.saved != fingerprint(state, self)
    }

    /// Saves what has changed since, ends of leases included; for the end, and now and then.
    pub async fn save_now(&self) {
        let mut state = self.state.lock().await;
        self.save(&mut state).await;
    }

    fn document(&self, state: &State) -> Vec<u8> {
        let (tick, now) = (self.tick(), self.clock.wall());
        let kept = state.waifus.iter(tick).map(|(name, lease)| Kept {
            name: name.clone(),
            target: lease.holder.clone(),
            binds: lease.value.binds.clone(),
            secret_hash: lease.value.secret_hash.clone(),
            health_path: lease.value.health_path.clone(),
            pin: lease.value.pin,
            term_seconds: lease.term.map(|term| term.as_secs()),
            expires_at: lease.remaining(tick).map(|left| now.plus(left)),
        });
        let document = Document { waifus: kept.collect(), incidents: state.incidents.clone() };
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

/// Changes whenever something is to be kept, renewals aside.
fn fingerprint(state: &State, orchestrator: &Orchestrator) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    for (name, lease) in state.waifus.iter(orchestrator.tick()) {
        (name, lease.holder.to_string(), lease.term, &lease.value.secret_hash, &lease.value.health_path, lease.value.pin).hash(&mut hasher);
        for bind in &lease.value.binds {
            (&bind.origin, &bind.path).hash(&mut hasher);
        }
    }
    state.incidents.total().hash(&mut hasher);
    hasher.finish()
}
