//! A step becomes one call of a driver, with a deadline. Nothing is decided here.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use manman_common::spec::{StopMode, StopRung, StopStep};
use manman_common::status::Progress;
use manman_common::{ServerId, ServerSpec};
use manman_worker_core::{Failing, FailureKind, Instance, Outcome, Step};
use tokio::sync::mpsc;

use super::signals::Supervision;
use super::{ladder, ports};
use crate::driver::{Driver, DriverError, DriverErrorKind, Lease, ProgressSink, RungSink, Stops};

/// A game of 100 GB on a line of 50 Mbit/s takes five hours; drivers end an idle download much sooner.
const INSTALL_WITHIN: Duration = Duration::from_secs(12 * 3600);
const START_WITHIN: Duration = Duration::from_secs(120);
/// What a stop may take beyond its ladder: SIGKILL and the engine's own time.
const STOP_BEYOND_LADDER: Duration = Duration::from_secs(60);
/// A follower that has not caught up with a dead game in this time never will.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);
const REMOVE_WITHIN: Duration = Duration::from_secs(60);
const PURGE_WITHIN: Duration = Duration::from_secs(600);

/// What a step tells while it is under way.
#[derive(Debug)]
pub(super) enum Aside {
    Progress(ServerId, Progress),
    Rung(ServerId, StopRung),
    /// A rung that was left before its time, and why.
    RungOver(ServerId, StopRung, String),
}

/// Everything that a step needs, owned, so that its task borrows nothing of the loop's.
pub(super) struct Job {
    pub(super) step: Step,
    pub(super) spec: ServerSpec,
    /// The instance that a stop or removal names, as it was seen.
    pub(super) instance: Option<Instance>,
    /// The id under which a start is to be made.
    pub(super) starting: Option<manman_common::InstanceId>,
    pub(super) driver: Option<Arc<dyn Driver>>,
    /// How long what is started may run; none where that is for ever.
    pub(super) lease: Option<Lease>,
    /// The wish is the host's own word of now, not a memory of it.
    pub(super) host_wants: bool,
    pub(super) supervision: Arc<dyn Supervision>,
    pub(super) asides: mpsc::Sender<Aside>,
}

pub(super) async fn execute(job: Job) -> (Step, Outcome) {
    let step = job.step.clone();
    let (what, limit) = match &step {
        Step::Install { .. } => ("the install", INSTALL_WITHIN),
        Step::Start { .. } => ("the start", START_WITHIN),
        Step::Stop { mode: StopMode::Kill, .. } => ("the kill", STOP_BEYOND_LADDER),
        Step::Stop { mode: StopMode::Graceful, .. } => ("the stop", STOP_BEYOND_LADDER + Duration::from_secs(ladder_seconds(&job.spec))),
        Step::Remove { .. } => ("the removal", DRAIN_WITHIN + REMOVE_WITHIN),
        Step::Purge { .. } => ("deleting the data", PURGE_WITHIN),
    };
    let condition = match &step {
        Step::Install { .. } => "Install",
        Step::Start { .. } => "Start",
        Step::Stop { .. } => "Stop",
        Step::Remove { .. } => "Remove",
        Step::Purge { .. } => "Purge",
    };
    let outcome = match tokio::time::timeout(limit, perform(job, condition)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failing)) => Outcome::Failed(failing),
        Err(_) => Outcome::Failed(Failing {
            kind: FailureKind::Retry,
            condition: condition.to_owned(),
            reason: format!("{what} did not end within {} s", limit.as_secs()),
            hint: None,
        }),
    };
    (step, outcome)
}

