//! The only place that decides what to do.
//!
//! Invariants, held by the simulator: while a driver is blind nothing is done to its servers; a
//! server has at most one step under way and at most one live instance; nothing starts inside a
//! back-off, nor without the lease that it needs; a host that has gone back in time destroys nothing;
//! a worker whose own memory has does nothing; a running game is never touched because its spec changed; one that hangs is killed by
//! its rule alone, and never while frozen; what no record mentions is never touched at all; each
//! server alone has the same plan as among others.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::spec::StopMode;
use manman_common::{DesiredState, ServerId, ServerStatus, Timestamp};

use crate::status::{blind_status, orphan_status, status};
use crate::transition::keeper;
use crate::{Instance, Mode, Observation, Record, Step, StepKind, World};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// At most one per server, and none for a server with a step under way.
    pub steps: Vec<Step>,
    /// Servers whose step under way stands in the way of a newer wish.
    pub cancel: BTreeSet<ServerId>,
    /// One per server that was looked at.
    pub statuses: BTreeMap<ServerId, ServerStatus>,
    /// When to plan again though nothing has changed.
    pub wake_at: Option<Timestamp>,
}

#[must_use]
pub fn plan(world: World<'_>) -> Plan {
    let mut plan = Plan::default();
    for (server, observation) in world.observed {
        let last = world.last.get(server);
        match (world.records.get(server), observation) {
            (Some(record), Observation::Known(instances)) => {
                let sight = Sight::new(&world, *server, record, instances);
                let decision = sight.decide();
                let under_way = decision.step.as_ref().map(Step::kind);
                let under_way = under_way.as_ref().or(sight.in_flight);
                plan.statuses.insert(*server, status(&sight, under_way, last));
                plan.steps.extend(decision.step);
                if decision.cancel {
                    plan.cancel.insert(*server);
                }
                plan.wake_at = earlier(plan.wake_at, decision.wake_at);
            }
            (Some(record), Observation::Unknown { reason }) => {
                plan.statuses.insert(*server, blind_status(record, reason, last, world.now));
            }
            (None, Observation::Known(instances)) => {
                if let Some(orphan) = instances.iter().filter(|instance| instance.is_live()).min_by_key(|instance| instance.id) {
                    plan.statuses.insert(*server, orphan_status(orphan, last, world.now));
                }
            }
            (None, Observation::Unknown { .. }) => {
                plan.statuses.extend(last.map(|last| (*server, last.clone())));
            }
        }
    }
    plan
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// One server as the plan sees it.
pub(crate) struct Sight<'a> {
    pub(crate) now: Timestamp,
    pub(crate) mode: Mode,
    pub(crate) server: ServerId,
    pub(crate) record: &'a Record,
    /// The live instance that stays.
    pub(crate) keeper: Option<&'a Instance>,
    /// Further live instances, which go.
    pub(crate) surplus: Vec<&'a Instance>,
    pub(crate) dead: Vec<&'a Instance>,
    pub(crate) in_flight: Option<&'a StepKind>,
    install_key: Option<&'a String>,
    has_lease: bool,
    pub(crate) has_room: bool,
}

#[derive(Default)]
struct Decision {
    step: Option<Step>,
    wake_at: Option<Timestamp>,
    cancel: bool,
}

impl Decision {
    fn step(step: Step) -> Self {
        Self { step: Some(step), ..Self::default() }
    }

    fn wait_until(moment: Timestamp) -> Self {
        Self { wake_at: Some(moment), ..Self::default() }
    }
}

impl<'a> Sight<'a> {
    fn new(world: &World<'a>, server: ServerId, record: &'a Record, instances: &'a [Instance]) -> Self {
        let mut sorted: Vec<&Instance> = instances.iter().collect();
        sorted.sort_by_key(|instance| instance.id);
        let keeper = keeper(record, &sorted);
        let surplus = |instance: &&Instance| instance.is_live() && Some(instance.id) != keeper.map(|keeper| keeper.id);
        Self {
            now: world.now,
            mode: world.mode,
            server,
            record,
            keeper,
            surplus: sorted.iter().copied().filter(surplus).collect(),
            dead: sorted.iter().copied().filter(|instance| !instance.is_live()).collect(),
            in_flight: world.in_flight.get(&server),
            install_key: world.install_keys.get(&server),
            has_lease: !record.is_leased() || world.leased.contains(&server),
            has_room: world.has_room,
        }
    }

