//! A machine: a database that outlives the worker's process, games that outlive both, until the
//! machine goes off.

use std::collections::BTreeMap;

use manman_common::link::InventoryItem;
use manman_common::session::{Machine as Identity, Memory};
use manman_common::status::ExitRecord;
use manman_common::{CommandId, Generation, InstanceId, Revision, RunId, ServerId, SessionEpoch};
use manman_worker_core::{Instance, InstanceState, Mode, Record};
use uuid::Uuid;

use super::Bug;
use super::world::{Event, World};
use crate::sync::Sync;
use crate::trust::{Caution, Trust};

#[derive(Clone, Default)]
pub(super) struct WorkerDb {
    pub(super) trust: Trust,
    pub(super) session_epoch: SessionEpoch,
    pub(super) state_seq: u64,
    pub(super) have: Revision,
    pub(super) events_stored: u64,
    pub(super) met: bool,
    pub(super) records: BTreeMap<ServerId, Record>,
    pub(super) outbox: BTreeMap<u64, u64>,
    pub(super) event_seq: u64,
    pub(super) calls: BTreeMap<CommandId, Option<u16>>,
}

#[derive(Clone)]
pub(super) struct Game {
    pub(super) instance: Instance,
    pub(super) epoch: u64,
    pub(super) since: u64,
}

pub(super) struct Machine {
    pub(super) worker: usize,
    pub(super) identity: Identity,
    /// Set up from another's disk, and nobody has said that it may.
    pub(super) is_copy: bool,
    pub(super) on: bool,
    pub(super) scrapped: bool,
    pub(super) boot: u64,
    pub(super) run: Option<Run>,
    pub(super) db: WorkerDb,
    pub(super) backup: Option<WorkerDb>,
    /// It was restored to before a session that the host knows of.
    pub(super) forgot: bool,
    pub(super) games: BTreeMap<InstanceId, Game>,
    /// The highest epoch that each data directory has seen, and the last wish in it that ended a game.
    pub(super) disk: BTreeMap<ServerId, (u64, Generation)>,
}

pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) request: Option<(u64, u64)>,
    pub(super) session: bool,
    pub(super) quiet_until: u64,
    pub(super) next_beat: u64,
    pub(super) conn: Option<u64>,
    pub(super) greeted_at: u64,
    pub(super) welcome: bool,
    /// How far the host's wishes went when it took the last beat.
    pub(super) host_at: Option<Revision>,
    pub(super) sync: Sync,
    pub(super) events_from: Option<u64>,
    pub(super) looked: bool,
}

impl Machine {
    pub(super) fn new(worker: usize, name: &str) -> Self {
        Self {
            worker,
            identity: Identity { hardware: vec![name.to_owned()], software: vec![format!("disk of {worker}")] },
            is_copy: false,
            on: false,
            scrapped: false,
            boot: 0,
            run: None,
            db: WorkerDb::default(),
            backup: None,
            forgot: false,
            games: BTreeMap::new(),
            disk: BTreeMap::new(),
        }
    }

    /// Its disk in another box.
    pub(super) fn copied(&self, name: &str) -> Self {
        Self { is_copy: true, db: self.db.clone(), disk: self.disk.clone(), ..Self::new(self.worker, name) }
    }

    pub(super) fn live(&self, server: ServerId) -> impl Iterator<Item = &Game> {
        self.games.values().filter(move |game| game.instance.server == server && game.instance.is_live())
    }

    /// The highest epoch in which it knows of the server.
    pub(super) fn seen(&self, server: ServerId) -> u64 {
        let record = self.db.records.get(&server).map(|record| record.spec.epoch);
        let disk = self.disk.get(&server).map(|(epoch, _)| *epoch);
        record.max(disk).unwrap_or(0)
    }

    /// By hand, at the machine.
    pub(super) fn ends(&mut self, server: ServerId) {
        for game in self.games.values_mut().filter(|game| game.instance.server == server && game.instance.is_live()) {
            game.instance.state = InstanceState::Exited(ExitRecord::default());
        }
    }

    pub(super) fn mode(&self, bug: Option<Bug>) -> Mode {
        match self.db.trust.caution() {
            Caution::None => Mode::Normal,
            Caution::Regressed if bug == Some(Bug::ObeysARegressedHost) => Mode::Normal,
            Caution::Regressed => Mode::Regressed,
            Caution::Quarantined if bug == Some(Bug::IgnoresQuarantine) => Mode::Normal,
            Caution::Quarantined => Mode::Quarantined,
        }
    }

