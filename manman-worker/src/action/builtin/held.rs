//! A server that is kept from running while its files are worked on.

use std::sync::Arc;
use std::time::Duration;

use manman_common::wire::ActionFailure;
use manman_common::{Kind, Phase, Problem, ServerId};
use manman_worker_core::Mode;

use super::super::{Begun, Failed};
use crate::api::error_chain;
use crate::app::Worker;
use crate::reconcile::{ReconcileError, ReconcileHandle};
use crate::room;

/// What a stop plan may take beyond its own times.
const MARGIN: Duration = Duration::from_secs(60);

/// While this lives the server does not run. The wish is what it was, and is followed afterwards.
pub(super) struct Hold {
    reconcile: ReconcileHandle,
    server: ServerId,
    taken: bool,
}

impl Hold {
    /// Stops the game by its stop plan if it runs, and waits until it has ended.
    pub(super) async fn take(worker: &Arc<Worker>, begun: &Begun) -> Result<Self, Failed> {
        if worker.standing().mode() == Mode::Quarantined {
            let problem = Problem::new(Kind::Conflict, "the worker is quarantined: nothing is stopped, so its files can not be worked on");
            let hint = worker.standing().attention(worker.config.name.as_str()).map(|(_, hint)| hint);
            return Err(Failed::refused(hint.into_iter().fold(problem, Problem::hint)));
        }
        if !room::has_ample_room(&worker.config.data_dir) {
            let problem = Problem::new(Kind::Conflict, "the worker's disk is almost full: a game that is stopped now would not come back");
            return Err(Failed::refused(problem.hint("make room on the disk of the worker's data directory")));
        }
        let (reconcile, server) = (worker.reconcile.clone(), begun.spec.id);
        reconcile.hold(server, true).await.map_err(|error| of_the_loop(&error))?;
        let hold = Self { reconcile, server, taken: true };
        let plan: u64 = begun.spec.run.stop.iter().map(|rung| u64::from(rung.wait_seconds)).sum();
        let at_rest = hold.at_rest(worker);
        match tokio::time::timeout(Duration::from_secs(plan) + MARGIN, at_rest).await {
            Ok(done) => done.map(|()| hold),
            Err(_) => {
                let problem = Problem::new(Kind::Conflict, "the game does not stop, so nothing was done");
                Err(Failed::refused(problem.hint("see `manman server show`; `manman server kill` ends it without grace")))
            }
        }
    }

    /// Lets the server go before anything else may take it.
    pub(super) async fn release(mut self) -> Result<(), Failed> {
        self.taken = false;
        self.reconcile.hold(self.server, false).await.map_err(|error| of_the_loop(&error))
    }

    async fn at_rest(&self, worker: &Worker) -> Result<(), Failed> {
        let mut statuses = worker.watch_statuses();
        loop {
            let phase = statuses.borrow_and_update().get(&self.server).map(|status| status.phase);
            let busy = match phase {
                Some(Phase::Installing | Phase::Starting | Phase::Running | Phase::Ready | Phase::Unready | Phase::Stopping) => true,
                Some(Phase::StopStuck | Phase::Orphaned | Phase::Unknown) => true,
                Some(Phase::Pending | Phase::Stopped | Phase::Crashed | Phase::Backoff | Phase::Failed | Phase::Deleted) | None => false,
            };
            let instance = self.reconcile.instance(self.server).await.map_err(|error| of_the_loop(&error))?;
            if !busy && instance.is_none() {
                return Ok(());
            }
            // A change may be missed between two looks of the loop; it looks at least this often.
            let _ = tokio::time::timeout(Duration::from_millis(250), statuses.changed()).await;
        }
    }
}

impl Drop for Hold {
    /// Of an action that broke off.
    fn drop(&mut self) {
        if !self.taken {
            return;
        }
        let (reconcile, server) = (self.reconcile.clone(), self.server);
        tokio::spawn(async move {
            // A loop that is gone holds nothing.
            let _ = reconcile.hold(server, false).await;
        });
    }
}

pub(super) fn of_the_loop(error: &ReconcileError) -> Failed {
    tracing::warn!(error = error_chain(error), "the loop could not be asked");
    Failed::new(ActionFailure::Error, Problem::new(Kind::Unavailable, "the worker can not do it now"))
}
