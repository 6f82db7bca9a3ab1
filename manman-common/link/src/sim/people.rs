//! What people want, and what goes wrong.

use manman_common::link::Call;
use manman_common::session::Quarantine;
use manman_common::spec::RestartPolicy;
use manman_common::{CommandId, DesiredState, Generation, Revision, RunSpec, ServerId, ServerSpec};
use uuid::Uuid;

use super::Bug;
use super::host::Waiting;
use super::machine::Machine;
use super::rows::ServerRow;
use super::world::{Event, World};

const SERVERS_MAX: usize = 3;
/// How long a command waits for its answer.
const COMMAND_TAKES: u64 = 15_000;

impl World {
    pub(super) fn people_begin(&mut self) {
        self.creates(0);
        self.creates(1);
    }

    fn creates(&mut self, worker: usize) {
        let number = u128::from(self.fresh());
        let spec = ServerSpec {
            id: ServerId::from_uuid(Uuid::from_u128(number)),
            name: "s".parse().expect("a sound name"),
            generation: Generation::new(0),
            desired: DesiredState::Running,
            stop_mode: manman_common::spec::StopMode::Graceful,
            restart_seq: 0,
            purge: false,
            epoch: 1,
            lease_seconds: None,
            run: RunSpec { restart: RestartPolicy::Always, ..RunSpec::new("docker:a".parse().expect("a sound game id")) },
        };
        let id = spec.id;
        self.truth.epochs.insert(id, 1);
        self.truth.wished.insert(id, (DesiredState::Running, worker));
        self.host.db.servers.insert(id, ServerRow { spec, worker, revision: Revision::new(0), status: None });
        self.host.db.touch(id);
        self.note(format_args!("a person creates {id} on worker {worker}"));
    }

    pub(super) fn person(&mut self) {
        let again = if self.calm { 2000 } else { 500 + self.rng.below(5000) };
        self.after(again, Event::Person);
        self.host_expires();
        if !self.host.up {
            return;
        }
        if self.calm {
            self.puts_right();
            return;
        }
        // Whoever has put back a backup by hand looks first whether it knows that.
        if self.truth.host_unsure {
            let heard = |row: &super::rows::WorkerRow| row.lifted == Some(self.host.db.timeline) && row.open;
            self.truth.host_unsure = !self.host.seats.iter().all(|seat| seat.sent.is_some()) || !self.host.db.workers.iter().all(heard);
            return;
        }
        let servers: Vec<ServerId> = self.host.db.servers.keys().copied().collect();
        if servers.len() < SERVERS_MAX && self.rng.chance(150) {
            let worker = self.rng.index(2);
            self.creates(worker);
            return;
        }
        if servers.is_empty() {
            return;
        }
        let server = servers[self.rng.index(servers.len())];
        match self.rng.below(12) {
            0..=3 => self.wishes(server, DesiredState::Running),
            4..=6 => self.wishes(server, DesiredState::Stopped),
            7 => self.restarts(server),
            8 => self.commands(server),
            9 => self.moves(server),
            10 => {
                self.commands(server);
                self.fences();
            }
            _ => {
                self.moves(server);
                let worker = self.rng.index(2);
                self.looks_at(worker);
            }
        }
    }

    fn wishes(&mut self, server: ServerId, desired: DesiredState) {
        let Some(row) = self.host.db.servers.get_mut(&server) else { return };
        if row.spec.desired == desired || row.spec.desired == DesiredState::Deleted {
            return;
        }
        row.spec.desired = desired;
        let worker = row.worker;
        self.truth.wished.insert(server, (desired, worker));
        let changed = if desired == DesiredState::Running { &mut self.truth.resumed } else { &mut self.truth.ended };
        changed.insert(server, self.now);
        self.host.db.touch(server);
        self.note(format_args!("a person wants {server} {desired:?}"));
    }

    fn restarts(&mut self, server: ServerId) {
        let Some(row) = self.host.db.servers.get_mut(&server) else { return };
        row.spec.restart_seq += 1;
        self.truth.restarts.insert(server, row.spec.restart_seq);
        self.host.db.touch(server);
        self.note(format_args!("a person restarts {server}"));
    }

    fn commands(&mut self, server: ServerId) {
        let id = CommandId::from_uuid(Uuid::from_u128(u128::from(self.fresh())));
        let Some(worker) = self.host.db.servers.get(&server).map(|row| row.worker) else { return };
        let of_worker = self.machines.iter().filter(|machine| machine.worker == worker);
        let expect_instance = of_worker.flat_map(|machine| machine.live(server)).map(|game| game.instance.id).next();
        let call = Call {
            id,
            method: "POST".to_owned(),
            path: "/save".to_owned(),
            body: serde_json::Value::Null,
            ttl_ms: 10_000,
            expect_instance,
        };
        self.truth.commands.insert(id);
        self.host.waiting.insert(id, Waiting { worker, call, until: self.now + COMMAND_TAKES });
        self.host_calls(id);
    }

