//! What must hold, whatever happens.

use std::collections::BTreeMap;

use manman_common::spec::StopMode;
use manman_common::{DesiredState, Phase, ServerId};

use super::worker::Sim;
use crate::backoff::backoff;
use crate::{Mode, Plan, Record, Step, World};

/// Refuses with a sentence.
macro_rules! hold {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err(format!($($sentence)+));
        }
    };
}

pub(super) fn check_plan(sim: &Sim, world: World<'_>, plan: &Plan) -> Result<(), String> {
    for step in &plan.steps {
        check_step(sim, step)?;
    }
    for server in world.observed.keys() {
        let of_server: Vec<&Step> = plan.steps.iter().filter(|step| step.server() == *server).collect();
        hold!(of_server.len() <= 1, "two steps for one server: {of_server:?}");
        check_alone(sim, world, *server, &of_server)?;
    }
    for (server, status) in &plan.statuses {
        if let (Some(last), Some(record)) = (sim.last.get(server), sim.records.get(server)) {
            hold!(status.generation >= last.generation, "the generation shown of {server} went back");
            hold!(status.applied_generation >= last.applied_generation, "the applied generation of {server} went back");
            let gone = status.phase == Phase::Deleted && last.phase != Phase::Deleted;
            let heeded = match sim.mode {
                Mode::Normal | Mode::Frozen | Mode::Draining => true,
                Mode::Regressed => record.is_said_here(),
                Mode::Quarantined => false,
            };
            hold!(!gone || heeded, "{server} is shown as deleted while {:?}", sim.mode);
            hold!(!sim.blind || status.phase == last.phase, "a blind worker changed its word from {:?} to {:?}", last.phase, status.phase);
        }
        hold!(status.applied_generation <= status.generation, "{server} has applied what it does not know");
    }
    for (server, counted) in &sim.counted {
        let failures = sim.failures.get(server).copied().unwrap_or_default();
        hold!(*counted <= failures, "{server} failed {failures} times, and {counted} were counted");
    }
    Ok(())
}

fn check_step(sim: &Sim, step: &Step) -> Result<(), String> {
    let server = step.server();
    hold!(!sim.blind, "blind, it wants {step:?}");
    hold!(!sim.under_way.contains_key(&server), "{step:?} while another step is under way");
    let Some(record) = sim.records.get(&server) else {
        return Err(format!("{step:?} for a server that no record mentions"));
    };
    let live: Vec<_> = sim.machine.live(server).collect();
    hold!(sim.mode != Mode::Quarantined, "quarantined, it wants {step:?}");
    let normal = sim.mode == Mode::Normal;
    let starts = normal || sim.mode == Mode::Regressed;
    // A host that went back in time is not heeded where something could be lost.
    let heeded = sim.mode != Mode::Regressed || record.is_said_here();
    match step {
        Step::Install { .. } => {
            hold!(starts && live.is_empty(), "{step:?} in mode {:?} with {live:?}", sim.mode);
            hold!(heeded || record.tried.installed.is_none(), "{step:?} on the word of a host that went back in time");
        }
        Step::Start { .. } => {
            hold!(starts, "a start while {:?}", sim.mode);
            hold!(!record.is_leased() || sim.leased.contains(&server), "a start without a lease");
            hold!(record.spec.desired == DesiredState::Running, "a start that nobody wants");
            hold!(live.is_empty(), "a start beside {live:?}");
            check_backoff(sim, server, record)?;
        }
        Step::Stop { instance, mode, .. } => {
            let named = live.iter().find(|one| one.id == *instance);
            let Some(named) = named else { return Err(format!("{step:?} of what does not run")) };
            let current = record.tried.instance == Some(*instance);
            let unwanted = record.spec.desired != DesiredState::Running && heeded;
            let restart = named.restart_seq < record.spec.restart_seq && normal;
            let surplus = live.len() > 1 && !current;
            let rule = record.spec.run.hang.is_some() && sim.silent.contains(instance);
            let hung = normal && *mode == StopMode::Kill && rule;
            hold!(unwanted || restart || surplus || hung, "a running game is touched though nobody asked: {step:?}");
        }
        Step::Remove { instance, .. } => {
            hold!(live.iter().all(|one| one.id != *instance), "{step:?} of what runs");
            hold!(heeded || record.spec.desired == DesiredState::Running, "{step:?} on the word of a host that went back in time");
        }
        Step::Purge { .. } => {
            let asked = record.spec.desired == DesiredState::Deleted && record.spec.purge && heeded;
            hold!(asked && sim.machine.of(server).is_empty(), "{step:?} though it is not asked or something is left");
        }
    }
    Ok(())
}