    fn decide(&self) -> Decision {
        // Not even cancelled: a stop that has been begun is worse half done.
        if self.mode == Mode::Quarantined {
            return Decision::default();
        }
        if let Some(kind) = self.in_flight {
            return Decision { cancel: self.stands_in_the_way(kind), ..Decision::default() };
        }
        let decision = match (self.surplus.first(), self.keeper) {
            (Some(surplus), _) => self.stop(surplus, StopMode::Graceful),
            (None, Some(keeper)) => self.decide_live(keeper),
            (None, None) => self.decide_dead(),
        };
        match decision.step {
            Some(_) => decision,
            None => Decision { wake_at: earlier(decision.wake_at, self.next_removal()), ..decision },
        }
    }

    fn decide_live(&self, keeper: &Instance) -> Decision {
        match (self.mode, self.record.spec.desired) {
            (_, DesiredState::Stopped | DesiredState::Deleted) if self.is_doubted() || self.is_outdated_by(keeper) => Decision::default(),
            (_, DesiredState::Stopped | DesiredState::Deleted) => self.stop(keeper, self.record.spec.stop_mode),
            (_, DesiredState::Running) if self.record.tried.held => self.stop(keeper, StopMode::Graceful),
            (Mode::Draining, DesiredState::Running) => self.stop(keeper, StopMode::Graceful),
            // While frozen, or where the disk has no room, it would not come back, and may yet answer again.
            (Mode::Normal, DesiredState::Running) if self.has_room && self.restart_is_due(keeper) => self.stop(keeper, StopMode::Graceful),
            (Mode::Normal, DesiredState::Running) if self.has_room && self.is_hung(keeper) => self.stop(keeper, StopMode::Kill),
            (Mode::Normal | Mode::Frozen | Mode::Regressed | Mode::Quarantined, DesiredState::Running) => {
                self.clear_away().unwrap_or_default()
            }
        }
    }

    fn decide_dead(&self) -> Decision {
        if self.is_doubted() && self.record.spec.desired == DesiredState::Deleted {
            return Decision::default();
        }
        // What ended is evidence as long as nothing is to be started in its place.
        let removal = if self.is_doubted() && self.record.spec.desired == DesiredState::Stopped { None } else { self.clear_away() };
        if let Some(removal) = removal {
            return removal;
        }
        match self.record.spec.desired {
            DesiredState::Deleted if !self.dead.is_empty() => Decision::default(),
            // Nor purged: whoever holds it still reads or writes there.
            _ if self.record.tried.held => Decision::default(),
            DesiredState::Running | DesiredState::Stopped => {
                if let Some(decision) = self.install() {
                    return decision;
                }
                if self.record.spec.desired == DesiredState::Running { self.start() } else { Decision::default() }
            }
            DesiredState::Deleted => self.purge(),
        }
    }

    /// A restart asked for while frozen waits: the game would not come back.
    pub(crate) fn restart_is_due(&self, keeper: &Instance) -> bool {
        keeper.restart_seq < self.record.spec.restart_seq
    }

    /// The wish may be an old one, of a host that has gone back in time: nothing is destroyed by it.
    pub(crate) fn is_doubted(&self) -> bool {
        self.mode == Mode::Regressed && !self.record.is_said_here()
    }

    /// The instance was started by a later wish than the record holds: the database went back in time,
    /// and what it remembers of the host ends no game. The host says the wish again.
    fn is_outdated_by(&self, keeper: &Instance) -> bool {
        self.mode != Mode::Draining && keeper.generation > self.record.spec.generation && !self.record.is_said_here()
    }

    /// It would start, were there a lease.
    pub(crate) fn lacks_lease(&self) -> bool {
        !self.has_lease
    }

    fn is_hung(&self, keeper: &Instance) -> bool {
        self.record.spec.run.hang.is_some() && self.record.tried.hung.is_some_and(|hung| hung.instance == keeper.id)
    }

    fn stop(&self, instance: &Instance, mode: StopMode) -> Decision {
        let stopping = self.record.tried.stopping.get(&instance.id);
        let harder = stopping.is_some_and(|stopping| stopping.mode == StopMode::Graceful && mode == StopMode::Kill);
        match stopping.and_then(|stopping| stopping.retry_at) {
            Some(retry_at) if retry_at > self.now && !harder => Decision::wait_until(retry_at),
            Some(_) | None => Decision::step(Step::Stop { server: self.server, instance: instance.id, mode }),
        }
    }

    /// Removes what is dead. One that can not be removed does not keep the next from starting.
    fn clear_away(&self) -> Option<Decision> {
        let due = |instance: &&&Instance| self.removal_after(instance).is_none_or(|after| after <= self.now);
        let instance = self.dead.iter().find(due)?;
        Some(Decision::step(Step::Remove { server: self.server, instance: instance.id }))
    }