async fn perform(job: Job, condition: &str) -> Result<Outcome, Failing> {
    let Some(driver) = &job.driver else {
        let method = job.spec.run.game_id.method().as_str();
        return Err(Failing {
            kind: FailureKind::Final,
            condition: "Driver".to_owned(),
            reason: format!("this worker can not run `{method}` games"),
            hint: Some("choose a worker that can; `manman doctor` says why this one can not".to_owned()),
        });
    };
    let failed = |error: DriverError| failing(condition, &error);
    let gone = || Failing {
        kind: FailureKind::Gone,
        condition: condition.to_owned(),
        reason: "the instance is no longer there".to_owned(),
        hint: None,
    };
    match &job.step {
        Step::Install { .. } => {
            driver.install(&job.spec, progress_sink(&job)).await.map_err(failed)?;
            Ok(Outcome::Done)
        }
        Step::Start { .. } => {
            let instance = job.starting.ok_or_else(gone)?;
            if let Some(port) = ports::first_taken(&job.spec.run.ports).await {
                return Err(Failing {
                    kind: FailureKind::Retry,
                    condition: "PortInUse".to_owned(),
                    reason: format!("port {}/{} is in use", port.port, port.protocol.as_str()),
                    hint: Some("stop what uses it, or give the server another port".to_owned()),
                });
            }
            driver.grant_lease(job.spec.id, None, job.lease).await.map_err(failed)?;
            if job.host_wants {
                driver.take_up(&job.spec, Stops::All).await.map_err(failed)?;
            }
            driver.start(&job.spec, instance).await.map_err(failed)?;
            Ok(Outcome::Done)
        }
        Step::Stop { mode, .. } => {
            let instance = job.instance.as_ref().ok_or_else(gone)?;
            let (ours, mut rest) = ladder::parted(&job.spec, ladder(&job.spec));
            match mode {
                StopMode::Graceful => {
                    // No further rung is told of, let alone climbed, when it has ended.
                    if ladder::climb(&job, &**driver, instance, &ours).await {
                        rest.clear();
                    }
                }
                StopMode::Kill => {}
            }
            let exit = driver.stop(instance, &rest, *mode, rung_sink(&job)).await.map_err(failed)?;
            Ok(Outcome::Ended(exit))
        }
        Step::Remove { server, instance } => {
            let seen = job.instance.as_ref().ok_or_else(gone)?;
            if tokio::time::timeout(DRAIN_WITHIN, job.supervision.drain(*server, *instance)).await.is_err() {
                tracing::warn!(server.id = %server, instance = %instance, "the log of a dead instance was not complete when it was removed");
            }
            driver.remove(seen).await.map_err(failed)?;
            Ok(Outcome::Done)
        }
        Step::Purge { server } => {
            job.supervision.purge(*server).await.map_err(|error| Failing {
                kind: FailureKind::Retry,
                condition: condition.to_owned(),
                reason: format!("could not delete its log: {error}"),
                hint: None,
            })?;
            driver.purge(*server).await.map_err(failed)?;
            Ok(Outcome::Done)
        }
    }
}

/// The stop plan; where there is none, what every well-behaved program understands.
fn ladder(spec: &ServerSpec) -> Vec<StopRung> {
    if spec.run.stop.is_empty() {
        return vec![StopRung { step: StopStep::Signal("TERM".to_owned()), wait_seconds: 30 }];
    }
    spec.run.stop.clone()
}

/// What climbing it to its end takes.
pub(super) fn ladder_seconds(spec: &ServerSpec) -> u64 {
    ladder(spec).iter().map(|rung| u64::from(rung.wait_seconds)).sum()
}

fn progress_sink(job: &Job) -> ProgressSink {
    let (asides, server) = (job.asides.clone(), job.spec.id);
    // Progress that finds the channel full is overtaken by newer progress anyway.
    Arc::new(move |progress| drop(asides.try_send(Aside::Progress(server, progress))))
}

fn rung_sink(job: &Job) -> RungSink {
    let (asides, server) = (job.asides.clone(), job.spec.id);
    Arc::new(move |rung: &StopRung| drop(asides.try_send(Aside::Rung(server, rung.clone()))))
}

fn failing(condition: &str, error: &DriverError) -> Failing {
    let kind = match error.kind {
        DriverErrorKind::Retry => FailureKind::Retry,
        DriverErrorKind::Final => FailureKind::Final,
        DriverErrorKind::Gone => FailureKind::Gone,
    };
    Failing { kind, condition: condition.to_owned(), reason: sentence(error), hint: error.hint.clone() }
}

/// An error and its causes in one line, of a length that fits a status.
pub(super) fn sentence(error: &dyn Error) -> String {
    const LONGEST: usize = 600;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat their source in their own message.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    if text.chars().count() > LONGEST {
        text = text.chars().take(LONGEST).chain("…".chars()).collect();
    }
    text
}
