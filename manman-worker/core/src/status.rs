//! What to say of a server.

use std::collections::BTreeMap;

use manman_common::status::Condition;
use manman_common::{DesiredState, Generation, Phase, ServerStatus, Timestamp};

use crate::plan::Sight;
use crate::{Instance, Mode, Record, Rest, StepKind, run_hash};

/// The condition of a server whose driver could not look.
const BLIND: &str = "Blind";
/// That of every server of a worker whose disk is full.
const FULL: &str = "DiskFull";

pub(crate) fn status(sight: &Sight<'_>, under_way: Option<&StepKind>, last: Option<&ServerStatus>) -> ServerStatus {
    let record = sight.record;
    let tried = &record.tried;
    let phase = phase(sight, under_way);
    let runs_another = |keeper: &Instance| keeper.run_hash != run_hash(&record.spec.run) || sight.restart_is_due(keeper);
    let pending_restart = record.spec.desired == DesiredState::Running && sight.keeper.is_some_and(runs_another);
    let applied = match (sight.keeper, record.spec.desired) {
        (Some(keeper), DesiredState::Running) if pending_restart => keeper.generation,
        (Some(_), DesiredState::Running) => record.spec.generation,
        (Some(keeper), DesiredState::Stopped | DesiredState::Deleted) => keeper.generation.min(record.spec.generation),
        (None, DesiredState::Running) if tried.rest.is_some() => record.spec.generation,
        (None, DesiredState::Running) => Generation::default(),
        (None, DesiredState::Stopped) if phase == Phase::Stopped => record.spec.generation,
        (None, DesiredState::Stopped) => Generation::default(),
        (None, DesiredState::Deleted) if tried.deleted => record.spec.generation,
        (None, DesiredState::Deleted) => Generation::default(),
    };
    let instance = sight.keeper.map(|keeper| keeper.id).or(match under_way {
        Some(StepKind::Start) => tried.starting,
        Some(StepKind::Install { .. } | StepKind::Stop { .. } | StepKind::Remove | StepKind::Purge) | None => None,
    });
    ServerStatus {
        id: sight.server,
        generation: record.spec.generation,
        // What corresponded once does not cease to when the next wish comes.
        applied_generation: last.map_or(applied, |last| last.applied_generation.max(applied)),
        phase,
        pending_restart,
        instance,
        restarts: tried.restarts,
        exit: tried.exit.clone(),
        players: None,
        progress: None,
        backoff_until: (phase == Phase::Backoff).then(|| backoff_until(record)).flatten(),
        usage: None,
        conditions: conditions(sight, phase, last),
        extra: BTreeMap::new(),
    }
}

fn phase(sight: &Sight<'_>, under_way: Option<&StepKind>) -> Phase {
    let tried = &sight.record.tried;
    if let Some(keeper) = sight.keeper {
        // A surplus instance that is being stopped does not make a server that stops.
        let stops_keeper = matches!(under_way, Some(StepKind::Stop { instance, .. }) if *instance == keeper.id);
        return match tried.stopping.get(&keeper.id) {
            Some(stopping) if stopping.stuck => Phase::StopStuck,
            Some(stopping) if stops_keeper || !stopping.typed => Phase::Stopping,
            _ if stops_keeper => Phase::Stopping,
            _ if tried.ready_at.is_none() => Phase::Running,
            _ if tried.unready => Phase::Unready,
            _ => Phase::Ready,
        };
    }
    match under_way {
        Some(StepKind::Install { .. }) => return Phase::Installing,
        Some(StepKind::Start) => return Phase::Starting,
        // Dead already, and how it ended is not told before its stop has returned: who waits for it
        // to have stopped wants to know that, too.
        Some(StepKind::Stop { instance, .. }) if tried.instance == Some(*instance) => return Phase::Stopping,
        Some(StepKind::Stop { .. } | StepKind::Remove | StepKind::Purge) | None => {}
    }
    match sight.record.spec.desired {
        DesiredState::Deleted if tried.deleted => Phase::Deleted,
        DesiredState::Deleted => Phase::Stopped,
        DesiredState::Stopped => match &tried.install_failure {
            Some(failure) if failure.retry_at.is_none() => Phase::Failed,
            Some(_) => Phase::Backoff,
            None if tried.installed.is_none() && tried.exit.is_none() => Phase::Pending,
            None => Phase::Stopped,
        },
        DesiredState::Running => phase_at_rest(sight),
    }
}

fn phase_at_rest(sight: &Sight<'_>) -> Phase {
    let tried = &sight.record.tried;
    if tried.failed.is_some() {
        return Phase::Failed;
    }
    match tried.rest {
        Some(Rest::Completed | Rest::Typed) => return Phase::Stopped,
        Some(Rest::Crashed) => return Phase::Crashed,
        None => {}
    }
    if let Some(failure) = &tried.install_failure {
        return if failure.retry_at.is_none() { Phase::Failed } else { Phase::Backoff };
    }
    if tried.not_before.is_some_and(|not_before| not_before > sight.now) {
        return Phase::Backoff;
    }
    if tried.crashed {
        return Phase::Crashed;
    }
    if tried.exit.is_some() || tried.installed.is_some() { Phase::Stopped } else { Phase::Pending }
}

fn backoff_until(record: &Record) -> Option<Timestamp> {
    let install = record.tried.install_failure.as_ref().and_then(|failure| failure.retry_at);
    install.or(record.tried.not_before)
}