    pub(super) fn memory(&self) -> Memory {
        Memory {
            resume_token: self.db.trust.resume_token.clone(),
            session_epoch: self.db.session_epoch,
            state_seq: self.db.state_seq,
            have_revision: self.db.have,
            events_stored: self.db.events_stored,
            timeline: self.db.trust.timeline,
            blank: !self.db.met,
            machine: self.db.trust.here.clone(),
        }
    }

    pub(super) fn inventory(&self) -> Vec<InventoryItem> {
        self.db
            .records
            .values()
            .map(|record| InventoryItem {
                server: record.spec.id,
                generation: record.spec.generation,
                phase: manman_worker_core::phase_before_first_look(record),
                instance: record.tried.instance,
                epoch: record.spec.epoch,
            })
            .collect()
    }
}

impl World {
    pub(super) fn worker_starts(&mut self, machine: usize) {
        if !self.machines[machine].on || self.machines[machine].run.is_some() {
            return;
        }
        let id = RunId::from_uuid(Uuid::from_u128(u128::from(self.fresh())));
        let at = &mut self.machines[machine];
        let identity = at.identity.clone();
        at.db.trust.started_on(identity);
        at.db.state_seq += 1;
        at.run = Some(Run {
            id,
            request: None,
            session: false,
            quiet_until: 0,
            next_beat: 0,
            conn: None,
            greeted_at: 0,
            welcome: false,
            host_at: None,
            sync: Sync::new(at.db.have),
            events_from: None,
            looked: false,
        });
        self.after(1, Event::Tick { machine, run: id });
    }

    pub(super) fn worker_dies(&mut self, machine: usize) {
        let Some(run) = self.machines[machine].run.take() else { return };
        if let Some(conn) = run.conn {
            self.close_conn(conn);
        }
    }

    pub(super) fn power_on(&mut self, machine: usize) {
        let at = &mut self.machines[machine];
        if at.on || at.scrapped {
            return;
        }
        at.on = true;
        at.boot += 1;
        self.worker_starts(machine);
    }

    pub(super) fn power_off(&mut self, machine: usize) {
        self.worker_dies(machine);
        let now = self.stamp();
        let at = &mut self.machines[machine];
        at.on = false;
        for game in at.games.values_mut().filter(|game| game.instance.is_live()) {
            let exit = ExitRecord { reason: Some("the machine went off".to_owned()), at: Some(now), ..ExitRecord::default() };
            game.instance.state = InstanceState::Exited(exit);
        }
    }

    /// The process is gone between two steps; what it has written stays.
    pub(super) fn crashes(&mut self, machine: usize) -> bool {
        if !self.rng.chance(self.crashes) {
            return false;
        }
        self.note(format_args!("machine {machine}: the worker is killed between two steps"));
        self.worker_dies(machine);
        self.after(500, Event::WorkerStarts { machine });
        true
    }

    pub(super) fn run_is(&self, machine: usize, run: RunId) -> bool {
        self.machines[machine].run.as_ref().is_some_and(|current| current.id == run)
    }

    /// Its database is put back to what it was.
    pub(super) fn worker_restored(&mut self, machine: usize) {
        let Some(backup) = self.machines[machine].backup.clone() else { return };
        self.worker_dies(machine);
        let worker = self.machines[machine].worker;
        let confirmed = self.truth.confirmed.get(&worker).copied().unwrap_or_default();
        let at = &mut self.machines[machine];
        at.forgot = backup.session_epoch < confirmed && backup.met;
        at.db = backup;
        self.truth.restored_workers.insert(worker);
        self.after(300, Event::WorkerStarts { machine });
    }

    /// Its database is lost; the file beside it still says who it is.
    pub(super) fn worker_blanked(&mut self, machine: usize) {
        self.worker_dies(machine);
        // With a host that forgot a move, too, only the game itself knows where it belongs.
        for record in self.machines[machine].db.records.values() {
            let row = self.host.db.servers.get(&record.spec.id);
            if row.is_none_or(|row| row.spec.epoch < record.spec.epoch) {
                self.truth.loose.insert(record.spec.id);
            }
        }
        let at = &mut self.machines[machine];
        let session_epoch = at.db.session_epoch;
        at.db = WorkerDb { session_epoch, ..WorkerDb::default() };
        at.forgot = false;
        self.truth.restored_workers.insert(at.worker);
        self.after(300, Event::WorkerStarts { machine });
    }

    /// A person at the machine, or the host on a person's word: this box is the worker now.
    pub(super) fn is_the_one(&mut self, machine: usize) {
        let at = &mut self.machines[machine];
        at.is_copy = false;
    }
}
