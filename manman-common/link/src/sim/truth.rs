//! What is really so, which neither end knows, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::session::{Memory, Quarantine};
use manman_common::wire::ProcessIdentity;
use manman_common::{CommandId, DesiredState, Revision, ServerId, SessionEpoch};
use manman_worker_core::{Record, Step};

use super::rows::{HostDb, ServerRow};
use super::world::{UNKNOWN_AFTER, World};
use crate::admission::{Admitted, Current};
use crate::trust::Caution;

/// A wish may be followed that has been overtaken on its way.
const UNDER_WAY: u64 = 5000;
/// The longest that anything sent is under way, with the hold-ups of a network in between.
const LATE: u64 = 15_000;

#[derive(Default)]
pub(super) struct Truth {
    /// When a person last wanted an end of what runs.
    pub(super) ended: BTreeMap<ServerId, u64>,
    /// When they last thought better of it: what is under way may still end it.
    pub(super) resumed: BTreeMap<ServerId, u64>,
    /// How often they have restarted it.
    pub(super) restarts: BTreeMap<ServerId, u64>,
    /// What they want now, and where.
    pub(super) wished: BTreeMap<ServerId, (DesiredState, usize)>,
    /// The highest epoch ever given.
    pub(super) epochs: BTreeMap<ServerId, u64>,
    /// A person said that a machine is off, or restored what knew of a move: old epochs may run.
    pub(super) loose: BTreeSet<ServerId>,
    /// Every event written down, and whose it is.
    pub(super) events: BTreeMap<u64, usize>,
    pub(super) acknowledged: BTreeSet<u64>,
    pub(super) commands: BTreeSet<CommandId>,
    pub(super) effects: BTreeMap<CommandId, u64>,
    pub(super) reported: BTreeSet<CommandId>,
    pub(super) restored_workers: BTreeSet<usize>,
    pub(super) copied_workers: BTreeSet<usize>,
    /// Whose registration came twice before it had spoken.
    pub(super) overtaken: BTreeSet<usize>,
    /// The last registration that the host took from each worker.
    pub(super) requests: BTreeMap<usize, u64>,
    pub(super) host_restored: bool,
    /// It was restored and does not know it yet.
    pub(super) host_unsure: bool,
    /// The newest session in which the host has heard a worker.
    pub(super) confirmed: BTreeMap<usize, SessionEpoch>,
}

impl Truth {
    pub(super) fn person_confirms(&mut self, worker: usize, db: &HostDb, now: u64) {
        for row in db.servers.values().filter(|row| row.worker == worker) {
            self.wished.insert(row.spec.id, (row.spec.desired, worker));
            self.restarts.insert(row.spec.id, row.spec.restart_seq);
        }
        let released = db.releases.keys().filter(|(_, of)| *of == worker).map(|(server, _)| *server);
        for server in released {
            self.ended.insert(server, now);
        }
    }
}

impl World {
    pub(super) fn truth_effect(&mut self, id: CommandId) {
        let count = self.truth.effects.entry(id).or_default();
        *count += 1;
        if *count > 1 {
            self.broken(format!("I3: command {id} took effect twice"));
        }
    }

    /// I1, after every event.
    pub(super) fn check_instances(&mut self) {
        let servers: Vec<ServerId> = self.truth.epochs.keys().copied().collect();
        for server in servers {
            let live: Vec<(usize, u64)> = self
                .machines
                .iter()
                .enumerate()
                .flat_map(|(number, machine)| machine.live(server).map(move |game| (number, game.epoch)))
                .collect();
            let valid = live.iter().filter(|(_, epoch)| Some(epoch) == self.truth.epochs.get(&server)).count();
            if valid > 1 || (live.len() > 1 && !self.truth.loose.contains(&server)) {
                self.broken(format!("I1: {server} runs more than once (machine, epoch): {live:?}"));
            }
        }
    }

