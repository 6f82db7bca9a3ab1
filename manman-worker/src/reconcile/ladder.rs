//! The rungs of a stop plan that the worker climbs itself: actions, and lines for a console over
//! the network. They come before all others; those are the driver's, and of the games under a shim
//! the shim's, so that a worker's death does not matter to them.

use std::time::Duration;

use manman_common::ServerSpec;
use manman_common::spec::{StopRung, StopStep};
use manman_worker_core::Instance;
use tokio::time::Instant;

use super::execute::{Aside, Job};
use super::signals::Climbed;
use crate::driver::Driver;

/// Between two looks at whether the game has ended.
const LOOK: Duration = Duration::from_millis(500);

/// The worker's own rungs, and the driver's.
pub(super) fn parted(spec: &ServerSpec, ladder: Vec<StopRung>) -> (Vec<StopRung>, Vec<StopRung>) {
    let remote = spec.run.console.is_remote();
    ladder.into_iter().partition(|rung| match &rung.step {
        StopStep::Action(_) => true,
        StopStep::Console(_) => remote,
        StopStep::Signal(_) => false,
    })
}

/// Returns once the game has ended, which it answers, or every rung has had its time. What fails
/// here is no reason not to go on: the driver's rungs follow.
pub(super) async fn climb(job: &Job, driver: &dyn Driver, instance: &Instance, rungs: &[StopRung]) -> bool {
    for rung in rungs {
        tell(job, Aside::Rung(job.spec.id, rung.clone()));
        let within = Duration::from_secs(u64::from(rung.wait_seconds));
        let deadline = Instant::now() + within;
        let climbing = async {
            match job.supervision.climb(&job.spec, instance, driver, &rung.step, within).await {
                Ok(Climbed::Told) => tokio::time::sleep_until(deadline).await,
                Ok(Climbed::Done) => {}
                Ok(Climbed::Unanswered) => tell(job, passed_over(job, rung, "its answer has not come".to_owned())),
                Err(problem) => tell(job, passed_over(job, rung, problem.detail)),
            }
        };
        tokio::select! {
            () = climbing => {}
            () = ended(driver, instance) => return true,
        }
    }
    false
}

/// Until the machine no longer shows it alive. One that can not be looked at may live.
async fn ended(driver: &dyn Driver, instance: &Instance) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Ok(found) = driver.list().await
            && !found.iter().any(|found| found.id == instance.id && found.is_live())
        {
            return;
        }
    }
}

fn passed_over(job: &Job, rung: &StopRung, why: String) -> Aside {
    Aside::RungOver(job.spec.id, rung.clone(), why)
}

fn tell(job: &Job, aside: Aside) {
    // An event that finds the channel full is one of hundreds.
    drop(job.asides.try_send(aside));
}
