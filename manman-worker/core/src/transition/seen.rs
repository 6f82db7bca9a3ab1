//! What the drivers found, folded into a record: ends are counted once, what runs becomes current.

use std::collections::BTreeSet;
use std::time::Duration;

use manman_common::spec::RestartPolicy;
use manman_common::status::ExitRecord;
use manman_common::{DesiredState, InstanceId, ServerId, Timestamp};
use serde_json::json;

use super::count_failure;
use crate::backoff::{BACKOFF_MAX, STEADY_AFTER};
use crate::happening::describe;
use crate::{Happening, Hung, Instance, InstanceState, LEASE_ENDED, Mode, Record, Rest, Trouble, Withdrawn};

/// How long a stop that was typed or withdrawn is believed to be heard: a game that still runs then
/// did not take it for one.
const STOP_HOLDS: Duration = Duration::from_secs(120);

/// Folds a look at the machine into the record. Not to be called for a server with a step under
/// way, nor with a look that began before the server's last step ended: both would take what is
/// half done for what has happened. `first_look` is this worker process's first sight of the server.
#[must_use]
pub fn seen(server: ServerId, record: &mut Record, instances: &[Instance], mode: Mode, now: Timestamp, first_look: bool) -> Vec<Happening> {
    let mut happenings = Vec::new();
    undo_clock_steps(record, now);

    let mut sorted: Vec<&Instance> = instances.iter().collect();
    sorted.sort_by_key(|instance| instance.id);
    for instance in &sorted {
        if let InstanceState::Exited(exit) = &instance.state
            && record.tried.counted.insert(instance.id)
        {
            happenings.extend(ended(server, record, instance.id, exit.clone(), now));
        }
    }
    let present: BTreeSet<InstanceId> = sorted.iter().map(|instance| instance.id).collect();
    if let Some(current) = record.tried.instance.filter(|current| !present.contains(current)) {
        let told = record.tried.stopping.get(&current).and_then(|stopping| stopping.exit.clone());
        let exit = told.unwrap_or_else(|| ExitRecord {
            reason: Some("it vanished and nobody saw its end".to_owned()),
            at: Some(now),
            ..ExitRecord::default()
        });
        happenings.extend(ended(server, record, current, exit, now));
    }
    record.tried.counted.retain(|id| present.contains(id));
    record.tried.stopping.retain(|id, _| present.contains(id));
    record.tried.remove_after.retain(|id, _| present.contains(id));

    if let Some(keeper) = keeper(record, &sorted) {
        let keeper_id = keeper.id;
        if record.tried.starting == Some(keeper_id) {
            record.tried.starting = None;
        }
        let is_new = record.tried.instance != Some(keeper_id);
        if is_new {
            becomes_current(record, keeper_id);
        }
        if is_new || first_look {
            let data = json!({ "instance": keeper_id, "restarts": record.tried.restarts });
            happenings.push(Happening::new("server.adopted", "runs and has been adopted", data));
        }
        if keeper.degraded && record.tried.degraded.replace(keeper_id) != Some(keeper_id) {
            let message = "goes on without its shim, which was killed: how it ends may stay unknown";
            happenings.push(Happening::new("server.degraded", message, json!({ "instance": keeper_id })));
        }
        forget_stops_no_longer_meant(record, keeper_id, keeper.restart_seq, mode, now);
    }
    // A host that is told so forgets the server, so it is not told where its wish is doubted.
    let heeded = match mode {
        Mode::Normal | Mode::Frozen | Mode::Draining => true,
        Mode::Regressed => record.is_said_here(),
        Mode::Quarantined => false,
    };
    if heeded
        && record.spec.desired == DesiredState::Deleted
        && !record.tried.deleted
        && sorted.is_empty()
        && (record.tried.purged || !record.spec.purge)
    {
        record.tried.deleted = true;
        record.tried.exit = None;
        record.tried.trouble = None;
        happenings.push(Happening::new("server.deleted", "has been deleted", json!({ "purged": record.tried.purged })));
    }
    happenings
}

/// Of several live instances the one that stays: the current one, else the oldest, which is the
/// one with the players on it.
pub(crate) fn keeper<'a>(record: &Record, sorted: &[&'a Instance]) -> Option<&'a Instance> {
    let live = || sorted.iter().filter(|instance| instance.is_live());
    live().find(|instance| Some(instance.id) == record.tried.instance).or_else(|| live().min_by_key(|instance| instance.id)).copied()
}

pub(super) fn becomes_current(record: &mut Record, instance: InstanceId) {
    let tried = &mut record.tried;
    tried.instance = Some(instance);
    tried.ready_at = None;
    tried.unready = false;
    tried.hung = None;
    tried.conditions.clear();
    tried.rest = None;
    tried.failed = None;
    tried.deleted = false;
    if std::mem::take(&mut tried.crashed) {
        tried.restarts = tried.restarts.saturating_add(1);
    }
}

