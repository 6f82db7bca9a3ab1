//! The stop ladder: asks a game to end, ever less kindly, until it is seen to be dead.

use std::time::Duration;

use bollard::query_parameters::{KillContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt;
use manman_common::spec::{StopMode, StopRung, StopStep};
use manman_common::status::ExitRecord;
use manman_worker_core::Instance;
use tokio::time::Instant;

use super::engine::short;
use super::{DockerDriver, container_of, error, observe};
use crate::driver::shim::climb;
use crate::driver::{DriverError, DriverErrorKind, RungSink};

/// For a SIGKILL to have its effect: the kernel frees a big game's memory, the engine cleans up.
const KILL_WAIT: Duration = Duration::from_secs(30);

/// Between two looks at a container whose end can not be waited for.
const LOOK: Duration = Duration::from_millis(500);

/// What a shim may take for the whole ladder, the kill at its end included.
fn patience(ladder: &[StopRung]) -> Duration {
    ladder.iter().map(|rung| Duration::from_secs(u64::from(rung.wait_seconds))).sum::<Duration>() + KILL_WAIT
}

impl DockerDriver {
    pub(super) async fn stop_instance(
        &self,
        instance: &Instance,
        ladder: &[StopRung],
        mode: StopMode,
        told: &RungSink,
    ) -> Result<ExitRecord, DriverError> {
        let id = container_of(instance)?;
        let mut mode = mode;
        // The run directory is the game's own to spoil, and Docker can end it without.
        let held = self.held_box(instance).await.unwrap_or_else(|error| {
            tracing::warn!(server.id = %instance.server, error = %error::chain(&error), "a shim can not be asked to stop its game; Docker does it");
            None
        });
        if let Some(held) = held {
            // So is its socket: what speaks there may be the game, which waits for ever.
            let climb = tokio::time::timeout(patience(ladder), climb::by_shim(&held, ladder, mode, told));
            match climb.await {
                Ok(Ok(())) => {
                    if let Some(exit) = self.dead_within(id, KILL_WAIT).await? {
                        return Ok(self.box_exit(instance).await.unwrap_or(exit));
                    }
                    mode = StopMode::Kill;
                }
                // The shim has gone, and its container with it.
                Ok(Err(error)) if error.kind == DriverErrorKind::Gone => {}
                Ok(Err(error)) => match mode {
                    StopMode::Graceful => return Err(error),
                    StopMode::Kill => {
                        tracing::warn!(server.id = %instance.server, error = %error::chain(&error), "a shim does not kill its game; Docker does");
                    }
                },
                Err(_) => {
                    tracing::warn!(server.id = %instance.server, "a shim has climbed the stop ladder and its game lives; Docker kills it");
                    mode = StopMode::Kill;
                }
            }
        }
        match mode {
            StopMode::Graceful => {
                for rung in ladder {
                    told(rung);
                    let asked = match &rung.step {
                        StopStep::Console(line) => self.consoles.write_line(&self.engine, id, line).await,
                        StopStep::Signal(signal) => self.signal(id, signal).await,
                        // Climbed before the ladder came here; one that stands too late is passed over.
                        StopStep::Action(_) => continue,
                    };
                    // A rung that breaks is no reason to wait on it, nor to leave the ladder.
                    let wait = match asked {
                        Ok(()) => Duration::from_secs(u64::from(rung.wait_seconds)),
                        Err(error) => {
                            tracing::debug!(server.id = %instance.server, error = %error::chain(&error), "a rung of the stop plan broke");
                            Duration::ZERO
                        }
                    };
                    if let Some(exit) = self.dead_within(id, wait).await? {
                        return Ok(exit);
                    }
                }
            }
            StopMode::Kill => {}
        }
        if let Some(exit) = self.dead_within(id, Duration::ZERO).await? {
            return Ok(exit);
        }
        told(&StopRung { step: StopStep::Signal("KILL".to_owned()), wait_seconds: u32::try_from(KILL_WAIT.as_secs()).unwrap_or(u32::MAX) });
        let killed = self.signal(id, "KILL").await;
        match self.dead_within(id, KILL_WAIT).await? {
            Some(exit) => Ok(exit),
            None => {
                killed?;
                Err(error::retry_because(format!("container {} is still alive {} s after SIGKILL", short(id), KILL_WAIT.as_secs())))
            }
        }
    }

    async fn signal(&self, id: &str, signal: &str) -> Result<(), DriverError> {
        let options = KillContainerOptionsBuilder::new().signal(&format!("SIG{}", signal.trim_start_matches("SIG"))).build();
        match self.engine.docker().await?.kill_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            // 409: it has ended by itself.
            Err(source) if matches!(error::status(&source), Some(404 | 409)) => Ok(()),
            Err(source) => Err(error::retry(format!("container {} can not be sent SIG{signal}", short(id)), source)),
        }
    }

    /// Its end, as soon as it is dead; `None` if it outlives the limit. What counts is always what
    /// an inspection shows.
    async fn dead_within(&self, id: &str, limit: Duration) -> Result<Option<ExitRecord>, DriverError> {
        let deadline = Instant::now() + limit;
        loop {
            let state = match self.engine.inspect(id).await {
                Ok(found) => found.state.unwrap_or_default(),
                Err(error) if error.kind == DriverErrorKind::Gone => {
                    return Ok(Some(ExitRecord { reason: Some("its container is gone".to_owned()), ..ExitRecord::default() }));
                }
                Err(error) => return Err(error),
            };
            if !state.running.unwrap_or(false) {
                return Ok(Some(observe::exit_record(&state)));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
            let mut ended = self.engine.docker().await?.wait_container(id, Some(options)).boxed();
            let waited = tokio::time::timeout_at(deadline, ended.next()).await;
            // An end is `Ok(Some(_))`, whatever its code; an engine that went away is, too.
            if matches!(waited, Ok(Some(Err(ref error)) ) if !matches!(error, bollard::errors::Error::DockerContainerWaitError { .. })) {
                tokio::time::sleep_until(deadline.min(Instant::now() + LOOK)).await;
            }
        }
    }
}