    fn moves(&mut self, server: ServerId) {
        if !self.may_move(server) {
            return;
        }
        let Some(row) = self.host.db.servers.get(&server) else { return };
        let (from, epoch) = (row.worker, row.spec.epoch + 1);
        let to = 1 - from;
        if self.host.db.workers[from].fenced {
            // Somebody has said that it is off, and answers for what it does when it comes back.
            self.truth.loose.insert(server);
        }
        self.truth.epochs.insert(server, epoch);
        let desired = row.spec.desired;
        self.truth.wished.insert(server, (desired, to));
        self.host.db.give(server, to, epoch);
        self.note(format_args!("a person moves {server} from worker {from} to worker {to}, epoch {epoch}"));
        if self.rng.chance(700) {
            self.wishes(server, DesiredState::Running);
        }
    }

    /// Says that a machine is off, which it is.
    fn fences(&mut self) {
        let worker = self.rng.index(2);
        let off = self.machines.iter().filter(|machine| machine.worker == worker).all(|machine| !machine.on);
        if !off || self.host.db.workers[worker].fenced {
            return;
        }
        let row = &mut self.host.db.workers[worker];
        row.fenced = true;
        row.open = false;
        row.process = None;
        row.ledger.run_id = None;
        row.ledger.session_epoch = row.ledger.session_epoch.next();
        self.note(format_args!("a person fences worker {worker}"));
    }

    /// Looks at what the worker would do, sees to it that there is one of it, and confirms.
    fn looks_at(&mut self, worker: usize) {
        let row = &self.host.db.workers[worker];
        let needs = row.ledger.quarantine.is_some() || (row.open && row.follows != Some(self.host.db.timeline));
        if !needs || !row.open || self.host.seats[worker].sent.is_none() {
            return;
        }
        let Some(run) = row.process.as_ref().map(|process| process.run_id) else { return };
        let found = self.machines.iter().position(|machine| machine.run.as_ref().is_some_and(|current| current.id == run));
        let Some(machine) = found else { return };
        if row.ledger.quarantine == Some(Quarantine::OtherMachine) || self.machines[machine].is_copy {
            self.is_the_one(machine);
        }
        for other in 0..self.machines.len() {
            if other != machine && self.machines[other].worker == worker && !self.machines[other].scrapped {
                self.scraps(other);
            }
        }
        self.note(format_args!("a person confirms worker {worker} on machine {machine}"));
        self.host_rebases(worker);
    }

    /// It never comes back, nor its disk.
    fn scraps(&mut self, machine: usize) {
        self.power_off(machine);
        let at = &mut self.machines[machine];
        at.scrapped = true;
        at.games.clear();
        at.db.outbox.clear();
        if !at.is_copy {
            self.truth.copied_workers.insert(at.worker);
        }
        self.note(format_args!("machine {machine} is scrapped"));
    }

    fn puts_right(&mut self) {
        for worker in 0..2 {
            self.looks_at(worker);
        }
        // A process whose session another confirmed, under a number that a restored host gave twice,
        // is refused as long as it runs: somebody starts it anew.
        for machine in 0..self.machines.len() {
            if self.machines[machine].run.as_ref().is_some_and(|run| !run.session) && self.rng.chance(50) {
                self.worker_dies(machine);
                self.after(300, Event::WorkerStarts { machine });
            }
        }
        // Both ends forgot a wish, and only the game knows it: who still wants it stopped says so again.
        let linked = |row: &&ServerRow| self.host.seats[row.worker].sent.is_some();
        let known: Vec<(ServerId, Generation)> =
            self.host.db.servers.values().filter(linked).map(|row| (row.spec.id, row.spec.generation)).collect();
        for (server, generation) in known {
            let newer = |machine: &Machine| machine.live(server).any(|game| game.instance.generation > generation);
            if self.machines.iter().any(newer) {
                self.host.db.touch(server);
                let row = &self.host.db.servers[&server];
                self.truth.wished.insert(server, (row.spec.desired, row.worker));
            }
        }
        // What was moved in a life that the host forgot, to a machine that is no more.
        let servers: Vec<ServerId> = self.host.db.servers.keys().copied().collect();
        for server in servers {
            let Some(row) = self.host.db.servers.get(&server) else { continue };
            let newest = self.truth.epochs.get(&server).copied().unwrap_or(0);
            let at_worker = |machine: &&Machine| machine.worker == row.worker && !machine.scrapped;
            let refused = self.machines.iter().filter(at_worker).any(|machine| machine.seen(server) > row.spec.epoch);
            let may_run = |machine: &Machine| {
                let record = machine.db.records.get(&server).filter(|record| record.spec.desired != DesiredState::Deleted);
                record.is_some_and(|record| record.spec.epoch >= machine.seen(server)) && !machine.scrapped
            };
            let nowhere = !self.machines.iter().any(may_run);
            if refused
                && nowhere
                && let Some(row) = self.host.db.servers.get_mut(&server)
            {
                // As every move does: above whatever anybody was told.
                let told = self.machines.iter().filter_map(|machine| machine.db.records.get(&server));
                row.spec.generation = told.fold(row.spec.generation, |highest, record| highest.max(record.spec.generation));
                row.spec.epoch = newest + 1;
                self.truth.epochs.insert(server, newest + 1);
                self.host.db.touch(server);
                // Where only the game knows that it is there, somebody sees it among the orphans.
                self.machines.iter_mut().for_each(|machine| machine.ends(server));
            }
        }
    }

