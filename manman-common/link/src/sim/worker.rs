//! A worker's side of the link: it registers, beats, dials, keeps what it is told, and answers.

use manman_common::error::GoneReason;
use manman_common::link::{Hello, Reply, ToHost, ToWorker};
use manman_common::wire::{ProcessIdentity, WorkerEvent};
use manman_common::{CommandId, DesiredState, InstanceId, RunId, ServerId, ServerSpec, Timestamp};
use manman_worker_core::{Offer, offer};

use super::Bug;
use super::net::{Down, Registered, Up};
use super::world::{Event, TICK, World};
use crate::sync::{Next, Sync};
use crate::trust::Caution;

const REQUEST_TAKES: u64 = 5000;
const BEATS: u64 = 4000;
/// Whoever was superseded asks again seldom.
const QUIET: u64 = 8000;

impl World {
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
                    Ok((terms, host_at)) => {
                        let knows_all = self.machines[machine].db.have >= host_at;
                        let at = &mut self.machines[machine];
                        if let Some(run) = &mut at.run {
                            run.host_at = Some(host_at);
                        }
                        let db = &mut at.db;
                        let before = db.trust.clone();
                        db.trust.told(&terms, knows_all);
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

    pub(super) fn says(&mut self, machine: usize, frame: ToHost) {
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
            ToWorker::Goodbye { reason, .. } => self.session_ends(machine, reason),
            ToWorker::LogOpen { .. } | ToWorker::LogCredit { .. } | ToWorker::LogClose { .. } => {}
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
        let mark = (epoch, spec.generation);
        if bug == Some(Bug::TakesLowerEpochs)
            && let Some(record) = at.db.records.get_mut(&server)
        {
            record.spec.epoch = record.spec.epoch.min(epoch);
        }
        match offer(&mut at.db.records, spec) {
            // What was moved away is marked on the disk before anybody hears that it was let go of.
            Offer::Accepted if deleted && at.disk.get(&server).is_some_and(|seen| *seen < mark) => {
                at.disk.insert(server, mark);
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

    pub(super) fn sends_events(&mut self, machine: usize) {
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
}