    /// I2: what a disk has seen never falls.
    pub(super) fn check_epoch(&mut self, machine: usize, server: ServerId, epoch: u64) {
        let highest = self.highest.entry((machine, server)).or_default();
        if epoch < *highest {
            let highest = *highest;
            self.broken(format!("I2: the epoch of {server} on machine {machine} fell from {highest} to {epoch}"));
        } else {
            *highest = epoch;
        }
    }

    /// I6, rows 11 to 13: who may do what to a game.
    pub(super) fn check_step(&mut self, machine: usize, step: &Step) {
        let at = &self.machines[machine];
        if at.db.trust.caution() == Caution::Quarantined {
            self.broken(format!("row 12: machine {machine} is in quarantine and does {step:?}"));
            return;
        }
        if at.is_copy {
            self.broken(format!("row 13: machine {machine} is a copy, and does {step:?}"));
            return;
        }
        let Step::Stop { server, instance, .. } = step else { return };
        // Who let it run twice has to have one of the two stopped.
        if self.truth.loose.contains(server) {
            return;
        }
        let live = at.games.get(instance).filter(|game| game.instance.is_live());
        let Some((since, restarts)) = live.map(|game| (game.since, game.instance.restart_seq)) else { return };
        if restarts < self.truth.restarts.get(server).copied().unwrap_or(0) {
            return;
        }
        if self.truth.wished.get(server) != Some(&(DesiredState::Running, at.worker)) {
            return;
        }
        let ended = self.truth.ended.get(server).copied();
        let is_late = self.truth.resumed.get(server).is_some_and(|resumed| self.now <= resumed + LATE);
        if !is_late && ended.is_none_or(|ended| since > ended + UNDER_WAY) {
            self.broken(format!("I6: machine {machine} stops {server}, which runs since {since} and was last to end at {ended:?}"));
        }
    }

    /// Rows 12, 13 and 16: a memory that went back is found, and one that did not is not blamed.
    pub(super) fn check_admission(&mut self, machine: usize, process: &ProcessIdentity, memory: &Memory, admitted: &Admitted) {
        let at = &self.machines[machine];
        let worker = at.worker;
        let blamed = matches!(admitted.quarantine, Some(Quarantine::OldToken | Quarantine::StateBehind));
        if at.is_copy {
            self.truth.copied_workers.insert(worker);
        } else if blamed
            && ![&self.truth.restored_workers, &self.truth.copied_workers, &self.truth.overtaken]
                .into_iter()
                .any(|set| set.contains(&worker))
        {
            self.broken(format!("row 16: machine {machine} forgot nothing and is blamed: {:?}", admitted.quarantine));
            return;
        }
        // What an earlier run had asked, and was held up, says nothing of this one's memory.
        if !self.run_is(machine, process.run_id) {
            return;
        }
        let at = &mut self.machines[machine];
        let found = std::mem::take(&mut at.forgot) && !memory.blank && !self.truth.host_restored;
        if found && admitted.quarantine.is_none() {
            self.broken(format!("row 12: the database of machine {machine} went back in time, and nobody saw"));
        }
    }

    pub(super) fn check_rival(&mut self, machine: usize, current: Option<&Current>, process: &ProcessIdentity) {
        let Some(current) = current else { return };
        let other = current.process.as_ref().is_none_or(|old| old.run_id != process.run_id);
        if other && current.linked && current.silent_for < UNKNOWN_AFTER {
            self.broken(format!("row 13: machine {machine} displaces a session that lives"));
        }
    }

