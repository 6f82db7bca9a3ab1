//! Beats: the worker says every few seconds that it lives, and how its servers are.

use std::time::Duration;

use manman_common::WorkerStatus;
use manman_common::wire::Beat;
use tokio::sync::watch;

use super::{Ended, Heard, Seat, ends_session, set_away};
use crate::api::error_chain;
use crate::app::Worker;
use crate::clock;

/// The last beat must not hold up the end of the process.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);
/// Between beats while the link brings the wishes that a lifted quarantine waits for.
const ASKED_AGAIN: Duration = Duration::from_secs(2);
/// So many beats in a row may find the host ahead of us before the link is taken to task.
const LAGGING_MAX: u32 = 2;

/// Beats until the host says that the session is over.
pub(super) async fn keep_beating(seat: &Seat, heartbeat: Duration, accepted: watch::Sender<bool>) -> Ended {
    let worker = &seat.worker;
    let mut every = heartbeat;
    let mut away = false;
    let mut lagging = 0;
    loop {
        // The lease runs from before the beat goes out: the answer may take its time.
        let sent = clock::boottime();
        match seat.client.worker_beat(seat.id, &body(worker, Some(seat.epoch), None)).await {
            Ok(answer) => {
                set_away(worker, false);
                every = Duration::from_secs(u64::from(answer.next_seconds.clamp(1, 300)));
                match worker.told(&answer.terms, answer.desired_revision).await {
                    Ok(Heard::InThisSession) => {}
                    Ok(Heard::BeforeItsWishes) => every = every.min(ASKED_AGAIN),
                    Ok(Heard::InAnotherLife) => {
                        tracing::warn!("the host's database went back in time; registering again, games go on");
                        return Ended::RegisterAgain;
                    }
                    Err(error) => {
                        tracing::error!(error = error_chain(&error), "the host's terms can not be stored; they are asked for again");
                    }
                }
                worker.reconcile.lease_renewed(sent, answer.desired_revision);
                if std::mem::take(&mut away) {
                    tracing::info!("the host is back");
                    worker.link.reachable.notify_waiters();
                }
                worker.link_state.send_if_modified(|state| {
                    let changed = state.status != Some(answer.status);
                    state.status = Some(answer.status);
                    changed
                });
                let is_accepted = answer.status != WorkerStatus::Pending;
                let newly = accepted.send_if_modified(|accepted| !std::mem::replace(accepted, is_accepted) && is_accepted);
                if newly {
                    tracing::info!("accepted by the host");
                }
                lagging = if is_accepted && answer.desired_revision > worker.revision() { lagging + 1 } else { 0 };
                if lagging > LAGGING_MAX {
                    lagging = 0;
                    worker.link.resync.notify_waiters();
                }
            }
            Err(error) => {
                if let Some(ended) = ends_session(&error) {
                    return ended;
                }
                set_away(worker, error.is_unreachable());
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(error = error_chain(&error), "the host does not take beats; games go on without it");
                }
            }
        }
        // Cancel-safe: both only wait.
        tokio::select! {
            () = tokio::time::sleep(clock::jitter_around(every)) => {}
            () = worker.link.beat_now.notified() => {}
        }
    }
}

/// The last beat of a worker that goes.
pub(crate) async fn goodbye(worker: &Worker) {
    let Some(client) = worker.host_client() else { return };
    let Some(registration) = worker.registration() else { return };
    let beat = body(worker, Some(registration.session_epoch), Some(WorkerStatus::Shutdown));
    match tokio::time::timeout(GOODBYE_TIMEOUT, client.worker_beat(registration.worker_id, &beat)).await {
        Ok(Ok(_)) => tracing::info!("said goodbye to the host"),
        Ok(Err(error)) => tracing::warn!(error = error_chain(&error), "the host did not take the last beat"),
        Err(_) => tracing::warn!("the host did not take the last beat in time"),
    }
}

/// All that a beat tells.
pub(crate) fn body(worker: &Worker, session_epoch: Option<manman_common::SessionEpoch>, status: Option<WorkerStatus>) -> Beat {
    let own = if worker.is_frozen() { WorkerStatus::Frozen } else { WorkerStatus::Alive };
    Beat {
        session_epoch,
        observed_revision: worker.revision(),
        state_seq: worker.store.state_seq(),
        servers: worker.statuses().values().cloned().collect(),
        usage: Some(worker.usage()),
        status: Some(status.unwrap_or(own)),
    }
}
