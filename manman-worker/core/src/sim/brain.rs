//! The judgement under test: ours, or ours with a bug planted into it.

use std::collections::BTreeMap;

use manman_common::spec::StopMode;
use manman_common::{DesiredState, InstanceId, ServerId, ServerSpec, Timestamp};

use crate::{
    Happening, Hung, Instance, InstanceState, Mode, Observation, Offer, Plan, Record, Sign, Step, World, begin, offer, plan, run_hash,
    seen, signal,
};

/// Mistakes that somebody could make in the planner, each of which must be caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    BlindMeansNothingThere,
    IgnoresBackoff,
    IgnoresStepsUnderWay,
    CountsAnExitTwice,
    TakesOlderGenerations,
    KeepsDuplicates,
    FreshIdForEveryTry,
    LeavesInterruptedStarts,
    RestartsOnAnyChange,
    OneServerAtATime,
    RemovesBeforeStopping,
    StopsOrphans,
    ForgetsToWake,
    TypedStopIsACrash,
    StartsWhileFrozen,
    StopsTheWrongInstance,
    HungIsNoCrash,
    SilenceBeforeReadyIsAHang,
    HungStaysHung,
    KillsWhileFrozen,
    LeavesTheHungAlone,
    ActsWhileQuarantined,
    ObeysARegressedHost,
    DeletesForARegressedHost,
    TakesOlderEpochs,
    StartsWithoutLease,
    LeaseEndIsACrash,
}

pub(super) const BUGS: [Bug; 27] = [
    Bug::BlindMeansNothingThere,
    Bug::IgnoresBackoff,
    Bug::IgnoresStepsUnderWay,
    Bug::CountsAnExitTwice,
    Bug::TakesOlderGenerations,
    Bug::KeepsDuplicates,
    Bug::FreshIdForEveryTry,
    Bug::LeavesInterruptedStarts,
    Bug::RestartsOnAnyChange,
    Bug::OneServerAtATime,
    Bug::RemovesBeforeStopping,
    Bug::StopsOrphans,
    Bug::ForgetsToWake,
    Bug::TypedStopIsACrash,
    Bug::StartsWhileFrozen,
    Bug::StopsTheWrongInstance,
    Bug::HungIsNoCrash,
    Bug::SilenceBeforeReadyIsAHang,
    Bug::HungStaysHung,
    Bug::KillsWhileFrozen,
    Bug::LeavesTheHungAlone,
    Bug::ActsWhileQuarantined,
    Bug::ObeysARegressedHost,
    Bug::DeletesForARegressedHost,
    Bug::TakesOlderEpochs,
    Bug::StartsWithoutLease,
    Bug::LeaseEndIsACrash,
];

#[derive(Clone, Copy)]
pub(super) struct Brain {
    bug: Option<Bug>,
}

impl Brain {
    pub(super) fn sound() -> Self {
        Self { bug: None }
    }

    pub(super) fn with(bug: Bug) -> Self {
        Self { bug: Some(bug) }
    }

    fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(super) fn understand(self, observation: Observation) -> Observation {
        match observation {
            Observation::Unknown { .. } if self.has(Bug::BlindMeansNothingThere) => Observation::Known(Vec::new()),
            other => other,
        }
    }

    pub(super) fn offer(self, records: &mut BTreeMap<ServerId, Record>, spec: ServerSpec) -> Offer {
        if self.has(Bug::TakesOlderGenerations)
            && let Some(record) = records.get_mut(&spec.id)
            && spec.generation < record.spec.generation
        {
            record.spec = spec;
            return Offer::Accepted;
        }
        if self.has(Bug::TakesOlderEpochs)
            && let Some(record) = records.get_mut(&spec.id)
            && spec.generation > record.spec.generation
        {
            record.spec = spec;
            return Offer::Accepted;
        }
        offer(records, spec)
    }

    pub(super) fn seen(
        self,
        server: ServerId,
        record: &mut Record,
        instances: &[Instance],
        mode: Mode,
        now: Timestamp,
        first_look: bool,
    ) -> Vec<Happening> {
        if self.has(Bug::CountsAnExitTwice) {
            let exited = instances.iter().find(|instance| record.tried.counted.contains(&instance.id));
            if let Some(exited) = exited.filter(|_| record.tried.instance.is_none()) {
                record.tried.counted.clear();
                record.tried.instance = Some(exited.id);
            }
        }
        if self.has(Bug::HungIsNoCrash) {
            record.tried.stopping.values_mut().for_each(|stopping| stopping.hung = false);
        }
        let mode = if self.has(Bug::DeletesForARegressedHost) { Mode::Normal } else { mode };
        if self.has(Bug::LeaseEndIsACrash) {
            let mut instances = instances.to_vec();
            for instance in &mut instances {
                if let InstanceState::Exited(exit) = &mut instance.state {
                    exit.reason = None;
                }
            }
            return seen(server, record, &instances, mode, now, first_look);
        }
        seen(server, record, instances, mode, now, first_look)
    }

    pub(super) fn signal(self, record: &mut Record, instance: InstanceId, sign: Sign, now: Timestamp) -> Vec<Happening> {
        if self.has(Bug::TypedStopIsACrash) && sign == Sign::TypedStop {
            return Vec::new();
        }
        if let Sign::Silent { seconds } = sign
            && self.has(Bug::SilenceBeforeReadyIsAHang)
        {
            record.tried.hung = Some(Hung { instance, silent_seconds: seconds });
        }
        let hung = record.tried.hung;
        let happenings = signal(record, instance, sign, now);
        if self.has(Bug::HungStaysHung) {
            record.tried.hung = record.tried.hung.or(hung);
        }
        happenings
    }