fn ended(server: ServerId, record: &mut Record, instance: InstanceId, exit: ExitRecord, now: Timestamp) -> Vec<Happening> {
    let asked = record.tried.stopping.remove(&instance);
    if record.tried.starting == Some(instance) {
        // Its start was interrupted after the game had begun to run: it counts as a run.
        record.tried.starting = None;
        becomes_current(record, instance);
    }
    if record.tried.instance != Some(instance) {
        return Vec::new();
    }
    let tried = &mut record.tried;
    let end = exit.at.unwrap_or(now);
    let steady = tried.ready_at.is_some_and(|ready| end.since(ready) >= STEADY_AFTER);
    if steady {
        tried.crashes = 0;
    }
    if tried.ready_at.is_some() {
        tried.never_ready = 0;
    }
    let was_ready = tried.ready_at.take().is_some();
    tried.instance = None;
    tried.unready = false;
    tried.conditions.clear();
    let hung = tried.hung.take().filter(|_| asked.as_ref().is_some_and(|asked| asked.hung));
    let mut exit = exit;
    if let Some(Hung { silent_seconds, .. }) = hung {
        exit.reason.get_or_insert_with(|| format!("killed after {silent_seconds} s without an answer"));
    }
    let asked = asked.filter(|asked| !asked.hung);
    tried.exit = Some(exit.clone());
    let data = json!({ "instance": instance });

    let withdrawn =
        tried.withdrawn.take().is_some_and(|stop| stop.instance == instance && end.since(stop.at) <= STOP_HOLDS) && hung.is_none();
    let wished = record.spec.desired != DesiredState::Running || asked.is_some();
    if withdrawn && !wished {
        // Neither a crash nor a wish: what was counted before it stays, and so does a back-off.
        return vec![Happening::ended("server.stopped", "has stopped", &exit, data)];
    }
    if wished {
        if record.spec.desired == DesiredState::Running && asked.is_some_and(|asked| asked.typed) {
            tried.rest = Some(Rest::Typed);
        }
        tried.crashes = 0;
        tried.never_ready = 0;
        tried.not_before = None;
        tried.trouble = None;
        return vec![Happening::ended("server.stopped", "has stopped", &exit, data)];
    }
    if exit.reason.as_deref() == Some(LEASE_ENDED) {
        // Nobody's wish and no failure: it comes back as soon as there is a lease again.
        return vec![Happening::ended("server.stopped", "has stopped, since its lease ended", &exit, data)];
    }
    let clean = exit.code == Some(0) && exit.signal.is_none() && !exit.oom && hung.is_none();
    let mut happenings = vec![if clean {
        Happening::ended("server.stopped", "ended by itself", &exit, data)
    } else {
        Happening::ended("server.crashed", "crashed", &exit, data)
    }];
    let comes_back = match record.spec.run.restart {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => !clean,
        RestartPolicy::Never => false,
    };
    if comes_back {
        tried.crashed = true;
        let trouble = Trouble { kind: "Crash".to_owned(), reason: describe(&exit), hint: None, at: now };
        happenings.extend(count_failure(server, record, trouble, now));
        if was_ready {
            // This try was Ready once: it is none of those that never were.
            record.tried.never_ready = 0;
        }
    } else {
        tried.rest = Some(if clean { Rest::Completed } else { Rest::Crashed });
    }
    happenings
}

/// A stop that was begun and whose wish has changed since is no longer a stop: an end is a crash again.
fn forget_stops_no_longer_meant(record: &mut Record, keeper: InstanceId, keeper_restart_seq: u64, mode: Mode, now: Timestamp) {
    let wanted = record.spec.desired == DesiredState::Running && keeper_restart_seq >= record.spec.restart_seq && mode != Mode::Draining;
    let Some(stopping) = record.tried.stopping.get(&keeper) else { return };
    let typed_in_vain = stopping.typed && now.since(stopping.since) > STOP_HOLDS;
    if wanted && !stopping.hung && (!stopping.typed || typed_in_vain) {
        // A drain that was cut short has perhaps typed `quit` already.
        record.tried.withdrawn = (!stopping.typed).then_some(Withdrawn { instance: keeper, at: now });
        record.tried.stopping.remove(&keeper);
    }
}

/// No wait here is longer than the longest back-off; one that is was set by a clock that has since
/// been put back, and would otherwise last as long as the step.
fn undo_clock_steps(record: &mut Record, now: Timestamp) {
    let latest = now.plus(BACKOFF_MAX);
    let tried = &mut record.tried;
    let install_retry = tried.install_failure.as_mut().and_then(|failure| failure.retry_at.as_mut());
    let stops = tried.stopping.values_mut().filter_map(|stopping| stopping.retry_at.as_mut());
    let single = [tried.not_before.as_mut(), tried.purge_after.as_mut(), install_retry];
    for moment in single.into_iter().flatten().chain(stops).chain(tried.remove_after.values_mut()) {
        if *moment > latest {
            *moment = now;
        }
    }
    for stopping in tried.stopping.values_mut() {
        stopping.since = stopping.since.min(now);
    }
}
