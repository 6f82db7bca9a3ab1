//! One round of a worker's loop, and what its steps do to the machine.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::link::ToHost;
use manman_common::status::ExitRecord;
use manman_common::{DesiredState, Generation, InstanceId, ServerSpec, Timestamp};
use manman_worker_core::{
    Failing, FailureKind, Instance, InstanceRef, InstanceState, Mode, Observation, Outcome, Plan, Step, World as Sight, begin, finish,
    plan, seen,
};
use uuid::Uuid;

use super::Bug;
use super::machine::Game;
use super::world::World;

impl World {
    /// Look, fold in, plan, write down, do.
    pub(super) fn acts(&mut self, machine: usize) {
        let (now, bug) = (self.stamp(), self.bug);
        let at = &mut self.machines[machine];
        let Some(run) = &mut at.run else { return };
        let first_look = !std::mem::replace(&mut run.looked, true);
        let mode = at.mode(bug);
        let mut observed = BTreeMap::new();
        let mut keys = BTreeMap::new();
        let mut happened = 0;
        for (server, record) in &mut at.db.records {
            let instances: Vec<Instance> =
                at.games.values().filter(|game| game.instance.server == *server).map(|game| game.instance.clone()).collect();
            happened += seen(*server, record, &instances, mode, now, first_look).len();
            observed.insert(*server, Observation::Known(instances));
            keys.insert(*server, "key".to_owned());
        }
        let (nothing, none) = (BTreeMap::new(), BTreeSet::new());
        let Plan { steps, statuses, .. } = plan(Sight {
            now,
            mode,
            records: &at.db.records,
            observed: &observed,
            in_flight: &BTreeMap::new(),
            install_keys: &keys,
            last: &nothing,
            leased: &none,
            has_room: true,
        });
        self.writes_events(machine, happened);
        for step in steps {
            if !self.does(machine, &step, now) {
                return;
            }
        }
        let at = &mut self.machines[machine];
        for status in statuses.values().filter(|status| !status.phase.is_live()) {
            let Some(spec) = at.db.records.get(&status.id).map(|record| &record.spec) else { continue };
            if spec.desired == DesiredState::Stopped {
                let mark = at.disk.entry(spec.id).or_default();
                *mark = (spec.epoch, spec.generation).max(*mark);
            }
        }
        self.says(machine, ToHost::Status { servers: statuses.into_values().collect() });
        self.sends_events(machine);
    }

    fn writes_events(&mut self, machine: usize, count: usize) {
        for _ in 0..count {
            let unique = self.fresh();
            let at = &mut self.machines[machine];
            at.db.event_seq += 1;
            at.db.state_seq += 1;
            at.db.outbox.insert(at.db.event_seq, unique);
            // What a copy has to tell is lost with it, unless it is the one.
            if !at.is_copy {
                self.truth.events.insert(unique, at.worker);
            }
        }
    }

    /// Answers whether the process still lives.
    fn does(&mut self, machine: usize, step: &Step, now: Timestamp) -> bool {
        let fresh = InstanceId::from_uuid(Uuid::from_u128(u128::from(self.fresh())));
        let server = step.server();
        let Some(record) = self.machines[machine].db.records.get_mut(&server) else { return true };
        let happened = begin(record, step, now, fresh).len();
        let (spec, starting) = (record.spec.clone(), record.tried.starting);
        self.writes_events(machine, happened);
        if self.crashes(machine) {
            return false;
        }
        let outcome = self.takes_effect(machine, step, &spec, starting, now);
        if self.crashes(machine) {
            return false;
        }
        let Some(record) = self.machines[machine].db.records.get_mut(&server) else { return true };
        let happened = finish(record, step, outcome, now).len();
        self.writes_events(machine, happened);
        true
    }

    fn takes_effect(&mut self, machine: usize, step: &Step, spec: &ServerSpec, starting: Option<InstanceId>, now: Timestamp) -> Outcome {
        self.check_step(machine, step);
        let (since, bug) = (self.now, self.bug);
        let at = &mut self.machines[machine];
        match step {
            Step::Install { .. } => {}
            Step::Start { server } => {
                let (seen, stopped) = at.disk.get(server).copied().unwrap_or_default();
                let refused = |kind, reason| Outcome::Failed(Failing { kind, condition: "Epoch".to_owned(), reason, hint: None });
                if spec.epoch < seen && bug != Some(Bug::TakesLowerEpochs) {
                    return refused(FailureKind::Final, format!("this world was moved away in epoch {seen}"));
                }
                let is_behind = spec.epoch == seen && spec.generation <= stopped && stopped > Generation::default();
                let host_wants = at.mode(bug) == Mode::Normal
                    && at.run.as_ref().and_then(|run| run.host_at).is_some_and(|host_at| at.db.have >= host_at);
                if is_behind && !host_wants && bug != Some(Bug::ForgetsStops) {
                    return refused(FailureKind::Retry, format!("this world was stopped by generation {stopped}"));
                }
                let keeps = if spec.epoch == seen && !is_behind { stopped } else { Generation::default() };
                at.disk.insert(*server, (spec.epoch, keeps));
                let Some(id) = starting else { return Outcome::Done };
                let instance = Instance {
                    server: *server,
                    id,
                    reference: InstanceRef::Container(String::new()),
                    state: InstanceState::Running { since: now },
                    generation: spec.generation,
                    restart_seq: spec.restart_seq,
                    run_hash: 0,
                    degraded: false,
                };
                at.games.entry(id).or_insert(Game { instance, epoch: spec.epoch, since });
                self.check_epoch(machine, *server, spec.epoch);
            }
            Step::Stop { instance, .. } => {
                if let Some(game) = at.games.get_mut(instance).filter(|game| game.instance.is_live()) {
                    let exit = ExitRecord { code: Some(0), at: Some(now), ..ExitRecord::default() };
                    game.instance.state = InstanceState::Exited(exit.clone());
                    return Outcome::Ended(exit);
                }
            }
            Step::Remove { instance, .. } => {
                at.games.remove(instance);
            }
            Step::Purge { server } => {
                at.disk.remove(server);
            }
        }
        Outcome::Done
    }
}