    pub(super) fn begin(self, record: &mut Record, step: &Step, now: Timestamp, fresh: InstanceId) -> Vec<Happening> {
        if self.has(Bug::FreshIdForEveryTry) && matches!(step, Step::Start { .. }) {
            record.tried.starting = None;
        }
        begin(record, step, now, fresh)
    }

    pub(super) fn plan(self, world: World<'_>) -> Plan {
        let Some(bug) = self.bug else { return plan(world) };
        match bug {
            Bug::IgnoresBackoff => {
                let mut records = world.records.clone();
                records.values_mut().for_each(|record| record.tried.not_before = None);
                plan(World { records: &records, ..world })
            }
            Bug::IgnoresStepsUnderWay => plan(World { in_flight: &BTreeMap::new(), ..world }),
            Bug::StartsWhileFrozen if world.mode == Mode::Frozen => plan(World { mode: Mode::Normal, ..world }),
            Bug::ActsWhileQuarantined if world.mode == Mode::Quarantined => plan(World { mode: Mode::Normal, ..world }),
            Bug::ObeysARegressedHost if world.mode == Mode::Regressed => plan(World { mode: Mode::Normal, ..world }),
            Bug::StartsWithoutLease => plan(World { leased: &world.records.keys().copied().collect(), ..world }),
            Bug::ForgetsToWake => Plan { wake_at: None, ..plan(world) },
            Bug::OneServerAtATime => {
                let mut plan = plan(world);
                plan.steps.truncate(1);
                plan
            }
            Bug::KeepsDuplicates => edited(world, |step, instances, _| match step {
                Step::Stop { .. } if instances.iter().filter(|instance| instance.is_live()).count() > 1 => None,
                other => Some(other),
            }),
            Bug::LeavesInterruptedStarts => edited(world, |step, instances, _| match step {
                Step::Remove { instance, .. } if instances.iter().any(|one| one.id == instance && one.state == InstanceState::Created) => {
                    None
                }
                other => Some(other),
            }),
            Bug::RemovesBeforeStopping => edited(world, |step, _, record| match step {
                Step::Stop { server, instance, .. } if record.spec.desired == DesiredState::Deleted => {
                    Some(Step::Remove { server, instance })
                }
                other => Some(other),
            }),
            Bug::StopsTheWrongInstance => edited(world, |step, instances, _| match step {
                Step::Stop { server, mode, .. } => {
                    instances.iter().max_by_key(|one| one.id).map(|one| Step::Stop { server, instance: one.id, mode })
                }
                other => Some(other),
            }),
            Bug::RestartsOnAnyChange => {
                let mut plan = plan(world);
                for (server, live) in live(world) {
                    let Some(record) = world.records.get(&server) else { continue };
                    let idle = !world.in_flight.contains_key(&server) && plan.steps.iter().all(|step| step.server() != server);
                    if idle && live.run_hash != run_hash(&record.spec.run) {
                        plan.steps.push(Step::Stop { server, instance: live.id, mode: StopMode::Graceful });
                    }
                }
                plan
            }
            Bug::LeavesTheHungAlone => edited(world, |step, _, record| match step {
                Step::Stop { mode: StopMode::Kill, .. } if record.spec.desired == DesiredState::Running => None,
                other => Some(other),
            }),
            Bug::KillsWhileFrozen => {
                let mut plan = plan(world);
                for (server, live) in live(world) {
                    let Some(record) = world.records.get(&server) else { continue };
                    let hung = record.tried.hung.is_some_and(|hung| hung.instance == live.id) && world.mode == Mode::Frozen;
                    let idle = !world.in_flight.contains_key(&server) && plan.steps.iter().all(|step| step.server() != server);
                    if hung && idle {
                        plan.steps.push(Step::Stop { server, instance: live.id, mode: StopMode::Kill });
                    }
                }
                plan
            }
            Bug::StopsOrphans => {
                let mut plan = plan(world);
                for (server, live) in live(world) {
                    if !world.records.contains_key(&server) && !world.in_flight.contains_key(&server) {
                        plan.steps.push(Step::Stop { server, instance: live.id, mode: StopMode::Graceful });
                    }
                }
                plan
            }
            Bug::BlindMeansNothingThere
            | Bug::CountsAnExitTwice
            | Bug::TakesOlderGenerations
            | Bug::FreshIdForEveryTry
            | Bug::TypedStopIsACrash
            | Bug::HungIsNoCrash
            | Bug::SilenceBeforeReadyIsAHang
            | Bug::HungStaysHung
            | Bug::StartsWhileFrozen
            | Bug::ActsWhileQuarantined
            | Bug::ObeysARegressedHost
            | Bug::DeletesForARegressedHost
            | Bug::TakesOlderEpochs
            | Bug::LeaseEndIsACrash => plan(world),
        }
    }
}

fn instances<'a>(world: World<'a>, server: ServerId) -> &'a [Instance] {
    match world.observed.get(&server) {
        Some(Observation::Known(instances)) => instances,
        Some(Observation::Unknown { .. }) | None => &[],
    }
}

fn live<'a>(world: World<'a>) -> impl Iterator<Item = (ServerId, &'a Instance)> {
    let first = move |server: &ServerId| instances(world, *server).iter().find(|instance| instance.is_live()).map(|live| (*server, live));
    world.observed.keys().filter_map(first)
}

fn edited(world: World<'_>, edit: impl Fn(Step, &[Instance], &Record) -> Option<Step>) -> Plan {
    let mut plan = plan(world);
    let steps = std::mem::take(&mut plan.steps);
    plan.steps = steps
        .into_iter()
        .filter_map(|step| {
            let server = step.server();
            edit(step, instances(world, server), &world.records[&server])
        })
        .collect();
    plan
}
