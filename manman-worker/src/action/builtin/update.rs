//! `update`: stop, install, start, each by the loop that does it always.

use std::sync::Arc;
use std::time::Duration;

use manman_common::wire::ActionFailure;
use manman_common::{Kind, Phase, Problem};
use serde_json::json;

use super::super::{Begun, Failed, Outcome};
use super::backup::is_live;
use super::held::{Hold, of_the_loop};
use crate::app::Worker;

/// Longer than any game takes on a slow line; an install that stands still is given up by its driver.
const INSTALL_WITHIN: Duration = Duration::from_secs(6 * 3600);

pub(super) async fn update(worker: &Arc<Worker>, begun: &Begun) -> Outcome {
    let spec = &begun.spec;
    if worker.is_frozen() {
        return Err(Failed::refused(Problem::new(Kind::Conflict, "the worker is frozen: nothing is installed").hint("unfreeze it first")));
    }
    let Some(driver) = worker.reconcile.driver_of(spec) else {
        return Err(Failed::refused(Problem::new(Kind::Conflict, "this worker can not install such a game")));
    };
    let before = driver.build_of(spec).await;
    let running = is_live(worker, begun);
    begun.teller.say(None, if running { "stopping the game" } else { "asking for the newest build" });
    let hold = Hold::take(worker, begun).await?;
    driver.want_newest(spec.id);
    worker.reconcile.renew(spec.id).await.map_err(|error| of_the_loop(&error))?;
    // From here on the loop does what it always does: install, then start if that is wished.
    hold.release().await?;
    match tokio::time::timeout(INSTALL_WITHIN, installed(worker, begun)).await {
        Ok(done) => done?,
        Err(_) => return Err(Failed::new(ActionFailure::Timeout, Problem::new(Kind::Timeout, "the install takes too long; it goes on"))),
    }
    let after = driver.build_of(spec).await;
    Ok(json!({"before": before, "after": after, "changed": before != after, "starts_again": running}))
}

async fn installed(worker: &Arc<Worker>, begun: &Begun) -> Result<(), Failed> {
    let mut statuses = worker.watch_statuses();
    loop {
        let status = statuses.borrow_and_update().get(&begun.spec.id).cloned();
        if let Some(progress) =
            status.as_ref().filter(|status| status.phase == Phase::Installing).and_then(|status| status.progress.as_ref())
        {
            begun.teller.say(progress.percent, &progress.step);
        }
        let record = worker.reconcile.record(begun.spec.id).await.map_err(|error| of_the_loop(&error))?;
        if let Some(failure) = &record.tried.install_failure {
            let problem = Problem::new(Kind::Conflict, format!("the install failed: {}", failure.reason));
            let problem = failure.hint.iter().fold(problem, |problem, hint| problem.hint(hint.clone()));
            return Err(Failed::new(ActionFailure::Error, problem));
        }
        if record.tried.installed.is_some() {
            return Ok(());
        }
        let _ = tokio::time::timeout(Duration::from_millis(500), statuses.changed()).await;
    }
}
