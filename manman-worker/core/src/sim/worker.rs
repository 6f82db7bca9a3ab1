//! The worker's shell in the simulation: what `reconcile` is in the worker, without tasks and time.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::spec::{HangRule, RestartPolicy, StopMode};
use manman_common::status::ExitRecord;
use manman_common::{DesiredState, InstanceId, ServerId, ServerSpec, ServerStatus, Timestamp};

use super::brain::Brain;
use super::event::{Change, Event, Fate, How};
use super::fixtures::{instance_id, server_id, spec};
use super::machine::{Effect, Machine};
use super::rules;
use crate::{Failing, FailureKind, InstanceState, LocalChange, Mode, Observation, Outcome, Plan, Record, Sign, Step, StepKind, World};
use crate::{change_here, finish};

const ORPHAN: u128 = 99;

pub(super) struct Sim {
    pub(super) brain: Brain,
    pub(super) now: Timestamp,
    pub(super) mode: Mode,
    pub(super) blind: bool,
    /// Servers with a live lease.
    pub(super) leased: BTreeSet<ServerId>,
    pub(super) machine: Machine,
    /// What the worker has in memory, and what a crash leaves of it.
    pub(super) records: BTreeMap<ServerId, Record>,
    disk: BTreeMap<ServerId, Record>,
    pub(super) under_way: BTreeMap<ServerId, Effect>,
    known: BTreeSet<ServerId>,
    pub(super) last: BTreeMap<ServerId, ServerStatus>,
    late: Vec<Effect>,
    wishes: BTreeMap<ServerId, Vec<ServerSpec>>,
    next_instance: u128,
    /// Ends that nobody asked for and failed starts, against what the worker made of them.
    pub(super) failures: BTreeMap<ServerId, u32>,
    pub(super) counted: BTreeMap<ServerId, u32>,
    /// When the last of them was, unless a newer wish or a set clock has come in between.
    pub(super) failed_at: BTreeMap<ServerId, Timestamp>,
    /// Instances that were ever told to stop: an end of one may be that stop's, however late.
    told: BTreeSet<InstanceId>,
    /// Instances that were Ready once, and those of them that have since been silent for too long.
    ready: BTreeSet<InstanceId>,
    pub(super) silent: BTreeSet<InstanceId>,
}

/// How long a game may be silent that has a hang rule.
const SILENT_SECONDS: u32 = 60;
/// The server that runs only under a lease.
const LEASED: u128 = 3;

impl Sim {
    pub(super) fn new(brain: Brain) -> Self {
        Self {
            brain,
            now: Timestamp::from_micros(1_795_000_000_000_000),
            mode: Mode::Normal,
            blind: false,
            leased: BTreeSet::new(),
            machine: Machine::default(),
            records: BTreeMap::new(),
            disk: BTreeMap::new(),
            under_way: BTreeMap::new(),
            known: BTreeSet::new(),
            last: BTreeMap::new(),
            late: Vec::new(),
            wishes: BTreeMap::new(),
            next_instance: 1000,
            failures: BTreeMap::new(),
            counted: BTreeMap::new(),
            failed_at: BTreeMap::new(),
            told: BTreeSet::new(),
            ready: BTreeSet::new(),
            silent: BTreeSet::new(),
        }
    }