    /// Every change up to an acknowledged revision is there.
    pub(super) fn check_stored(&mut self, machine: usize, conn: u64, revision: Revision) {
        let at = &self.machines[machine];
        if !self.host.up || self.host.seats[at.worker].conn != Some(conn) || self.host.seats[at.worker].sent.is_none() {
            return;
        }
        let has = |server: &ServerId| at.db.records.get(server).map(|record: &Record| record.spec.generation);
        let rows = self.host.db.servers.values().filter(|row| row.worker == at.worker && row.revision <= revision);
        // A worker that let go of a server in a later epoch knows better than a host that forgot that.
        let knows_better = |row: &ServerRow| at.db.records.get(&row.spec.id).is_some_and(|record| record.spec.epoch > row.spec.epoch);
        let missing = rows.filter(|row| has(&row.spec.id) < Some(row.spec.generation) && !knows_better(row)).map(|row| row.spec.id).next();
        if let Some(server) = missing {
            self.broken(format!("I7: machine {machine} acknowledges revision {revision} without the spec of {server}"));
        }
    }

    /// I7: what is not yet as it should be, once nothing goes wrong any more.
    pub(super) fn unsettled(&self) -> Option<String> {
        if !self.host.up {
            return Some("the host is down".to_owned());
        }
        for row in self.host.db.servers.values() {
            let spec = &row.spec;
            let mut on = self.machines.iter().enumerate().filter(|(_, machine)| machine.worker == row.worker && machine.on);
            let Some((number, machine)) = on.next() else { return Some(format!("worker {} is off", row.worker)) };
            if machine.db.trust.caution() != Caution::None {
                return Some(format!("machine {number} is at {:?}, by {:?}", machine.db.trust.caution(), machine.db.trust));
            }
            let Some(record) = machine.db.records.get(&spec.id) else { return Some(format!("machine {number} does not know {}", spec.id)) };
            if record.spec != *spec {
                let had = (record.spec.generation, record.spec.epoch, record.spec.desired);
                return Some(format!(
                    "machine {number} has (generation, epoch, wish) {had:?} of {}, not {} {} {:?}",
                    spec.id, spec.generation, spec.epoch, spec.desired
                ));
            }
            let live: Vec<u64> = machine.live(spec.id).map(|game| game.instance.restart_seq).collect();
            let right = match spec.desired {
                DesiredState::Running => live.len() == 1 && live[0] >= spec.restart_seq,
                DesiredState::Stopped => live.is_empty(),
                DesiredState::Deleted => live.is_empty() && record.tried.deleted,
            };
            if !right {
                return Some(format!(
                    "{} should be {:?} on machine {number}, and {} run: {:?}",
                    spec.id,
                    spec.desired,
                    live.len(),
                    record.tried
                ));
            }
        }
        for ((server, worker), release) in &self.host.db.releases {
            let holds =
                |machine: &super::machine::Machine| machine.worker == *worker && machine.on && machine.live(*server).next().is_some();
            if !release.gone && self.machines.iter().any(holds) {
                return Some(format!("worker {worker} still runs {server}, which was moved away"));
            }
        }
        let waiting = self.machines.iter().position(|machine| machine.on && !machine.db.outbox.is_empty());
        waiting.map(|machine| format!("events of machine {machine} have not been sent"))
    }

    /// I3 and I8, at the end.
    pub(super) fn check_end(&mut self) {
        let silent: Vec<CommandId> = self.truth.commands.difference(&self.truth.reported).copied().collect();
        if !silent.is_empty() {
            self.broken(format!("I3: nobody was told of {silent:?}"));
        }
        let mut stored: BTreeMap<u64, usize> = BTreeMap::new();
        for unique in self.host.db.events.values() {
            *stored.entry(*unique).or_default() += 1;
        }
        let events: Vec<(u64, usize)> = self.truth.events.iter().map(|(unique, worker)| (*unique, *worker)).collect();
        for (unique, worker) in events {
            if self.truth.restored_workers.contains(&worker) || self.truth.copied_workers.contains(&worker) {
                continue;
            }
            let excused = self.truth.host_restored && self.truth.acknowledged.contains(&unique);
            match stored.get(&unique) {
                Some(1) => {}
                None if excused => {}
                None => self.broken(format!("I8: event {unique} of worker {worker} is lost")),
                Some(times) => self.broken(format!("I8: event {unique} of worker {worker} is stored {times} times")),
            }
        }
    }
}
