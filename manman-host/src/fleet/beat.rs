//! A worker's beat: memory first, and the tables only where something has changed.

use std::sync::Arc;

use manman_common::error::GoneReason;
use manman_common::wire::{Beat, BeatAnswer};

use super::Fleet;
use super::machine::Machine;
use crate::app::App;
use crate::clock;
use crate::config::HEARTBEAT_SECONDS;
use crate::db::worker::worker_desired_revision;

/// Why a beat is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unacknowledged {
    /// Its session is over.
    Gone(GoneReason),
    /// It has not heard yet what was moved away from it: a lease that began now would have it start
    /// that once more, beside its new owner's.
    MustLetGo,
}

impl From<GoneReason> for Unacknowledged {
    fn from(reason: GoneReason) -> Self {
        Self::Gone(reason)
    }
}

impl Fleet {
    /// Takes in a beat; an error is why its session is over, or why no lease may begin with it. A database that does not answer does
    /// not make a worker stale: what could not be written is written later.
    pub(crate) async fn beat(&self, app: &App, machine: &Arc<Machine>, beat: Beat) -> Result<BeatAnswer, Unacknowledged> {
        self.stats.beats.add(1);
        let Beat { session_epoch, observed_revision, servers, usage, status, state_seq } = beat;
        let refused = {
            let mut state = machine.lock();
            state.admits(session_epoch).err().map(|reason| (reason, state.standing.is_rival(session_epoch)))
        };
        if let Some((reason, rival)) = refused {
            if rival {
                self.note_rival(app, machine).await;
            }
            return Err(reason.into());
        }
        let (changed, look) = {
            let mut state = machine.lock();
            // Once more: a session may have ended in between.
            state.admits(session_epoch)?;
            state.heard(status);
            if state_seq > state.standing.state_seq {
                state.standing.state_seq = state_seq;
                state.unsaved = true;
            }
            // An empty beat says nothing of revisions.
            if observed_revision > state.observed_revision || session_epoch.is_some() && observed_revision != state.observed_revision {
                state.observed_revision = observed_revision;
                state.unsaved = true;
            }
            if usage.is_some() && usage != state.usage {
                state.usage = usage;
                state.unsaved = true;
            }
            (state.stored != (state.status, state.frozen), std::mem::take(&mut state.desired_stale))
        };
        if let Some(epoch) = session_epoch {
            self.confirm_resume(app, machine, epoch).await;
        }
        if changed && let Err(error) = self.store_status(app, machine).await {
            tracing::warn!(worker.id = %machine.id, %error, "the worker's status could not be stored");
        }
        if let Err(error) = self.take_in(app, machine, servers).await {
            tracing::warn!(worker.id = %machine.id, %error, "statuses of servers could not be stored");
        }
        if look && let Err(error) = self.look_up_desired(app, machine).await {
            machine.lock().desired_stale = true;
            tracing::warn!(worker.id = %machine.id, %error, "the desired revision could not be read");
        }
        let mut state = machine.lock();
        if session_epoch.is_some() && !state.standing.has_let_go(observed_revision) {
            return Err(Unacknowledged::MustLetGo);
        }
        Ok(BeatAnswer {
            desired_revision: state.desired_revision,
            next_seconds: HEARTBEAT_SECONDS,
            status: state.status,
            terms: state.standing.terms(self.timeline()),
        })
    }

    /// Anything that comes over a link shows that its worker lives; whether that is news.
    pub(crate) fn heard_on_link(&self, machine: &Machine) -> bool {
        let mut state = machine.lock();
        if state.unknown_since.is_none() {
            state.last_seen = clock::instant();
            return false;
        }
        state.heard(None);
        true
    }

    async fn look_up_desired(&self, app: &App, machine: &Machine) -> sqlx::Result<()> {
        let revision = worker_desired_revision(&mut *app.db.acquire().await?, machine.id).await?;
        if let Some(revision) = revision {
            let mut state = machine.lock();
            state.desired_revision = state.desired_revision.max(revision);
        }
        Ok(())
    }
}
