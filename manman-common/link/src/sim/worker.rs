//! A worker on its machine: a database that outlives the process, games that outlive both, until the
//! machine goes off.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::error::GoneReason;
use manman_common::link::{Hello, InventoryItem, Reply, ToHost, ToWorker};
use manman_common::session::{Machine as Identity, Memory};
use manman_common::status::ExitRecord;
use manman_common::wire::{ProcessIdentity, WorkerEvent};
use manman_common::{CommandId, DesiredState, InstanceId, Revision, RunId, ServerId, ServerSpec, SessionEpoch, Timestamp};
use manman_worker_core::{
    Failing, FailureKind, Instance, InstanceRef, InstanceState, Mode, Observation, Offer, Outcome, Plan, Record, Step, World as Sight,
    begin, finish, offer, plan, seen,
};
use uuid::Uuid;

use super::Bug;
use super::net::{Down, Registered, Up};
use super::world::{Event, TICK, World};
use crate::sync::{Next, Sync};
use crate::trust::{Caution, Trust};

const REQUEST_TAKES: u64 = 5000;
const BEATS: u64 = 4000;
/// Whoever was superseded asks again seldom.
const QUIET: u64 = 8000;

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
    event_seq: u64,
    calls: BTreeMap<CommandId, Option<u16>>,
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
    boot: u64,
    pub(super) run: Option<Run>,
    pub(super) db: WorkerDb,
    pub(super) backup: Option<WorkerDb>,
    /// It was restored to before a session that the host knows of.
    pub(super) forgot: bool,
    pub(super) games: BTreeMap<InstanceId, Game>,
    /// The highest epoch that each data directory has seen.
    pub(super) disk: BTreeMap<ServerId, u64>,
}

pub(super) struct Run {
    pub(super) id: RunId,
    request: Option<(u64, u64)>,
    pub(super) session: bool,
    quiet_until: u64,
    next_beat: u64,
    pub(super) conn: Option<u64>,
    greeted_at: u64,
    welcome: bool,
    sync: Sync,
    events_from: Option<u64>,
    looked: bool,
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

    fn mode(&self, bug: Option<Bug>) -> Mode {
        match self.db.trust.caution() {
            Caution::None => Mode::Normal,
            Caution::Regressed if bug == Some(Bug::ObeysARegressedHost) => Mode::Normal,
            Caution::Regressed => Mode::Regressed,
            Caution::Quarantined if bug == Some(Bug::IgnoresQuarantine) => Mode::Normal,
            Caution::Quarantined => Mode::Quarantined,
        }
    }