    pub(super) fn heals(&mut self) {
        self.note(format_args!("--- nothing goes wrong from here on"));
        self.calm = true;
        self.crashes = 0;
        self.heal();
        self.host_starts();
        // Of two boxes with one identity a person keeps one.
        for worker in 0..2 {
            let boxes: Vec<usize> =
                (0..self.machines.len()).filter(|box_| self.machines[*box_].worker == worker && !self.machines[*box_].scrapped).collect();
            if boxes.len() > 1 {
                let keep = boxes[self.rng.index(boxes.len())];
                for other in boxes.into_iter().filter(|other| *other != keep) {
                    self.scraps(other);
                }
            }
        }
        for machine in 0..self.machines.len() {
            self.power_on(machine);
            self.worker_starts(machine);
        }
    }

    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let again = 500 + self.rng.below(6000);
        self.after(again, Event::Fault);
        let machine = self.rng.index(self.machines.len());
        match self.rng.below(22) {
            0 | 1 => {
                self.note(format_args!("machine {machine}: the worker is killed"));
                self.worker_dies(machine);
                let back = 200 + self.rng.below(6000);
                self.after(back, Event::WorkerStarts { machine });
            }
            2 | 3 => {
                self.note(format_args!("the host is killed"));
                self.host_dies();
                let back = 200 + self.rng.below(8000);
                self.after(back, Event::HostStarts);
            }
            4..=6 => {
                self.note(format_args!("machine {machine}: cut towards the host"));
                self.net.cut_up.insert(machine);
            }
            7..=9 => {
                self.note(format_args!("machine {machine}: cut from the host"));
                self.net.cut_down.insert(machine);
            }
            10..=13 => {
                self.note(format_args!("the network is whole"));
                self.net.cut_up.clear();
                self.net.cut_down.clear();
            }
            14 => {
                self.note(format_args!("machine {machine}: off"));
                self.power_off(machine);
                let back = 1000 + self.rng.below(25_000);
                self.after(back, Event::PowerOn { machine });
            }
            15 => self.machines[machine].backup = Some(self.machines[machine].db.clone()),
            16 => {
                self.note(format_args!("machine {machine}: its database is put back"));
                self.worker_restored(machine);
            }
            17 if self.rng.chance(300) => {
                self.note(format_args!("machine {machine}: its database is lost"));
                self.worker_blanked(machine);
            }
            // One from before it knew of any worker's machine is no backup of this fleet.
            18 if self.host.db.workers.iter().all(|row| row.ledger.machine.is_some()) => self.host.backup = Some(self.host.db.clone()),
            19 => self.host_restored(),
            20 if self.machines.len() < 4 && self.machines[machine].db.met => {
                let copy = self.machines[machine].copied(["c", "d"][self.machines.len() - 2]);
                self.machines.push(copy);
                let number = self.machines.len() - 1;
                self.note(format_args!("machine {number} is a copy of machine {machine}"));
                self.power_on(number);
            }
            _ => {}
        }
    }

    fn host_restored(&mut self) {
        let Some(backup) = self.host.backup.clone() else { return };
        self.note(format_args!("the host's database is put back"));
        self.host_dies();
        for (server, row) in &backup.servers {
            // A move that nobody remembers, and of which the machine has not heard either.
            let newest = self.truth.epochs.get(server).copied().unwrap_or(0);
            let marked = |machine: &Machine| machine.disk.get(server).is_some_and(|(seen, _)| *seen >= newest);
            if row.spec.epoch < newest && !self.machines.iter().filter(|machine| machine.worker == row.worker).all(marked) {
                self.truth.loose.insert(*server);
            }
        }
        self.host.db = backup;
        self.truth.host_restored = true;
        // The counter beside the database says so, unless that was lost, too.
        self.truth.host_unsure = true;
        for (server, row) in &self.host.db.servers {
            // Of a wish that no worker has heard of either, nothing is left.
            let known = self.machines.iter().filter_map(|machine| machine.db.records.get(server));
            if known.map(|record| record.spec.generation).max() <= Some(row.spec.generation) {
                self.truth.wished.insert(*server, (row.spec.desired, row.worker));
            }
        }
        if self.rng.chance(700) && self.bug != Some(Bug::KeepsItsTimeline) {
            self.renew_timeline();
        }
        let back = 200 + self.rng.below(8000);
        self.after(back, Event::HostStarts);
    }
}
