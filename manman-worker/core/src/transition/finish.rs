//! What the end of a step changes. That it did what it was to do is for the next look to say.

use std::time::Duration;

use manman_common::spec::StopMode;
use manman_common::{ServerId, Timestamp};
use serde_json::json;

use super::{count_failure, give_up};
use crate::backoff::{TRIES_MAX, backoff};
use crate::{Failing, Failure, FailureKind, Happening, Outcome, Record, Step, Trouble};

/// Before a stop that did not help is tried again.
const STOP_AGAIN: Duration = Duration::from_secs(5);
/// The same once it has been tried often.
const STOP_AGAIN_MAX: Duration = Duration::from_secs(60);
/// What a SIGKILL may take to show before a stop counts as stuck.
const KILL_SHOWS_AFTER: Duration = Duration::from_secs(15);
const REMOVE_AGAIN: Duration = Duration::from_secs(30);
const PURGE_AGAIN: Duration = Duration::from_secs(60);

#[must_use]
pub fn finish(record: &mut Record, step: &Step, outcome: Outcome, now: Timestamp) -> Vec<Happening> {
    match (step, outcome) {
        (Step::Install { key, .. }, Outcome::Done | Outcome::Ended(_)) => {
            record.tried.installed = Some(key.clone());
            record.tried.install_failure = None;
            vec![Happening::new("server.installed", format!("{} is installed", record.spec.run.game_id), json!({ "key": key }))]
        }
        (Step::Install { server, .. }, Outcome::Failed(failing)) => install_failed(*server, record, failing, now),
        (Step::Start { .. }, Outcome::Done | Outcome::Ended(_)) => started(record, now),
        (Step::Start { server }, Outcome::Failed(failing)) => start_failed(*server, record, failing, now),
        (Step::Stop { instance, .. }, Outcome::Done) => stop_returned(record, *instance, now, None, None),
        (Step::Stop { instance, .. }, Outcome::Ended(exit)) => stop_returned(record, *instance, now, Some(exit), None),
        (Step::Stop { instance, .. }, Outcome::Failed(failing)) => match failing.kind {
            FailureKind::Gone => stop_returned(record, *instance, now, None, None),
            FailureKind::Retry | FailureKind::Final => stop_returned(record, *instance, now, None, Some(failing.reason)),
        },
        (Step::Remove { instance, .. }, Outcome::Failed(failing)) => {
            match failing.kind {
                FailureKind::Gone => {}
                FailureKind::Retry | FailureKind::Final => {
                    record.tried.remove_after.insert(*instance, now.plus(REMOVE_AGAIN));
                }
            }
            Vec::new()
        }
        (Step::Remove { .. }, Outcome::Done | Outcome::Ended(_)) => Vec::new(),
        (Step::Purge { .. }, Outcome::Done | Outcome::Ended(_)) => {
            record.tried.purged = true;
            vec![Happening::new("server.purged", "its data has been deleted", json!({}))]
        }
        (Step::Purge { .. }, Outcome::Failed(failing)) => {
            record.tried.purge_after = Some(now.plus(PURGE_AGAIN));
            record.tried.trouble = Some(trouble(failing, now));
            Vec::new()
        }
        (_, Outcome::Cancelled) => Vec::new(),
    }
}

fn trouble(failing: Failing, now: Timestamp) -> Trouble {
    Trouble { kind: failing.condition, reason: failing.reason, hint: failing.hint, at: now }
}

fn install_failed(server: ServerId, record: &mut Record, failing: Failing, now: Timestamp) -> Vec<Happening> {
    let attempts = record.tried.install_failure.as_ref().map_or(0, |failure| failure.attempts) + 1;
    let retry_at = match failing.kind {
        FailureKind::Retry | FailureKind::Gone if attempts < TRIES_MAX => Some(now.plus(backoff(server, attempts))),
        FailureKind::Retry | FailureKind::Gone | FailureKind::Final => None,
    };
    let data = json!({ "reason": failing.reason, "hint": failing.hint, "retry_at": retry_at });
    let happening = Happening::new("server.install_failed", format!("install failed: {}", failing.reason), data);
    record.tried.install_failure = Some(Failure {
        generation: record.spec.generation,
        kind: failing.condition,
        reason: failing.reason,
        hint: failing.hint,
        at: now,
        retry_at,
        attempts,
    });
    vec![happening]
}

fn started(record: &mut Record, now: Timestamp) -> Vec<Happening> {
    match record.tried.starting.take() {
        Some(instance) => {
            super::seen::becomes_current(record, instance);
            vec![Happening::new(
                "server.started",
                "has started",
                json!({ "instance": instance, "restarts": record.tried.restarts, "at": now }),
            )]
        }
        None => Vec::new(),
    }
}

fn start_failed(server: ServerId, record: &mut Record, failing: Failing, now: Timestamp) -> Vec<Happening> {
    let happening = Happening::new(
        "server.start_failed",
        format!("did not start: {}", failing.reason),
        json!({ "reason": failing.reason, "hint": failing.hint }),
    );
    let mut happenings = vec![happening];
    match failing.kind {
        FailureKind::Final => {
            let (kind, reason, hint) = (failing.condition.clone(), failing.reason.clone(), failing.hint.clone());
            record.tried.trouble = Some(trouble(failing, now));
            happenings.extend(give_up(record, &kind, reason, hint, now));
        }
        FailureKind::Gone => {
            record.tried.installed = None;
            happenings.extend(count_failure(server, record, trouble(failing, now), now));
        }
        FailureKind::Retry => happenings.extend(count_failure(server, record, trouble(failing, now), now)),
    }
    happenings
}

fn stop_returned(
    record: &mut Record,
    instance: manman_common::InstanceId,
    now: Timestamp,
    exit: Option<manman_common::status::ExitRecord>,
    error: Option<String>,
) -> Vec<Happening> {
    let ladder: u64 = record.spec.run.stop.iter().map(|rung| u64::from(rung.wait_seconds)).sum();
    let Some(stopping) = record.tried.stopping.get_mut(&instance) else { return Vec::new() };
    stopping.exit = exit;
    stopping.attempts = stopping.attempts.saturating_add(1);
    let wait = STOP_AGAIN.saturating_mul(stopping.attempts).min(STOP_AGAIN_MAX);
    stopping.retry_at = Some(now.plus(wait));
    let Some(error) = error else { return Vec::new() };
    stopping.error = Some(error.clone());
    let patience = KILL_SHOWS_AFTER
        + match stopping.mode {
            StopMode::Graceful => Duration::from_secs(ladder),
            StopMode::Kill => Duration::ZERO,
        };
    if stopping.stuck || now.since(stopping.since) < patience {
        return Vec::new();
    }
    stopping.stuck = true;
    vec![Happening::new("server.stop_stuck", format!("does not stop: {error}"), json!({ "instance": instance, "reason": error }))]
}