    fn memory(&self) -> Memory {
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

    fn inventory(&self) -> Vec<InventoryItem> {
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
    fn crashes(&mut self, machine: usize) -> bool {
        if !self.rng.chance(self.crashes) {
            return false;
        }
        self.note(format_args!("machine {machine}: the worker is killed between two steps"));
        self.worker_dies(machine);
        self.after(500, Event::WorkerStarts { machine });
        true
    }

    fn run_is(&self, machine: usize, run: RunId) -> bool {
        self.machines[machine].run.as_ref().is_some_and(|current| current.id == run)
    }

    pub(super) fn tick(&mut self, machine: usize, run: RunId) {
        if !self.run_is(machine, run) {
            return;
        }
        self.after(TICK, Event::Tick { machine, run });
        self.talks(machine);
        self.acts(machine);
    }

    /// Registers, beats, dials, as is due.
    fn talks(&mut self, machine: usize) {
        let (now, fresh) = (self.now, self.fresh());
        let at = &mut self.machines[machine];
        let memory = at.memory();
        let boot_id = format!("{:?} {}", at.identity.hardware, at.boot);
        let Some(run) = &mut at.run else { return };
        if run.request.is_some_and(|(_, sent)| sent + REQUEST_TAKES <= now) {
            run.request = None;
        }
        if run.request.is_none() && !run.session && run.quiet_until <= now {
            run.request = Some((fresh, now));
            let process = ProcessIdentity { run_id: run.id, boot_id, pid: 1, start_ticks: 1, home: "home".to_owned() };
            self.send_up(machine, Up::Register { request: fresh, process, memory });
            return;
        }
        if run.session && run.request.is_none() && run.next_beat <= now {
            run.request = Some((fresh, now));
            run.next_beat = now + BEATS;
            let beat = Up::Beat { request: fresh, epoch: at.db.session_epoch, state_seq: at.db.state_seq };
            self.send_up(machine, beat);
        }
        let Some(run) = &mut self.machines[machine].run else { return };
        if run.conn.is_some() && !run.welcome && run.greeted_at + 8000 <= now {
            let conn = run.conn.take();
            conn.into_iter().for_each(|conn| self.close_conn(conn));
        }
        let Some(run) = &self.machines[machine].run else { return };
        if run.session && run.conn.is_none() {
            let id = run.id;
            let conn = self.open_conn(machine, id);
            let hello = self.greets(machine, Some(conn));
            if let Some(hello) = hello {
                self.send_up(machine, Up::Dial { conn, hello });
            }
        }
    }

    fn greets(&mut self, machine: usize, conn: Option<u64>) -> Option<Hello> {
        let now = self.now;
        let at = &mut self.machines[machine];
        let inventory = at.inventory();
        let run = at.run.as_mut()?;
        if let Some(conn) = conn {
            (run.conn, run.welcome, run.events_from) = (Some(conn), false, None);
        }
        run.greeted_at = now;
        run.sync = Sync::new(at.db.have);
        Some(Hello { session_epoch: at.db.session_epoch, run_id: run.id, boot_id: "boot".to_owned(), have_revision: at.db.have, inventory })
    }

    pub(super) fn worker_hears(&mut self, machine: usize, to: RunId, message: Down) {
        if !self.run_is(machine, to) {
            return;
        }
        let outstanding = self.machines[machine].run.as_ref().and_then(|run| run.request).map(|(request, _)| request);
        match message {
            Down::Registered { request, answer } if Some(request) == outstanding => self.registered(machine, answer),
            Down::BeatAnswer { request, answer } if Some(request) == outstanding => {
                if let Some(run) = &mut self.machines[machine].run {
                    run.request = None;
                }
                match answer {
                    Ok(terms) => {
                        let db = &mut self.machines[machine].db;
                        let before = db.trust.clone();
                        db.trust.told(&terms);
                        if db.trust != before {
                            db.state_seq += 1;
                        }
                        if db.trust.is_of_another_life(&terms) {
                            self.session_ends(machine, GoneReason::Revoked);
                        }
                    }
                    Err(reason) => self.session_ends(machine, reason),
                }
            }
            // Nobody waits for it any more.
            Down::Registered { .. } | Down::BeatAnswer { .. } => {}
            Down::Frame { conn, frame } => {
                if self.machines[machine].run.as_ref().is_some_and(|run| run.conn == Some(conn)) {
                    self.worker_frame(machine, conn, frame);
                }
            }
        }
    }

    fn registered(&mut self, machine: usize, answer: Result<Registered, u32>) {
        if answer.is_ok() && self.crashes(machine) {
            return;
        }
        let now = self.now;
        let at = &mut self.machines[machine];
        let Some(run) = &mut at.run else { return };
        run.request = None;
        match answer {
            Err(retry_after) => run.quiet_until = now + u64::from(retry_after.min(5)) * 1000,
            Ok(Registered { session_epoch, resume_token, terms }) => {
                (run.session, run.next_beat) = (true, 0);
                at.db.trust.welcomed(Some(resume_token), &terms, at.identity.clone());
                at.db.session_epoch = session_epoch;
                at.db.met = true;
                at.db.state_seq += 1;
            }
        }
    }

    fn session_ends(&mut self, machine: usize, reason: GoneReason) {
        let now = self.now;
        let Some(run) = &mut self.machines[machine].run else { return };
        run.session = false;
        run.quiet_until = match reason {
            GoneReason::Revoked | GoneReason::Tombstoned => 0,
            GoneReason::Superseded => now + QUIET,
        };
        if let Some(conn) = run.conn.take() {
            self.close_conn(conn);
        }
    }

    pub(super) fn worker_notices(&mut self, machine: usize, run: RunId, conn: u64) {
        if let Some(run) = self.machines[machine].run.as_mut().filter(|current| current.id == run && current.conn == Some(conn)) {
            run.conn = None;
        }
    }

    fn says(&mut self, machine: usize, frame: ToHost) {
        if let Some(conn) = self.machines[machine].run.as_ref().and_then(|run| run.conn) {
            self.send_up(machine, Up::Frame { conn, frame });
        }
    }

    fn worker_frame(&mut self, machine: usize, conn: u64, frame: ToWorker) {
        match frame {
            ToWorker::Welcome { event_seq, .. } => {
                if let Some(run) = &mut self.machines[machine].run {
                    run.welcome = true;
                }
                self.events_stored(machine, event_seq);
            }
            ToWorker::Index { revision, servers } => {
                let records = &mut self.machines[machine].db.records;
                if self.bug == Some(Bug::AbsentMeansDeleted) {
                    for record in records.values_mut().filter(|record| !servers.contains_key(&record.spec.id)) {
                        record.spec.desired = DesiredState::Deleted;
                    }
                }
                let differs = |id: &ServerId, hash: u64| records.get(id).is_none_or(|record| record.offered_hash != hash);
                let differing = servers.iter().filter(|(id, entry)| differs(id, entry.hash)).map(|(id, _)| *id).collect();
                let Some(run) = &mut self.machines[machine].run else { return };
                let next = run.sync.index(revision, differing);
                self.follows(machine, conn, next);
            }
            ToWorker::Specs { from_revision, revision, specs } => {
                let at = &mut self.machines[machine];
                let Some(run) = &mut at.run else { return };
                let next = if self.bug == Some(Bug::AcknowledgesWhatIsNotThere) {
                    Next::Store { specs, revision: revision.max(at.db.have) }
                } else {
                    run.sync.specs(from_revision, revision, specs)
                };
                self.follows(machine, conn, next);
            }
            ToWorker::EventsStored { up_to } => self.events_stored(machine, up_to),
            ToWorker::RepliesStored { ids } => {
                if self.bug == Some(Bug::ForgetsReplies) {
                    self.machines[machine].db.calls.retain(|id, _| !ids.contains(id));
                }
            }
            ToWorker::Call(call) => self.called(machine, call.id, call.expect_instance),
            ToWorker::LogOpen { .. } | ToWorker::LogCredit { .. } | ToWorker::LogClose { .. } | ToWorker::Goodbye { .. } => {}
        }
    }

    fn follows(&mut self, machine: usize, conn: u64, next: Next) {
        match next {
            Next::Pull(servers) => self.says(machine, ToHost::Pull { servers }),
            Next::Resync => {
                if let Some(hello) = self.greets(machine, None) {
                    self.says(machine, ToHost::Hello(hello));
                }
            }
            Next::Store { specs, revision } => {
                if self.crashes(machine) {
                    return;
                }
                let before = self.machines[machine].db.have;
                for spec in specs {
                    self.takes(machine, spec);
                }
                let at = &mut self.machines[machine];
                at.db.have = revision;
                at.db.state_seq += 1;
                if let Some(run) = &mut at.run {
                    run.sync.stored(revision);
                }
                if revision > before {
                    self.check_stored(machine, conn, revision);
                }
                if self.crashes(machine) {
                    return;
                }
                self.says(machine, ToHost::Ack { revision });
                self.acts(machine);
            }
        }
    }

    fn takes(&mut self, machine: usize, spec: ServerSpec) {
        let bug = self.bug;
        let at = &mut self.machines[machine];
        let (server, epoch, deleted) = (spec.id, spec.epoch, spec.desired == DesiredState::Deleted);
        if bug == Some(Bug::TakesLowerEpochs)
            && let Some(record) = at.db.records.get_mut(&server)
        {
            record.spec.epoch = record.spec.epoch.min(epoch);
        }
        match offer(&mut at.db.records, spec) {
            // What was moved away is marked on the disk before anybody hears that it was let go of.
            Offer::Accepted if deleted && at.disk.get(&server).is_some_and(|seen| *seen < epoch) => {
                at.disk.insert(server, epoch);
            }
            Offer::Accepted | Offer::Unchanged | Offer::Stale | Offer::OwnedHere | Offer::ConflictingSameGeneration => {}
        }
    }

    fn events_stored(&mut self, machine: usize, up_to: u64) {
        let bug = self.bug;
        let at = &mut self.machines[machine];
        let db = &mut at.db;
        if db.event_seq >= up_to {
            let kept = db.outbox.split_off(&(up_to + 1));
            let gone = std::mem::replace(&mut db.outbox, kept);
            self.truth.acknowledged.extend(gone.into_values());
        } else if bug != Some(Bug::KeepsItsNumbers) {
            db.outbox = std::mem::take(&mut db.outbox).into_iter().map(|(seq, event)| (seq + up_to, event)).collect();
            db.event_seq += up_to;
        }
        db.events_stored = up_to;
        db.state_seq += 1;
        if let Some(run) = &mut at.run {
            run.events_from = Some(up_to);
        }
        self.sends_events(machine);
    }

    fn sends_events(&mut self, machine: usize) {
        let at = &mut self.machines[machine];
        let Some(run) = &mut at.run else { return };
        let Some(from) = run.events_from else { return };
        let event = |(seq, unique): (&u64, &u64)| WorkerEvent {
            seq: *seq,
            at: Timestamp::EPOCH,
            kind: "server.started".to_owned(),
            server_id: None,
            message: String::new(),
            data: (*unique).into(),
        };
        let events: Vec<WorkerEvent> = at.db.outbox.range(from + 1..).take(3).map(event).collect();
        if events.is_empty() {
            return;
        }
        run.events_from = None;
        if self.bug == Some(Bug::ForgetsEventsUnderWay) {
            at.db.outbox.retain(|seq, _| events.iter().all(|event| event.seq != *seq));
        }
        self.says(machine, ToHost::Events { events });
    }

    fn called(&mut self, machine: usize, id: CommandId, expect: Option<InstanceId>) {
        let at = &mut self.machines[machine];
        let status = match at.db.calls.get(&id) {
            Some(Some(status)) => *status,
            // Cut off by a crash: nobody can tell what it did.
            Some(None) => 504,
            None if at.db.trust.caution() == Caution::Quarantined => 409,
            None => {
                at.db.calls.insert(id, None);
                at.db.state_seq += 1;
                if self.crashes(machine) {
                    return;
                }
                let games = &self.machines[machine].games;
                let hits = expect.is_some_and(|expect| games.get(&expect).is_some_and(|game| game.instance.is_live()));
                if hits {
                    self.truth_effect(id);
                }
                if self.crashes(machine) {
                    return;
                }
                let db = &mut self.machines[machine].db;
                let status = if hits { 200 } else { 409 };
                db.calls.insert(id, Some(status));
                db.state_seq += 1;
                status
            }
        };
        self.says(machine, ToHost::Reply { id, reply: Reply { status, body: serde_json::Value::Null } });
    }

    /// One round of the worker's loop: look, fold in, plan, write down, do.
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
                let seen = at.disk.get(server).copied().unwrap_or(0);
                if spec.epoch < seen && bug != Some(Bug::TakesLowerEpochs) {
                    let reason = format!("this world was moved away in epoch {seen}");
                    return Outcome::Failed(Failing { kind: FailureKind::Final, condition: "Epoch".to_owned(), reason, hint: None });
                }
                at.disk.insert(*server, spec.epoch);
                let Some(id) = starting else { return Outcome::Done };
                let instance = Instance {
                    server: *server,
                    id,
                    reference: InstanceRef::Container(String::new()),
                    state: InstanceState::Running { since: now },
                    generation: spec.generation,
                    restart_seq: spec.restart_seq,
                    run_hash: 0,
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

    /// Its database is put back to what it was.
    pub(super) fn worker_restored(&mut self, machine: usize) {
        let Some(backup) = self.machines[machine].backup.clone() else { return };
        self.worker_dies(machine);
        let worker = self.machines[machine].worker;
        let confirmed = self.truth.confirmed.get(&worker).copied().unwrap_or_default();
        let at = &mut self.machines[machine];
        at.forgot = backup.session_epoch < confirmed && backup.met;
        for (server, record) in &backup.records {
            let newest = self.truth.epochs.get(server).copied().unwrap_or(0);
            if record.spec.epoch < newest && at.disk.get(server).is_none_or(|seen| *seen < newest) {
                self.truth.loose.insert(*server);
            }
        }
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