fn conditions(sight: &Sight<'_>, phase: Phase, last: Option<&ServerStatus>) -> Vec<Condition> {
    let tried = &sight.record.tried;
    let mut conditions = tried.conditions.clone();
    let mut add = |kind: &str, message: String, hint: Option<String>, since: Timestamp| {
        conditions.push(Condition { kind: kind.to_owned(), message, hint, since });
    };
    if let Some(failure) = &tried.install_failure {
        add(&failure.kind, failure.reason.clone(), failure.hint.clone(), failure.at);
    }
    match (&tried.failed, &tried.trouble) {
        (Some(failed), _) => add(&failed.kind, failed.reason.clone(), failed.hint.clone(), failed.at),
        (None, Some(trouble)) => add(&trouble.kind, trouble.reason.clone(), trouble.hint.clone(), trouble.at),
        (None, None) => {}
    }
    for (instance, stopping) in &tried.stopping {
        if let Some(error) = &stopping.error {
            add("StopStuck", format!("instance {instance} does not stop: {error}"), None, stopping.since);
        }
    }
    let since = |kind: &str| since_when(kind, last, sight.now);
    if !sight.surplus.is_empty() {
        add("Duplicate", "more than one instance runs; the others are being stopped".to_owned(), None, since("Duplicate"));
    }
    if sight.keeper.is_some_and(|keeper| keeper.degraded) {
        let message = "its shim was killed and the game goes on without: how it ends may stay unknown".to_owned();
        let hint = Some("restart it when nobody plays; the next instance has a shim again".to_owned());
        add("Degraded", message, hint, since("Degraded"));
    }
    let would_start = sight.record.spec.desired == DesiredState::Running && !phase.is_live();
    if sight.mode == Mode::Frozen && would_start {
        let hint = Some("unfreeze the worker to let it start".to_owned());
        add("Frozen", "the worker is frozen, so nothing starts".to_owned(), hint, since("Frozen"));
    }
    let hint = || Some("look at what would change, and confirm it: manman worker rebase WORKER".to_owned());
    let would_stop = sight.record.spec.desired != DesiredState::Running && (phase.is_live() || !sight.dead.is_empty() || !tried.deleted);
    let would_restart = sight.keeper.is_some_and(|keeper| sight.restart_is_due(keeper));
    match sight.mode {
        Mode::Quarantined if would_start || would_stop || would_restart => {
            let message = "the worker's memory is not trusted, so that nothing is started and nothing is stopped".to_owned();
            add("Quarantined", message, hint(), since("Quarantined"));
        }
        Mode::Regressed if sight.is_doubted() && (would_restart || (would_stop && phase != Phase::Stopped)) => {
            let message = "the host went back in time: what it wants to stop, delete or restart is kept as it is".to_owned();
            add("HostRegressed", message, hint(), since("HostRegressed"));
        }
        Mode::Normal | Mode::Frozen | Mode::Draining | Mode::Regressed | Mode::Quarantined => {}
    }
    if would_start && sight.lacks_lease() {
        let message = "it runs only while its host renews its lease, and there is none".to_owned();
        add("NoLease", message, Some("it starts as soon as the host answers".to_owned()), since("NoLease"));
    }
    // Whoever follows a log may have met it first, and said more.
    if !sight.has_room && phase != Phase::Deleted && !conditions.iter().any(|condition| condition.kind == FULL) {
        let message = "the worker's disk is almost full: what runs goes on, and nothing is installed or started".to_owned();
        let hint = "make room on the disk of the worker's data directory; it goes on by itself".to_owned();
        conditions.push(Condition { kind: FULL.to_owned(), message, hint: Some(hint), since: since(FULL) });
    }
    conditions
}

/// A condition that was there before keeps its time.
fn since_when(kind: &str, last: Option<&ServerStatus>, now: Timestamp) -> Timestamp {
    let known = last.and_then(|last| last.conditions.iter().find(|condition| condition.kind == kind));
    known.map_or(now, |condition| condition.since)
}

/// While nobody can look, what was said last is said again, with the reason.
pub(crate) fn blind_status(record: &Record, reason: &str, last: Option<&ServerStatus>, now: Timestamp) -> ServerStatus {
    let mut status = last.cloned().unwrap_or_else(|| unseen(record));
    status.generation = record.spec.generation;
    let since = since_when(BLIND, last, now);
    status.conditions.retain(|condition| condition.kind != BLIND);
    let message = format!("its driver could not look, so this is what was last seen: {reason}");
    status.conditions.push(Condition { kind: BLIND.to_owned(), message, hint: None, since });
    status
}

/// The phase of a record that no driver has been asked about yet.
#[must_use]
pub fn phase_before_first_look(record: &Record) -> Phase {
    if record.tried.deleted { Phase::Deleted } else { Phase::Pending }
}

fn unseen(record: &Record) -> ServerStatus {
    ServerStatus {
        id: record.spec.id,
        generation: record.spec.generation,
        applied_generation: Generation::default(),
        phase: phase_before_first_look(record),
        pending_restart: false,
        instance: None,
        restarts: record.tried.restarts,
        exit: record.tried.exit.clone(),
        players: None,
        progress: None,
        backoff_until: None,
        usage: None,
        conditions: Vec::new(),
        extra: BTreeMap::new(),
    }
}

pub(crate) fn orphan_status(orphan: &Instance, last: Option<&ServerStatus>, now: Timestamp) -> ServerStatus {
    let message = "it runs here, and no wish that this worker knows mentions it; it is left alone".to_owned();
    ServerStatus {
        id: orphan.server,
        generation: orphan.generation,
        applied_generation: orphan.generation,
        phase: Phase::Orphaned,
        pending_restart: false,
        instance: Some(orphan.id),
        restarts: 0,
        exit: None,
        players: None,
        progress: None,
        backoff_until: None,
        usage: None,
        conditions: vec![Condition { kind: "Orphaned".to_owned(), message, hint: None, since: since_when("Orphaned", last, now) }],
        extra: BTreeMap::new(),
    }
}
