//! The host: its rows outlive it, its seats do not.

use std::collections::BTreeMap;
use std::time::Duration;

use manman_common::error::GoneReason;
use manman_common::link::{Hello, IndexEntry, InventoryItem, ToHost, ToWorker, spec_hash};
use manman_common::session::{Memory, Quarantine};
use manman_common::wire::ProcessIdentity;
use manman_common::{CommandId, DesiredState, Phase, Revision, ServerId, ServerSpec};
use uuid::Uuid;

use super::Bug;
use super::net::{Down, Registered, Up};
use super::rows::{HostDb, Release};
use super::world::{UNKNOWN_AFTER, World, token_hash};
use crate::admission::{Current, Ledger, admit, gone, lifts_itself, may_begin};

/// As in a host that is asked to be quick.
const LIFT_AFTER: Duration = Duration::from_secs(40);

#[derive(Clone, Default)]
pub(super) struct Seat {
    pub(super) conn: Option<u64>,
    pub(super) sent: Option<Revision>,
    pub(super) had_link: bool,
    pub(super) heard: u64,
    pub(super) rival: Option<u64>,
}

/// A command that somebody waits for.
#[derive(Clone)]
pub(super) struct Waiting {
    pub(super) worker: usize,
    pub(super) call: manman_common::link::Call,
    pub(super) until: u64,
}

pub(super) struct Host {
    pub(super) up: bool,
    pub(super) db: HostDb,
    pub(super) backup: Option<HostDb>,
    pub(super) seats: Vec<Seat>,
    pub(super) waiting: BTreeMap<CommandId, Waiting>,
}

impl World {
    pub(super) fn host_hears(&mut self, machine: usize, message: Up) {
        if !self.host.up {
            return;
        }
        let worker = self.machines[machine].worker;
        match message {
            Up::Register { request, process, memory } => {
                let run = process.run_id;
                let answer = self.host_register(machine, request, &process, memory);
                self.send_down(machine, run, Down::Registered { request, answer });
            }
            Up::Beat { request, epoch, state_seq } => {
                let row = &mut self.host.db.workers[worker];
                let answer = match gone(row.open, row.ledger.session_epoch, Some(epoch)) {
                    Some(reason) => Err(reason),
                    None => {
                        row.ledger.resume_before = None;
                        row.ledger.state_seq = row.ledger.state_seq.max(state_seq);
                        self.truth.confirmed.insert(worker, epoch);
                        self.host.seats[worker].heard = self.now;
                        self.host_may_lift(worker);
                        Ok((self.host.db.terms(worker), self.host.db.workers[worker].ledger.desired_revision))
                    }
                };
                if let Some(run) = self.machines[machine].run.as_ref().map(|run| run.id) {
                    self.send_down(machine, run, Down::BeatAnswer { request, answer });
                }
            }
            Up::Dial { conn, hello } => {
                let row = &self.host.db.workers[worker];
                let fits = gone(row.open, row.ledger.session_epoch, Some(hello.session_epoch)).is_none()
                    && row.process.as_ref().is_some_and(|process| process.run_id == hello.run_id);
                if !fits {
                    let frame = ToWorker::Goodbye { reason: GoneReason::Superseded, detail: String::new() };
                    self.send_down(machine, hello.run_id, Down::Frame { conn, frame });
                    return;
                }
                if self.host.seats[worker].conn == Some(conn) {
                    return;
                }
                if let Some(old) = self.host.seats[worker].conn.take() {
                    self.close_conn(old);
                }
                let seat = &mut self.host.seats[worker];
                (seat.conn, seat.had_link, seat.sent) = (Some(conn), true, None);
                self.host_hello(worker, &hello);
                let ids: Vec<CommandId> =
                    self.host.waiting.iter().filter(|(_, waiting)| waiting.worker == worker).map(|(id, _)| *id).collect();
                for id in ids {
                    self.host_calls(id);
                }
            }
            Up::Frame { conn, frame } => {
                if self.host.seats[worker].conn == Some(conn) {
                    self.host_frame(worker, frame);
                }
            }
        }
    }

