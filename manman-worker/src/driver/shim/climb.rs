//! Has the shim climb the stop ladder, and hears of each rung.

use manman_common::spec::{StopMode, StopRung, StopStep};
use manman_shim::proto::Request;

use super::gone;
use super::held::Held;
use super::ladder::{rungs as rungs_of, text};
use crate::driver::{DriverError, DriverErrorKind, RungSink};

/// Returns once nothing of the instance lives, with an error once something has outlived SIGKILL: the
/// shim goes on trying. Asked again, the ladder goes on where it is.
pub(crate) async fn by_shim(held: &Held, ladder: &[StopRung], mode: StopMode, told: &RungSink) -> Result<(), DriverError> {
    let kill = StopRung { step: StopStep::Signal("KILL".to_owned()), wait_seconds: 0 };
    let rungs = match mode {
        StopMode::Graceful => rungs_of(ladder),
        StopMode::Kill => Vec::new(),
    };
    let mut climbed = held.climbed();
    if rungs.is_empty() {
        told(&kill);
        held.ask("kill the game", |client| client.tell(&Request::Kill)).await?;
    } else {
        let text = text(&rungs);
        held.ask("begin the stop", move |client| client.tell(&Request::Stop { ladder: &text })).await?;
    }
    let ended = held.ended();
    tokio::pin!(ended);
    let stuck = held.stuck();
    tokio::pin!(stuck);
    loop {
        // Cancel-safe: a broadcast and a level. The end comes last, after every rung's news.
        tokio::select! {
            biased;
            index = climbed.recv() => match index {
                Ok(index) => told(rungs.get(index).map_or(&kill, |(_, rung)| rung)),
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return Err(gone("nobody listens to the shim any more")),
            },
            () = &mut ended => return Ok(()),
            pids = &mut stuck => return Err(outlives(&pids)),
        }
    }
}

fn outlives(pids: &[i32]) -> DriverError {
    let shown: Vec<String> = pids.iter().take(8).map(ToString::to_string).collect();
    let more = if pids.len() > shown.len() { " and more" } else { "" };
    DriverError {
        kind: DriverErrorKind::Retry,
        what: format!("of its processes, {}{more} outlived SIGKILL: the kernel does not let them go", shown.join(", ")),
        hint: Some(
            "it is waited for, and nothing is started in its place; a disk or network share that hangs is the usual reason".to_owned(),
        ),
        source: None,
    }
}