fn check_backoff(sim: &Sim, server: ServerId, record: &Record) -> Result<(), String> {
    let not_before = record.tried.not_before;
    hold!(not_before.is_none_or(|moment| moment <= sim.now), "a start inside the back-off until {not_before:?}");
    // The same without believing the record: after any failure at least the shortest wait has passed.
    if let Some(failed_at) = sim.failed_at.get(&server) {
        let waited = sim.now.since(*failed_at);
        hold!(waited >= backoff(server, 1), "a start {waited:?} after a failure");
    }
    Ok(())
}

/// A server among others has the plan that it has alone, and the same plan if asked again.
fn check_alone(sim: &Sim, world: World<'_>, server: ServerId, of_server: &[&Step]) -> Result<(), String> {
    let observed: BTreeMap<_, _> = world.observed.get(&server).map(|one| (server, one.clone())).into_iter().collect();
    let records: BTreeMap<_, _> = world.records.get(&server).map(|one| (server, one.clone())).into_iter().collect();
    let alone = sim.brain.plan(World { observed: &observed, records: &records, ..world });
    hold!(alone.steps.iter().collect::<Vec<_>>() == of_server, "alone it has {:?}, among others {of_server:?}", alone.steps);
    Ok(())
}

pub(super) fn check_machine(sim: &Sim) -> Result<(), String> {
    for server in sim.records.keys() {
        let live: Vec<_> = sim.machine.live(*server).filter(|one| !sim.machine.intruders.contains(&one.id)).collect();
        hold!(live.len() <= 1, "{} live instances of one server", live.len());
    }
    for server in &sim.machine.purged {
        let asked = sim.records.get(server).is_some_and(|record| record.spec.purge);
        hold!(asked, "data of {server} is gone though nobody asked");
    }
    Ok(())
}

pub(super) fn check_settled(sim: &Sim) -> Result<(), String> {
    for (server, record) in &sim.records {
        let present = sim.machine.of(*server);
        let live = present.iter().filter(|instance| instance.is_live()).count();
        hold!(present.len() == live, "{server} has leftovers: {present:?}");
        let tried = &record.tried;
        let given_up = tried.failed.is_some() || tried.install_failure.as_ref().is_some_and(|failure| failure.retry_at.is_none());
        match record.spec.desired {
            DesiredState::Running => {
                let excused = given_up || tried.rest.is_some();
                hold!(live == 1 || (live == 0 && excused), "{server} should run, and {live} of it do: {record:#?}");
                let current = present.iter().all(|instance| instance.restart_seq >= record.spec.restart_seq);
                hold!(current, "{server} has not been restarted");
                let ready = tried.ready_at.is_some() && record.spec.run.hang.is_some();
                let hung = present.iter().find(|one| Some(one.id) == tried.instance && ready && sim.silent.contains(&one.id));
                hold!(hung.is_none(), "{server} hangs, and is left alone: {hung:?}");
                hold!(live == 1 || !excused || tried.instance.is_none(), "{server} rests and runs");
            }
            DesiredState::Stopped => hold!(live == 0, "{server} should be stopped, and {live} of it run"),
            DesiredState::Deleted => {
                hold!(live == 0 && tried.deleted, "{server} should be deleted: {record:#?}");
                hold!(record.spec.purge == sim.machine.purged.contains(server), "{server}: purge asked {}", record.spec.purge);
            }
        }
        let shown = sim.last.get(server);
        hold!(
            shown.is_some_and(|shown| shown.phase.is_live() == (live == 1) && shown.generation == record.spec.generation),
            "{server} shows {shown:?}"
        );
    }
    Ok(())
}
