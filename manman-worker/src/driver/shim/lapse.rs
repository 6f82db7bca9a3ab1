//! The lease of a game whose shim was killed: this worker keeps it, as well as a process can that may
//! itself be stopped. Two faults at once are one more than a shim is there for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use manman_shim::journal::Event;
use manman_shim::lease::{Course, Due};
use manman_shim::record::State;
use manman_shim::rung::Step;
use manman_shim::{clock, files};
use rustix::process::{Signal, pidfd_send_signal};

use super::held::Held;
use super::orphan::journal;
use super::{blocking, retry};

/// In a run directory: its lease ran out.
const LAPSED: &str = "lapsed";
/// The clock is looked at so often, since a timer of ours stands still while the machine sleeps.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Ends the game when its lease does; returns never.
pub(super) async fn keep(held: &Held, game: &OwnedFd, state: &State) -> std::convert::Infallible {
    let mut leased = held.leased();
    let mut course = Course::default();
    let mut rungs = ladder(&held.run.path).into_iter();
    let mut next_rung: Option<Duration> = None;
    loop {
        // One that has run out is not taken back.
        course.set(*leased.borrow_and_update());
        let now = clock::boottime();
        while let Some(due) = course.due(now) {
            lapsed(held, state, course.lease(), due).await;
            match due {
                Due::Ladder => next_rung = Some(now),
                Due::Kill => send(held, state, game, Signal::KILL).await,
            }
        }
        if next_rung.is_some_and(|at| at <= now) {
            next_rung = match rungs.next() {
                Some(rung) => {
                    match &rung.step {
                        // A game that takes no line is for the next rung.
                        Step::Console(line) => drop(held.type_line(line).await),
                        Step::Signal(signal) | Step::SignalAll(signal) => send(held, state, game, *signal).await,
                    }
                    Some(now + rung.wait)
                }
                None => {
                    send(held, state, game, Signal::KILL).await;
                    None
                }
            };
        }
        let next = [course.next(), next_rung].into_iter().flatten().min();
        let wait = next.map(|next| next.saturating_sub(clock::boottime()).min(LOOK_AGAIN));
        // Cancel-safe: a level, and a time that is worked out anew.
        tokio::select! {
            _ = leased.changed() => {}
            () = async { match wait { Some(wait) => tokio::time::sleep(wait).await, None => std::future::pending().await } } => {}
        }
    }
}

/// Whether the lease of what ran here ran out.
pub(super) fn has_lapsed(run_dir: &Path) -> bool {
    run_dir.join(LAPSED).exists()
}

fn ladder(run_dir: &Path) -> Vec<manman_shim::rung::Rung> {
    let spec = files::read(&run_dir.join(files::SPEC)).ok().flatten();
    spec.and_then(|text| manman_shim::spec::Spec::parse(&text).ok()).map(|spec| spec.ladder).unwrap_or_default()
}

async fn lapsed(held: &Held, state: &State, lease: Option<manman_shim::lease::Lease>, due: Due) {
    let (run, state) = (held.run.clone(), state.clone());
    let (until_ms, kill_ms) = manman_shim::lease::Lease::millis(lease);
    tracing::warn!(server.id = %run.about.server, instance = %run.about.instance, "the lease of a game without a shim has run out, and the worker stops it");
    let noted = blocking(move || {
        journal(&run, &state).note(&Event::Lapsed { until_ms, kill_ms, kill: due == Due::Kill });
        File::create(run.path.join(LAPSED)).map(drop).map_err(|error: io::Error| retry("could not note the end of a lease", error))
    });
    if let Err(error) = noted.await {
        tracing::warn!(%error, "the end of a lease is not on record");
    }
}

async fn send(held: &Held, state: &State, game: &OwnedFd, signal: Signal) {
    // One that has ended meanwhile is what was wanted.
    if pidfd_send_signal(game.as_fd(), signal).is_err() {
        return;
    }
    let (run, state) = (held.run.clone(), state.clone());
    let noted = blocking(move || {
        let (pid, ticks) = (state.child.pid, state.child.start_ticks);
        journal(&run, &state).note(&Event::Signal { number: signal.as_raw(), pid, ticks });
        Ok(())
    });
    drop(noted.await);
}