    fn host_register(&mut self, machine: usize, request: u64, process: &ProcessIdentity, mut memory: Memory) -> Result<Registered, u32> {
        let worker = self.machines[machine].worker;
        let row = &self.host.db.workers[worker];
        let seat = &self.host.seats[worker];
        let silent_for = Duration::from_millis(self.now - seat.heard);
        let current = row.open.then(|| Current {
            process: row.process.clone(),
            linked: seat.conn.is_some(),
            had_link: seat.had_link,
            silent_for,
            process_gone: false,
        });
        if let Err(rival) = may_begin(current.as_ref(), Some(process), UNKNOWN_AFTER)
            && self.bug != Some(Bug::RivalsDisplace)
        {
            self.host.seats[worker].rival = Some(self.now);
            self.note(format_args!("the host refuses machine {machine}, a rival"));
            return Err(rival.retry_after);
        }
        self.check_rival(machine, current.as_ref(), process);
        let db = &self.host.db;
        let row = &db.workers[worker];
        let mut ledger = Ledger { timeline: db.timeline, rebased: row.rebased == Some(db.timeline), ..row.ledger.clone() };
        let told = memory.clone();
        match self.bug {
            Some(Bug::AnyTokenWillDo) => (ledger.resume, ledger.state_seq) = (None, 0),
            Some(Bug::EveryMachineIsWelcome) => memory.machine = None,
            _ => {}
        }
        let shown = memory.resume_token.as_deref().map(token_hash);
        let admitted = match admit(&ledger, Some(&memory), shown, Some(process.run_id)) {
            Ok(admitted) => admitted,
            Err(rival) => return Err(rival.retry_after),
        };
        // It may hold the answer to an earlier copy of this very request, and a restart forgets which.
        if self.truth.requests.insert(worker, request) >= Some(request) {
            self.truth.overtaken.insert(worker);
        }
        self.check_admission(machine, process, &told, &admitted);
        if admitted.host_regressed && self.bug != Some(Bug::KeepsItsTimeline) {
            self.renew_timeline();
        }
        let token = self.fresh();
        let at_home = self.host.db.workers[worker].process.as_ref().is_some_and(|old| old.home == process.home);
        let (timeline, told_timeline) = (self.host.db.timeline, memory.timeline);
        let row = &mut self.host.db.workers[worker];
        row.at_home = if ledger.quarantine.is_none() { at_home } else { row.at_home && at_home };
        row.ledger = Ledger {
            session_epoch: admitted.session_epoch,
            resume: Some(token_hash(&token.to_string())),
            resume_before: (self.bug != Some(Bug::ForgetsLostAnswers)).then_some(admitted.resume_before),
            resume_epoch: admitted.session_epoch,
            run_id: Some(process.run_id),
            machine: told.machine,
            state_seq: memory.state_seq,
            desired_revision: admitted.desired_revision,
            quarantine: admitted.quarantine,
            ..row.ledger.clone()
        };
        row.follows = Some(told_timeline.unwrap_or(timeline));
        row.open = true;
        row.process = Some(process.clone());
        row.fenced = false;
        row.ledger.run_id = Some(process.run_id);
        let (quarantine, epoch) = (row.ledger.quarantine, row.ledger.session_epoch);
        let seat = &mut self.host.seats[worker];
        let old = seat.conn.take();
        *seat = Seat { heard: self.now, rival: seat.rival, ..Seat::default() };
        if let Some(old) = old {
            self.close_conn(old);
        }
        if quarantine.is_some() || memory.blank {
            self.host_gives_up(worker);
        }
        self.note(format_args!(
            "the host begins session {epoch} with machine {machine}, quarantine {quarantine:?}, regressed {}",
            admitted.host_regressed
        ));
        Ok(Registered { session_epoch: epoch, resume_token: token.to_string(), terms: self.host.db.terms(worker) })
    }

    pub(super) fn renew_timeline(&mut self) {
        let timeline = Uuid::from_u128(u128::from(self.fresh()));
        self.host.db.timeline = timeline;
        self.truth.host_unsure = false;
        self.note(format_args!("the host renews its timeline"));
        for worker in 0..self.host.seats.len() {
            self.host.db.workers[worker].open = false;
            self.host.db.workers[worker].process = None;
            if let Some(conn) = self.host.seats[worker].conn.take() {
                self.close_conn(conn);
            }
        }
    }

    fn host_may_lift(&mut self, worker: usize) {
        let row = &self.host.db.workers[worker];
        let Some(cause) = row.ledger.quarantine else { return };
        let quiet = Duration::from_millis(self.now - self.host.seats[worker].rival.unwrap_or(0));
        if lifts_itself(cause, row.at_home, quiet, LIFT_AFTER, false) {
            self.note(format_args!("the host lifts {cause:?} of worker {worker}"));
            self.host.db.workers[worker].ledger.quarantine = None;
        }
    }