    fn next_removal(&self) -> Option<Timestamp> {
        self.dead.iter().filter_map(|instance| self.removal_after(instance)).filter(|after| *after > self.now).min()
    }

    fn removal_after(&self, instance: &Instance) -> Option<Timestamp> {
        self.record.tried.remove_after.get(&instance.id).copied()
    }

    /// What has to be done before a start, if anything has.
    fn install(&self) -> Option<Decision> {
        let key = self.install_key.cloned().unwrap_or_default();
        if self.record.tried.installed.as_ref() == Some(&key) {
            return None;
        }
        let anew = self.record.tried.installed.is_some();
        if !self.mode.starts() || !self.has_room || (anew && self.is_doubted()) {
            return Some(Decision::default());
        }
        Some(match &self.record.tried.install_failure {
            Some(failure) => match failure.retry_at {
                None => Decision::default(),
                Some(retry_at) if retry_at > self.now => Decision::wait_until(retry_at),
                Some(_) => Decision::step(Step::Install { server: self.server, key }),
            },
            None => Decision::step(Step::Install { server: self.server, key }),
        })
    }

    fn start(&self) -> Decision {
        let tried = &self.record.tried;
        if !self.mode.starts() || !self.has_room || self.lacks_lease() || tried.failed.is_some() || tried.rest.is_some() {
            return Decision::default();
        }
        match tried.not_before {
            Some(not_before) if not_before > self.now => Decision::wait_until(not_before),
            Some(_) | None => Decision::step(Step::Start { server: self.server }),
        }
    }

    fn purge(&self) -> Decision {
        if !self.record.spec.purge || self.record.tried.purged || self.record.tried.deleted {
            return Decision::default();
        }
        match self.record.tried.purge_after {
            Some(after) if after > self.now => Decision::wait_until(after),
            Some(_) | None => Decision::step(Step::Purge { server: self.server }),
        }
    }

    fn stands_in_the_way(&self, kind: &StepKind) -> bool {
        let unwanted = self.record.spec.desired == DesiredState::Deleted || self.mode == Mode::Draining;
        match kind {
            StepKind::Install { key } => unwanted || self.install_key.is_some_and(|wanted| wanted != key),
            // A person who kills does not wait for the ladder.
            StepKind::Stop { mode: StopMode::Graceful, .. } => {
                let killed = self.record.spec.desired != DesiredState::Running && self.record.spec.stop_mode == StopMode::Kill;
                killed && !self.is_doubted()
            }
            // These are short, and half done is worse than done and undone.
            StepKind::Stop { mode: StopMode::Kill, .. } | StepKind::Start | StepKind::Remove | StepKind::Purge => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use manman_common::Generation;

    use super::*;
    use crate::sim::fixtures::{instance_id, spec};
    use crate::{InstanceRef, InstanceState, LocalChange, change_here, offer, run_hash};

    fn steps(record: &Record, instance: &Instance, mode: Mode) -> Vec<Step> {
        let server = record.spec.id;
        let world = World {
            now: Timestamp::from_micros(1),
            mode,
            records: &BTreeMap::from([(server, record.clone())]),
            observed: &BTreeMap::from([(server, Observation::Known(vec![instance.clone()]))]),
            in_flight: &BTreeMap::new(),
            install_keys: &BTreeMap::new(),
            last: &BTreeMap::new(),
            leased: &BTreeSet::new(),
            has_room: true,
        };
        plan(world).steps
    }

    #[test]
    fn a_wish_of_yesterday_ends_no_game_that_a_later_one_began() {
        let mut records = BTreeMap::new();
        let mut wish = spec(1);
        (wish.desired, wish.generation) = (DesiredState::Stopped, Generation::new(3));
        let _ = offer(&mut records, wish.clone());
        let record = records.get_mut(&wish.id).expect("just offered");
        let at = |generation| Instance {
            server: wish.id,
            id: instance_id(7),
            reference: InstanceRef::Container("7".to_owned()),
            state: InstanceState::Running { since: Timestamp::from_micros(1) },
            generation: Generation::new(generation),
            restart_seq: 0,
            run_hash: run_hash(&wish.run),
            degraded: false,
        };
        assert_eq!(steps(record, &at(3), Mode::Normal).len(), 1, "an ordinary stop");
        assert_eq!(steps(record, &at(4), Mode::Normal), [], "the record is older than the game");
        assert_eq!(steps(record, &at(4), Mode::Draining).len(), 1, "a person at the machine stops everything");
        change_here(record, LocalChange::Start);
        change_here(record, LocalChange::Stop(StopMode::Graceful));
        assert_eq!(steps(record, &at(4), Mode::Normal).len(), 1, "and this one alone");
    }
}