    pub(super) fn happen(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Wish { server, change } => self.wish(server_id(server), server, change)?,
            Event::OldWish { server, age } => {
                let wishes = self.wishes.get(&server_id(server));
                if let Some(old) = wishes.and_then(|wishes| wishes.iter().rev().nth(age).cloned()) {
                    self.offer(old)?;
                }
            }
            Event::Here { server, start } => {
                let change = if start { LocalChange::Start } else { LocalChange::Stop(StopMode::Graceful) };
                if let Some(record) = self.records.get_mut(&server_id(server)).filter(|record| record.spec.desired != DesiredState::Deleted)
                {
                    change_here(record, change);
                    self.failed_at.remove(&server_id(server));
                }
            }
            Event::StepEnds { server, how } => {
                if let Some(effect) = self.under_way.remove(&server_id(server)) {
                    self.step_ends(effect, how);
                }
            }
            Event::WorkerDies { fates } => self.die(fates),
            Event::GameEnds { server, code } => self.game_ends(server_id(server), code),
            Event::Vanishes { server } => {
                let live = self.machine.live(server_id(server)).next().map(|instance| instance.id);
                if let Some(id) = live {
                    self.note_failure(server_id(server), id);
                    self.machine.instances.remove(&id);
                }
            }
            Event::Ready { server } => self.hear_it(server_id(server)),
            Event::Silent { server, was_ready, seconds } => {
                if was_ready {
                    self.hear_it(server_id(server));
                }
                self.hear_nothing(server_id(server), seconds);
            }
            Event::TypedStop { server } => {
                let (brain, now) = (self.brain, self.now);
                if let Some((id, record)) = self.current(server_id(server)) {
                    let _ = brain.signal(record, id, Sign::TypedStop, now);
                    self.machine.end(id, 0, now);
                }
            }
            Event::Intruder { server } => {
                if let Some(record) = self.records.get(&server_id(server)) {
                    let id = instance_id(self.next_instance);
                    self.next_instance += 1;
                    self.machine.put(&record.spec, id, InstanceState::Running { since: self.now });
                    self.machine.intruders.insert(id);
                }
            }
            Event::Orphan => {
                let id = instance_id(ORPHAN);
                self.machine.put(&spec(ORPHAN), id, InstanceState::Running { since: self.now });
            }
            Event::Blind { blind } => self.blind = blind,
            Event::Mode(mode) => self.mode = mode,
            Event::OldEpoch { server } => {
                let last = self.wishes.get(&server_id(server)).and_then(|wishes| wishes.last()).filter(|last| last.epoch > 1);
                if let Some(last) = last {
                    let (epoch, generation) = (last.epoch - 1, last.generation.next());
                    self.offer(ServerSpec { epoch, generation, desired: DesiredState::Running, ..last.clone() })?;
                }
            }
            Event::LeaseRenewed => self.leased = (1..=super::event::SERVERS).map(server_id).collect(),
            Event::LeaseEnds => {
                self.leased.clear();
                let leased: Vec<ServerId> =
                    self.records.values().filter(|record| record.is_leased()).map(|record| record.spec.id).collect();
                leased.into_iter().for_each(|server| self.machine.end_of_lease(server, self.now));
            }
            Event::Time { seconds } => self.now = self.now.plus(std::time::Duration::from_secs(seconds.into())),
            Event::ClockStep { seconds } => {
                self.now = Timestamp::from_micros(self.now.as_micros() + i64::from(seconds) * 1_000_000);
                self.failed_at.clear();
            }
            Event::Lands { which } => {
                if !self.late.is_empty() {
                    let effect = self.late.remove(which % self.late.len());
                    self.lands(&effect);
                }
            }
        }
        self.round().map(drop)
    }

    fn hear_it(&mut self, server: ServerId) {
        let (brain, now) = (self.brain, self.now);
        let Some((id, record)) = self.current(server) else { return };
        let _ = brain.signal(record, id, Sign::Ready, now);
        self.ready.insert(id);
        self.silent.remove(&id);
    }

    fn hear_nothing(&mut self, server: ServerId, seconds: u64) {
        let (brain, now) = (self.brain, self.now);
        let Some((id, record)) = self.current(server) else { return };
        let _ = brain.signal(record, id, Sign::Silent { seconds }, now);
        if self.ready.contains(&id) && seconds >= u64::from(SILENT_SECONDS) {
            self.silent.insert(id);
        }
    }

    /// Silence is told at each look for as long as it lasts. Answers whether it has become news.
    fn hear_again(&mut self) -> bool {
        let before = self.records.clone();
        for server in (1..=super::event::SERVERS).map(server_id) {
            let current = self.current(server).map(|(id, _)| id);
            if current.is_some_and(|id| self.silent.contains(&id)) {
                self.hear_nothing(server, SILENT_SECONDS.into());
            }
        }
        self.records != before
    }

    /// The instance that the worker takes for the server's own, if it lives.
    fn current(&mut self, server: ServerId) -> Option<(InstanceId, &mut Record)> {
        let record = self.records.get_mut(&server)?;
        let id = record.tried.instance?;
        self.machine.instances.get(&id)?.is_live().then_some((id, record))
    }

    fn wish(&mut self, server: ServerId, number: u128, change: Change) -> Result<(), String> {
        let mut next = match self.wishes.get(&server).and_then(|wishes| wishes.last()) {
            Some(last) => ServerSpec { generation: last.generation.next(), ..last.clone() },
            None => {
                let mut first = spec(number);
                first.run.restart = match number % 3 {
                    0 => RestartPolicy::OnFailure,
                    1 => RestartPolicy::Always,
                    _ => RestartPolicy::Never,
                };
                first.lease_seconds = (number == LEASED).then_some(60);
                first.run.hang = (number != 2).then_some(HangRule { silent_seconds: SILENT_SECONDS });
                first
            }
        };
        match change {
            // What is deleted with its data is not given to anybody.
            _ if next.purge => {}
            Change::Away => (next.desired, next.purge, next.epoch) = (DesiredState::Deleted, false, next.epoch + 1),
            Change::Back => (next.desired, next.purge, next.epoch) = (DesiredState::Running, false, next.epoch + 1),
            // What is deleted stays deleted.
            _ if next.desired == DesiredState::Deleted => {}
            Change::Run => (next.desired, next.stop_mode) = (DesiredState::Running, StopMode::Graceful),
            Change::Stop => next.desired = DesiredState::Stopped,
            Change::Kill => (next.desired, next.stop_mode) = (DesiredState::Stopped, StopMode::Kill),
            Change::Restart => next.restart_seq += 1,
            Change::Edit => next.run.argv.push("+set".to_owned()),
            Change::OtherImage => next.run.game_id = "docker:manman/teeworlds".parse().map_err(|error| format!("{error}"))?,
            Change::Delete { purge } => (next.desired, next.purge) = (DesiredState::Deleted, purge),
        }
        self.wishes.entry(server).or_default().push(next.clone());
        self.offer(next)
    }

    fn offer(&mut self, spec: ServerSpec) -> Result<(), String> {
        let (server, before) = (spec.id, self.records.get(&spec.id).map(|record| record.spec.generation));
        let epoch_before = self.records.get(&spec.id).map(|record| record.spec.epoch);
        let outcome = self.brain.offer(&mut self.records, spec);
        let after = self.records.get(&server).map(|record| record.spec.generation);
        if after < before {
            return Err(format!("the generation of {server} went back from {before:?} to {after:?}"));
        }
        if self.records.get(&server).map(|record| record.spec.epoch) < epoch_before {
            return Err(format!("{server} is back in an epoch that is over"));
        }
        if outcome == crate::Offer::Accepted {
            self.failed_at.remove(&server);
        }
        self.disk.clone_from(&self.records);
        Ok(())
    }

    fn game_ends(&mut self, server: ServerId, code: i32) {
        let live = self.machine.live(server).next().map(|instance| instance.id);
        if let Some(id) = live {
            self.note_failure(server, id);
            self.machine.end(id, code, self.now);
        }
    }

    /// An end that may be counted as a crash, and one that must be waited after where it is one.
    fn note_failure(&mut self, server: ServerId, ended: InstanceId) {
        *self.failures.entry(server).or_default() += 1;
        let Some(record) = self.records.get(&server) else { return };
        if self.told.contains(&ended) {
            // Perhaps it only obeyed: then nothing but the back-off on record holds the next start up.
            self.failed_at.remove(&server);
            return;
        }
        let current = record.tried.instance == Some(ended) && !self.under_way.contains_key(&server);
        if current && record.spec.desired == DesiredState::Running && record.tried.stopping.get(&ended).is_none_or(|stopping| stopping.hung)
        {
            self.failed_at.insert(server, self.now);
        }
    }

    fn step_ends(&mut self, effect: Effect, how: How) {
        let server = effect.step.server();
        let failed = |kind| {
            Outcome::Failed(Failing { kind, condition: "Sim".to_owned(), reason: "the simulation wants it so".to_owned(), hint: None })
        };
        let outcome = match how {
            How::Well => {
                self.take_effect(&effect);
                let code = match &effect.step {
                    Step::Stop { mode: StopMode::Graceful, .. } => Some(0),
                    Step::Stop { mode: StopMode::Kill, .. } => Some(137),
                    Step::Install { .. } | Step::Start { .. } | Step::Remove { .. } | Step::Purge { .. } => None,
                };
                match code {
                    Some(_) => Outcome::Ended(ExitRecord { code, at: Some(self.now), ..ExitRecord::default() }),
                    None => Outcome::Done,
                }
            }
            How::ReplyLost => {
                self.take_effect(&effect);
                failed(FailureKind::Retry)
            }
            How::Fails(kind) => failed(kind),
            How::Late => {
                self.late.push(effect.clone());
                failed(FailureKind::Retry)
            }
            How::HalfWay => {
                self.machine.leave_half_way(&effect);
                failed(FailureKind::Retry)
            }
        };
        if matches!((&effect.step, &outcome), (Step::Start { .. }, Outcome::Failed(_))) {
            *self.failures.entry(server).or_default() += 1;
            self.failed_at.insert(server, self.now);
        }
        if let Some(record) = self.records.get_mut(&server) {
            let happenings = finish(record, &effect.step, outcome, self.now);
            self.count(server, &happenings);
        }
    }

    fn take_effect(&mut self, effect: &Effect) {
        let server = effect.step.server();
        let kills = |instance| self.machine.live(server).any(|live| live.id == instance) && self.hung_kill(effect);
        if let Step::Stop { instance, .. } = effect.step
            && kills(instance)
        {
            self.note_failure(server, instance);
        }
        self.machine.take_effect(effect, self.now);
    }

    /// Whether the step ends a game that should run, or should when it was begun: a crash, however it
    /// is brought about.
    fn hung_kill(&self, effect: &Effect) -> bool {
        let runs = |spec: &ServerSpec| spec.desired == DesiredState::Running;
        let wished = runs(&effect.spec) || self.records.get(&effect.step.server()).is_some_and(|record| runs(&record.spec));
        matches!(effect.step, Step::Stop { mode: StopMode::Kill, .. }) && wished
    }

    fn lands(&mut self, effect: &Effect) {
        // A stop whose wish has changed meanwhile may be counted as a crash.
        if let Step::Stop { server, instance, .. } = effect.step
            && self.machine.live(server).any(|live| live.id == instance)
        {
            self.note_failure(server, instance);
        }
        self.machine.take_effect_late(effect, self.now);
    }

    fn count(&mut self, server: ServerId, happenings: &[crate::Happening]) {
        let failures = happenings.iter().filter(|one| matches!(one.kind, "server.backoff" | "server.failed")).count();
        *self.counted.entry(server).or_default() += u32::try_from(failures).unwrap_or(u32::MAX);
    }

    fn die(&mut self, fates: [Fate; super::event::SERVERS as usize]) {
        let under_way = std::mem::take(&mut self.under_way);
        for (effect, fate) in under_way.into_values().zip(fates) {
            match fate {
                Fate::Lost => {}
                Fate::Done => self.take_effect(&effect),
                Fate::Late => self.late.push(effect),
                Fate::HalfWay => self.machine.leave_half_way(&effect),
            }
        }
        self.records.clone_from(&self.disk);
        self.known.clear();
    }

    /// Look, fold, plan, check, commit, act.
    fn round(&mut self) -> Result<Plan, String> {
        let mut servers: BTreeSet<ServerId> = self.records.keys().copied().collect();
        servers.extend(self.machine.instances.values().map(|instance| instance.server));
        let truth: BTreeMap<ServerId, Observation> = servers
            .into_iter()
            .map(|server| {
                let blind = Observation::Unknown { reason: "blind".to_owned() };
                (server, if self.blind { blind } else { Observation::Known(self.machine.of(server)) })
            })
            .collect();
        let observed: BTreeMap<ServerId, Observation> =
            truth.into_iter().map(|(server, observation)| (server, self.brain.understand(observation))).collect();
        for (server, observation) in &observed {
            let (Observation::Known(instances), Some(record)) = (observation, self.records.get_mut(server)) else { continue };
            if self.under_way.contains_key(server) {
                continue;
            }
            let first = self.known.insert(*server);
            let happenings = self.brain.seen(*server, record, instances, self.mode, self.now, first);
            self.count(*server, &happenings);
        }
        let in_flight: BTreeMap<ServerId, StepKind> = self.under_way.iter().map(|(server, effect)| (*server, effect.step.kind())).collect();
        let install_keys: BTreeMap<ServerId, String> =
            self.records.iter().map(|(server, record)| (*server, record.spec.run.game_id.identifier())).collect();
        let world = World {
            now: self.now,
            mode: self.mode,
            records: &self.records,
            observed: &observed,
            in_flight: &in_flight,
            install_keys: &install_keys,
            last: &self.last,
            leased: &self.leased,
            has_room: true,
        };
        let plan = self.brain.plan(world);
        rules::check_plan(self, world, &plan)?;
        for step in &plan.steps {
            let fresh = instance_id(self.next_instance);
            self.next_instance += 1;
            let Some(record) = self.records.get_mut(&step.server()) else { continue };
            let _ = self.brain.begin(record, step, self.now, fresh);
            if let Step::Stop { instance, mode, .. } = step
                && (*mode == StopMode::Graceful || record.spec.desired != DesiredState::Running)
            {
                // What is stopped on a wish may be started again at once.
                self.failed_at.remove(&step.server());
                self.told.insert(*instance);
            }
            let effect = Effect { step: step.clone(), spec: record.spec.clone(), starting: record.tried.starting };
            self.under_way.insert(step.server(), effect);
        }
        for server in &plan.cancel {
            if let (Some(effect), Some(record)) = (self.under_way.remove(server), self.records.get_mut(server)) {
                let _ = finish(record, &effect.step, Outcome::Cancelled, self.now);
            }
        }
        self.disk.clone_from(&self.records);
        self.last.extend(plan.statuses.clone());
        rules::check_machine(self)?;
        Ok(plan)
    }

    /// From here on nothing goes wrong any more; sooner or later nothing is left to do.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        // A stop ladder, a removal, an install and a start for each wish that is left; the rest is slack.
        const ROUNDS_MAX: u32 = 300;
        self.blind = false;
        self.mode = Mode::Normal;
        self.leased = (1..=super::event::SERVERS).map(server_id).collect();
        for effect in std::mem::take(&mut self.late) {
            self.lands(&effect);
        }
        for _ in 0..ROUNDS_MAX {
            let plan = self.round()?;
            let effects: Vec<Effect> = std::mem::take(&mut self.under_way).into_values().collect();
            let idle = effects.is_empty() && plan.cancel.is_empty();
            for effect in effects {
                self.step_ends(effect, How::Well);
            }
            let idle = idle && !self.hear_again();
            match plan.wake_at {
                Some(moment) if idle => self.now = moment,
                None if idle => return rules::check_settled(self),
                Some(_) | None => {}
            }
        }
        Err(format!("it does not settle; under way: {:?}", self.under_way))
    }
}
