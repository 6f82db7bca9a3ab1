//! Takes a sample of everything, every ten seconds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::machine::Gauge;
use super::{MetricsError, Subject};
use crate::api::error_chain;
use crate::app::Worker;
use crate::clock;

/// Between two samples; the step of the finest range.
const EVERY_MICROS: i64 = 10_000_000;
/// Two samples are never closer than this.
const LEAST_MICROS: i64 = EVERY_MICROS / 4;
/// Once an hour, what is known of servers that are none any more is deleted.
const SWEEP_ROUNDS: u32 = 360;

/// Until the middle of the next step: a sample taken there is in its own step, whichever way the
/// clock is nudged meanwhile.
fn until_next(now_micros: i64) -> Duration {
    let into = now_micros.rem_euclid(EVERY_MICROS);
    let wait = (EVERY_MICROS / 2 - into).rem_euclid(EVERY_MICROS);
    let wait = if wait < LEAST_MICROS { wait + EVERY_MICROS } else { wait };
    Duration::from_micros(u64::try_from(wait).unwrap_or(0))
}

/// For as long as the worker lives.
pub(crate) async fn run(worker: Arc<Worker>) {
    let metrics = worker.metrics.clone();
    let mut gauge = Gauge::default();
    gauge.look(&worker.data_dir);
    let (mut failing, mut round) = (false, 0_u32);
    loop {
        tokio::time::sleep(until_next(clock::now().as_micros())).await;
        let mut samples: Vec<_> = gauge.look(&worker.data_dir).map(|sample| (Subject::Machine, sample)).into_iter().collect();
        let now = Instant::now();
        let statuses = worker.statuses();
        {
            let mut board = metrics.board();
            board.sweep(now);
            for status in statuses.values().filter(|status| status.phase.is_live()) {
                if let Some(mut sample) = status.instance.and_then(|instance| board.sample(status.id, instance, now)) {
                    sample.players = status.players.as_ref().map(|players| players.online);
                    samples.push((Subject::Server(status.id), sample));
                }
            }
        }
        let mut kept = metrics.add(samples).await;
        if kept.is_ok() && round.is_multiple_of(SWEEP_ROUNDS) {
            kept = metrics.on_disk(move |store| store.keep_only(|server| statuses.contains_key(&server))).await.map(|_| ());
        }
        round = round.wrapping_add(1);
        match kept {
            Ok(()) => failing = false,
            Err(MetricsError::Ended) => return,
            // Said once, not every ten seconds.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(error = error_chain(&error), "what servers use is not kept at the moment");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_step_gets_one_sample(now in -1_000_000_000_000_000i64..2_000_000_000_000_000, late in 0i64..2_000_000) {
            let wait = |now| i64::try_from(until_next(now).as_micros()).expect("short");
            prop_assert!((LEAST_MICROS..LEAST_MICROS + EVERY_MICROS).contains(&wait(now)));
            // Woken a little late, over and over: the steps follow each other.
            let first = now + wait(now) + late;
            let second = first + wait(first) + late;
            prop_assert_eq!(second.div_euclid(EVERY_MICROS), first.div_euclid(EVERY_MICROS) + 1);
            prop_assert!((first + wait(first)).rem_euclid(EVERY_MICROS) == EVERY_MICROS / 2);
        }
    }
}
