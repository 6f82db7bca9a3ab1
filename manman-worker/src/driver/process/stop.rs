//! The stop ladder is climbed by the shim: this only hands it over and listens. Without a shim the
//! worker climbs it itself, by pidfd.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use manman_common::spec::{StopMode, StopRung, StopStep};
use manman_common::status::ExitRecord;
use manman_shim::launch::Look;
use manman_worker_core::Instance;
use rustix::process::{Signal, pidfd_send_signal};

use super::{ProcessDriver, cgroup};
use crate::driver::shim::held::Held;
use crate::driver::shim::rundir::RunDir;
use crate::driver::shim::{blocking, climb, exit, retry};
use crate::driver::{DriverError, DriverErrorKind, RungSink};

/// What a SIGKILL may take to show.
const KILL_SHOWS_WITHIN: Duration = Duration::from_secs(15);

pub(super) async fn stop(
    driver: &Arc<ProcessDriver>,
    instance: &Instance,
    ladder: &[StopRung],
    mode: StopMode,
    told: &RungSink,
) -> Result<ExitRecord, DriverError> {
    let run = match driver.run_dir(instance.server, instance.id) {
        Err(error) if error.kind == DriverErrorKind::Gone => return Ok(exit::unknown("it is gone")),
        other => other?,
    };
    loop {
        match look(&run).await? {
            Look::Live { .. } | Look::Starting => {
                let held = driver.held(instance)?;
                match climb::by_shim(&held, ladder, mode, told).await {
                    Ok(()) => {}
                    // The shim went while it was asked: the next look says what is left.
                    Err(error) if error.kind == DriverErrorKind::Gone => {}
                    Err(error) => return Err(error),
                }
            }
            Look::Abandoned { child: Some(child), .. } => {
                let held = driver.held(instance)?;
                by_hand(&run, &held, &child, ladder, mode, told).await?;
            }
            Look::Ended(exit) | Look::Abandoned { child: None, exit: Some(exit), .. } => {
                cgroup::kill(&run.about.cgroups);
                return Ok(exit::record(&exit, None));
            }
            Look::Abandoned { child: None, exit: None, .. } => {
                cgroup::kill(&run.about.cgroups);
                return Ok(exit::unknown("it was stopped without its shim, and its exit code is not known"));
            }
            Look::Rebooted { .. } => return Ok(exit::unknown("the machine went down with it")),
            Look::Never => return Ok(exit::unknown("it never ran")),
        }
    }
}

async fn look(run: &RunDir) -> Result<Look, DriverError> {
    let run = run.clone();
    blocking(move || run.look().map_err(|error| retry(format!("could not look at {}", run.path.display()), error))).await
}

/// Its shim is dead, so nobody but this worker climbs, and what it left behind has no other parent.
async fn by_hand(
    run: &RunDir,
    held: &Held,
    game: &std::os::fd::OwnedFd,
    ladder: &[StopRung],
    mode: StopMode,
    told: &RungSink,
) -> Result<(), DriverError> {
    if mode == StopMode::Graceful {
        for rung in ladder {
            match &rung.step {
                StopStep::Signal(name) => {
                    let Some(signal) = signal(name) else { continue };
                    told(rung);
                    // One that has ended meanwhile is what was wanted.
                    let _ = pidfd_send_signal(game, signal);
                }
                StopStep::Console(line) => {
                    told(rung);
                    // A game that takes no line is for the next rung.
                    if let Err(error) = held.type_line(line).await {
                        tracing::warn!(instance = %run.about.instance, %error, "a stop's line could not be typed");
                        continue;
                    }
                }
                StopStep::Action(_) => continue,
            }
            if ended_within(game, Duration::from_secs(u64::from(rung.wait_seconds))).await {
                cgroup::kill(&run.about.cgroups);
                held.ended().await;
                return Ok(());
            }
        }
    }
    told(&StopRung { step: StopStep::Signal("KILL".to_owned()), wait_seconds: u32::try_from(KILL_SHOWS_WITHIN.as_secs()).unwrap_or(0) });
    let _ = pidfd_send_signal(game, Signal::KILL);
    cgroup::kill(&run.about.cgroups);
    if ended_within(game, KILL_SHOWS_WITHIN).await {
        held.ended().await;
        return Ok(());
    }
    Err(retry("the game outlives SIGKILL", std::io::Error::from(std::io::ErrorKind::TimedOut)))
}

/// A pidfd is readable once its process has ended.
async fn ended_within(game: &std::os::fd::OwnedFd, limit: Duration) -> bool {
    let Ok(copy) = game.as_fd().try_clone_to_owned() else { return false };
    let Ok(watched) = crate::driver::shim::readable(copy) else { return false };
    matches!(tokio::time::timeout(limit, watched.readable()).await, Ok(Ok(_)))
}

fn signal(name: &str) -> Option<Signal> {
    Some(match name.trim_start_matches("SIG") {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "KILL" => Signal::KILL,
        _ => return None,
    })
}