    fn host_hello(&mut self, worker: usize, hello: &Hello) {
        let db = &mut self.host.db;
        if hello.session_epoch != db.workers[worker].ledger.session_epoch {
            return;
        }
        db.workers[worker].ledger.resume_before = None;
        self.truth.confirmed.insert(worker, hello.session_epoch);
        // Nobody but this host gives generations and epochs: it has forgotten these.
        let db = &self.host.db;
        let follows = db.workers[worker].follows == Some(db.timeline);
        let forgot = |item: &InventoryItem| {
            let row = db.servers.get(&item.server);
            row.is_some_and(|row| item.epoch > row.spec.epoch || (row.worker == worker && item.generation > row.spec.generation))
        };
        if follows && hello.inventory.iter().any(forgot) && self.bug != Some(Bug::KeepsItsTimeline) {
            self.renew_timeline();
            return;
        }
        let db = &mut self.host.db;
        // Whoever goes with another timeline may have the same generations with another content.
        let row = &db.workers[worker];
        let first = row.lifted != Some(db.timeline) || row.follows != Some(db.timeline);
        for item in &hello.inventory {
            self.host_compares(worker, item, first);
        }
        let db = &mut self.host.db;
        db.workers[worker].lifted = Some(db.timeline);
        let ledger = &db.workers[worker].ledger;
        let (event_seq, revision) = (ledger.event_seq, ledger.desired_revision);
        let servers =
            db.specs(worker).map(|(spec, _)| (spec.id, IndexEntry { generation: spec.generation, hash: spec_hash(spec) })).collect();
        self.host.seats[worker].sent = Some(revision);
        self.host_sends(worker, ToWorker::Welcome { event_seq, heartbeat_seconds: 5 });
        self.host_sends(worker, ToWorker::Index { revision, servers });
    }

    /// What a worker has, held against the tables. A higher epoch or generation is of a life that
    /// this database forgot; a lower epoch is of one that the worker's forgot.
    fn host_compares(&mut self, worker: usize, item: &InventoryItem, first: bool) {
        let bug = self.bug;
        let db = &mut self.host.db;
        let Some(row) = db.servers.get_mut(&item.server) else { return };
        let is_gone = item.phase == Phase::Deleted;
        if row.worker != worker {
            if item.epoch > row.spec.epoch && !is_gone {
                row.spec.generation = row.spec.generation.max(item.generation);
                db.give(item.server, worker, item.epoch);
            } else if item.epoch < row.spec.epoch && !is_gone && db.releases.get(&(item.server, worker)).is_none_or(|release| release.gone)
            {
                let generation = row.spec.generation.max(item.generation).next();
                let spec = ServerSpec { generation, desired: DesiredState::Deleted, ..row.spec.clone() };
                let revision = db.next_revision(worker);
                db.releases.insert((item.server, worker), Release { spec, revision, gone: false });
            }
            return;
        }
        let forgotten = item.generation > row.spec.generation || (first && item.generation == row.spec.generation);
        let forgotten = match bug {
            Some(Bug::LiftsNoGenerations) => false,
            Some(Bug::LiftsOnlyWhatIsAbove) => item.generation > row.spec.generation,
            _ => forgotten,
        };
        if forgotten {
            row.spec.generation = item.generation;
            if !is_gone {
                row.spec.epoch = row.spec.epoch.max(item.epoch);
            }
            db.touch(item.server);
        }
    }

    pub(super) fn host_sends(&mut self, worker: usize, frame: ToWorker) {
        let Some(conn) = self.host.seats[worker].conn else { return };
        let Some((machine, run)) = self.net.conns.get(&conn).map(|conn| (conn.machine, conn.run)) else { return };
        self.send_down(machine, run, Down::Frame { conn, frame });
    }

    /// What has changed since the last that was sent.
    pub(super) fn host_tells(&mut self) {
        if !self.host.up {
            return;
        }
        for worker in 0..self.host.seats.len() {
            let Some(sent) = self.host.seats[worker].sent else { continue };
            let newest = self.host.db.workers[worker].ledger.desired_revision;
            if newest <= sent {
                continue;
            }
            let specs = self.host.db.specs(worker).filter(|(_, revision)| *revision > sent).map(|(spec, _)| spec.clone()).collect();
            self.host.seats[worker].sent = Some(newest);
            self.host_sends(worker, ToWorker::Specs { from_revision: sent, revision: newest, specs });
        }
    }

    fn host_frame(&mut self, worker: usize, frame: ToHost) {
        match frame {
            ToHost::Hello(hello) => self.host_hello(worker, &hello),
            ToHost::Pull { servers } => {
                let Some(sent) = self.host.seats[worker].sent else { return };
                let specs = self.host.db.specs(worker).map(|(spec, _)| spec).filter(|spec| servers.contains(&spec.id)).cloned().collect();
                self.host_sends(worker, ToWorker::Specs { from_revision: sent, revision: sent, specs });
            }
            ToHost::Ack { .. } => {}
            ToHost::Status { servers } => {
                let epoch = self.host.db.workers[worker].ledger.session_epoch;
                for status in servers {
                    let release = self.host.db.releases.get_mut(&(status.id, worker));
                    if let Some(release) = release.filter(|release| release.spec.generation <= status.generation) {
                        release.gone |= status.phase == Phase::Deleted;
                    }
                    let row = self.host.db.servers.get_mut(&status.id);
                    if let Some(row) = row.filter(|row| row.worker == worker && row.spec.generation >= status.generation) {
                        row.status = Some((status.phase, status.generation, epoch));
                    }
                }
            }
            ToHost::Events { events } => {
                for event in events {
                    let unique = event.data.as_u64().unwrap_or(0);
                    self.host.db.events.entry((worker, event.seq)).or_insert(unique);
                    let ledger = &mut self.host.db.workers[worker].ledger;
                    ledger.event_seq = ledger.event_seq.max(event.seq);
                }
                let up_to = self.host.db.workers[worker].ledger.event_seq;
                self.host_sends(worker, ToWorker::EventsStored { up_to });
            }
            ToHost::Reply { id, reply: _ } => {
                if self.host.waiting.remove(&id).is_some() {
                    self.truth.reported.insert(id);
                }
                self.host_sends(worker, ToWorker::RepliesStored { ids: vec![id] });
            }
            ToHost::LogOpened { .. } | ToHost::LogGap { .. } | ToHost::LogEnded { .. } | ToHost::LogChunk { .. } => {}
        }
    }

    pub(super) fn host_calls(&mut self, id: CommandId) {
        let Some(waiting) = self.host.waiting.get(&id).cloned() else { return };
        if waiting.until > self.now {
            self.host_sends(waiting.worker, ToWorker::Call(waiting.call));
        }
    }

    /// What is not answered in time, or can not be any more, is told as that: nobody knows.
    pub(super) fn host_expires(&mut self) {
        let over: Vec<CommandId> = self.host.waiting.iter().filter(|(_, waiting)| waiting.until <= self.now).map(|(id, _)| *id).collect();
        for id in over {
            self.host.waiting.remove(&id);
            self.truth.reported.insert(id);
        }
    }

    fn host_gives_up(&mut self, worker: usize) {
        let ids: Vec<CommandId> = self.host.waiting.iter().filter(|(_, waiting)| waiting.worker == worker).map(|(id, _)| *id).collect();
        for id in ids {
            self.host.waiting.remove(&id);
            self.truth.reported.insert(id);
        }
    }

    pub(super) fn host_notices(&mut self, conn: u64) {
        for seat in &mut self.host.seats {
            if seat.conn == Some(conn) {
                (seat.conn, seat.sent) = (None, None);
            }
        }
    }

    pub(super) fn host_dies(&mut self) {
        if !self.host.up {
            return;
        }
        self.host.up = false;
        for worker in 0..self.host.seats.len() {
            self.host_gives_up(worker);
            if let Some(conn) = self.host.seats[worker].conn.take() {
                self.close_conn(conn);
            }
        }
    }

    pub(super) fn host_starts(&mut self) {
        if self.host.up {
            return;
        }
        self.host.up = true;
        // It distrusts its own sight: nobody is silent yet.
        for seat in &mut self.host.seats {
            *seat = Seat { heard: self.now, rival: Some(self.now), ..Seat::default() };
        }
    }

    /// Whether a server's worker has let go of it, or never can come back with it.
    pub(super) fn may_move(&self, server: ServerId) -> bool {
        let db = &self.host.db;
        let Some(row) = db.servers.get(&server) else { return false };
        if self.bug == Some(Bug::MovesWithoutProof) {
            return true;
        }
        // After a host's restore, somebody not heard of since may have it under an epoch that is forgotten.
        let all_heard = db.workers.iter().all(|worker| worker.fenced || worker.lifted == Some(db.timeline));
        let worker = &db.workers[row.worker];
        let released = worker.open
            && worker.ledger.quarantine.is_none()
            && row.spec.desired == DesiredState::Stopped
            && row.status == Some((Phase::Stopped, row.spec.generation, worker.ledger.session_epoch));
        all_heard && (released || worker.fenced)
    }

    /// A person has looked at what a worker would do, and lets it.
    pub(super) fn host_rebases(&mut self, worker: usize) {
        let row = &mut self.host.db.workers[worker];
        if row.ledger.quarantine.take().is_some_and(|cause| cause == Quarantine::OtherMachine) {
            self.note(format_args!("a person says that worker {worker} is on the right machine"));
        }
        let timeline = self.host.db.timeline;
        let row = &mut self.host.db.workers[worker];
        (row.rebased, row.follows) = (Some(timeline), Some(timeline));
        self.truth.person_confirms(worker, &self.host.db, self.now);
    }
}
