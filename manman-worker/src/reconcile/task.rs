//! The select loop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use manman_common::spec::StopStep;
use manman_common::{Generation, InstallMethod, InstanceId, Revision, ServerId, Timestamp};
use manman_worker_core::{Happening, Mode, Observation, Outcome, Record, Sign, Step, StepKind, finish, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinHandle, JoinSet};

use super::clock::LoopClock;
use super::execute::Aside;
use super::handle::{Answer, REQUESTS_MAX, ReconcileHandle, Request};
use super::observe::Look;
use super::publish::Publisher;
use super::signals::{Observed, Signal, SignalReceiver, Supervision};
use crate::driver::{Driver, Lease};
use crate::standing::Standing;
use crate::store::{Commit, NewEvent, Store, StoreError};

/// Between two looks that nothing asks for.
const SCAN_EVERY: Duration = Duration::from_secs(30);
/// Before a commit that failed is tried again.
const COMMIT_AGAIN: Duration = Duration::from_secs(3);
/// Words of steps under way; progress beyond that is dropped.
const ASIDES_MAX: usize = 256;
/// Signals folded before their result is shown: one publication for a burst.
const SIGNALS_AT_ONCE: usize = 256;
/// Events that may wait for a disk that takes none; steps wait with them, so there are few.
const EVENTS_WAITING_MAX: usize = 10_000;

/// What the loop is made of.
pub struct Parts {
    pub store: Store,
    pub drivers: Vec<Arc<dyn Driver>>,
    pub supervision: Arc<dyn Supervision>,
    /// The receiving end of what the supervision was given.
    pub signals: SignalReceiver,
    pub clock: LoopClock,
    /// Whether the disk is full.
    pub full: watch::Receiver<bool>,
}

pub struct Reconciler {
    pub(super) store: Store,
    pub(super) drivers: Arc<BTreeMap<InstallMethod, Arc<dyn Driver>>>,
    pub(super) supervision: Arc<dyn Supervision>,
    pub(super) clock: LoopClock,
    pub(super) full: watch::Receiver<bool>,
    pub(super) standing: Standing,
    /// When the last beat that the host acknowledged in this run was sent, since the boot.
    pub(super) beat_sent: Option<Duration>,
    /// How far the host's wishes went when it acknowledged that beat.
    pub(super) host_at: Revision,
    /// What was last said of each server's lease.
    pub(super) leases_told: BTreeMap<ServerId, Option<Lease>>,
    pub(super) records: BTreeMap<ServerId, Record>,
    pub(super) revision: Revision,
    pub(super) publisher: Publisher,
    /// What each server's driver found last.
    pub(super) observed: BTreeMap<ServerId, Observation>,
    pub(super) in_flight: BTreeMap<ServerId, StepKind>,
    pub(super) steps: JoinSet<(Step, Outcome)>,
    pub(super) running: BTreeMap<ServerId, (AbortHandle, Step)>,
    pub(super) looks: JoinSet<Look>,
    /// Looks under way, and whether another is due when they end.
    pub(super) looking: BTreeMap<InstallMethod, bool>,
    /// Counts what the loop does, so that a look can be told to be older than a step's end.
    pub(super) tick: u64,
    pub(super) touched: BTreeMap<ServerId, u64>,
    /// Servers seen by this process before.
    pub(super) known: BTreeSet<ServerId>,
    pub(super) watched: BTreeMap<InstanceId, (ServerId, InstallMethod)>,
    /// Seen by this driver, and mentioned by no record.
    pub(super) orphans: BTreeMap<ServerId, InstallMethod>,
    /// Servers whose data has been told by this run that they do not run here, and by which wish.
    pub(super) let_go: BTreeMap<ServerId, Generation>,
    /// Those of which that could not be said, so many times.
    pub(super) not_let_go: BTreeMap<ServerId, u32>,
    pub(super) wake_at: BTreeMap<InstallMethod, Timestamp>,
    /// Changed in memory and not yet on the disk.
    pub(super) dirty: BTreeSet<ServerId>,
    pub(super) events: Vec<NewEvent>,
    pub(super) commit_again: bool,
    pub(super) asides: mpsc::Sender<Aside>,
    pub(super) draining: Vec<(bool, Answer<()>)>,
    /// A drain that takes the servers along is under way.
    pub(super) stops_all: bool,
    pub(super) ending: bool,
}

impl Reconciler {
    /// Loads what is stored and starts the loop. It ends with the last handle; aborting its task
    /// at any point is what a SIGKILL is, and harms nothing.
    pub async fn spawn(parts: Parts) -> Result<(ReconcileHandle, JoinHandle<()>), StoreError> {
        let Parts { store, drivers, supervision, signals, clock, full } = parts;
        let loaded = store.load().await?;
        for row in &loaded.unreadable {
            tracing::error!(row, "a row of the worker's database could not be read and is left alone");
        }
        let drivers: Arc<BTreeMap<_, _>> = Arc::new(drivers.into_iter().map(|driver| (driver.method(), driver)).collect());
        let (asides, aside_receiver) = mpsc::channel(ASIDES_MAX);
        let (requests, request_receiver) = mpsc::channel(REQUESTS_MAX);
        let publisher = Publisher::new(loaded.statuses);
        let handle = ReconcileHandle { requests, statuses: publisher.subscribe(), drivers: drivers.clone() };
        let reconciler = Self {
            store,
            drivers,
            supervision,
            clock,
            full,
            standing: Standing::of(&loaded.meta),
            beat_sent: None,
            host_at: Revision::default(),
            leases_told: BTreeMap::new(),
            records: loaded.records,
            revision: loaded.meta.observed_revision,
            publisher,
            observed: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            steps: JoinSet::new(),
            running: BTreeMap::new(),
            looks: JoinSet::new(),
            looking: BTreeMap::new(),
            tick: 0,
            touched: BTreeMap::new(),
            known: BTreeSet::new(),
            watched: BTreeMap::new(),
            orphans: BTreeMap::new(),
            let_go: BTreeMap::new(),
            not_let_go: BTreeMap::new(),
            wake_at: BTreeMap::new(),
            dirty: BTreeSet::new(),
            events: Vec::new(),
            commit_again: false,
            asides,
            draining: Vec::new(),
            stops_all: false,
            ending: false,
        };
        let task = tokio::spawn(reconciler.run(request_receiver, signals, aside_receiver));
        Ok((handle, task))
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut signals: SignalReceiver, mut asides: mpsc::Receiver<Aside>) {
        let (changed, mut changes) = mpsc::channel::<InstallMethod>(16);
        let mut forwarders = JoinSet::new();
        for (method, driver) in self.drivers.iter() {
            let (notify, changed, method) = (driver.changes(), changed.clone(), *method);
            forwarders.spawn(async move {
                loop {
                    notify.notified().await;
                    if changed.send(method).await.is_err() {
                        return;
                    }
                }
            });
        }
        let mut scan = tokio::time::interval(SCAN_EVERY);
        scan.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut burst = Vec::with_capacity(SIGNALS_AT_ONCE);
        let mut signals_open = true;
        loop {
            let nap = self.nap();
            // Every arm is cancel safe per docs: channels, JoinSets, interval and sleep.
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.serve(request).await,
                    None => return,
                },
                count = signals.recv_many(&mut burst, SIGNALS_AT_ONCE), if signals_open => {
                    signals_open = count > 0;
                    self.fold_signals(&mut burst).await;
                }
                Some(aside) = asides.recv() => self.fold_aside(aside),
                Some(ended) = self.steps.join_next_with_id(), if !self.steps.is_empty() => self.step_ended(ended).await,
                Some(looked) = self.looks.join_next(), if !self.looks.is_empty() => match looked {
                    Ok(look) => self.round(look).await,
                    Err(error) => {
                        tracing::error!(error = %error, "a look at the machine broke off");
                        self.looking.clear();
                    }
                },
                Some(method) = changes.recv() => self.look(method),
                Ok(()) = self.full.changed() => self.look_everywhere(),
                _ = scan.tick() => self.look_everywhere(),
                () = tokio::time::sleep(nap) => self.wake_up().await,
            }
            self.answer_drains();
        }
    }

    /// Until the plan wants to be made again; the scan bounds it anyway.
    fn nap(&self) -> Duration {
        let wake = self.wake_at.values().min().map_or(SCAN_EVERY, |moment| self.clock.until(*moment));
        let wake = wake.max(Duration::from_millis(1)).min(SCAN_EVERY);
        if self.commit_again { wake.min(COMMIT_AGAIN) } else { wake }
    }

    async fn wake_up(&mut self) {
        if self.commit_again && self.commit(Vec::new()).await.is_ok() {
            self.look_everywhere();
        }
        let now = self.clock.now();
        let due: Vec<_> = self.wake_at.iter().filter(|(_, moment)| **moment <= now).map(|(method, _)| *method).collect();
        for method in due {
            self.wake_at.remove(&method);
            self.look(method);
        }
    }

    async fn step_ended(&mut self, ended: Result<(Id, (Step, Outcome)), JoinError>) {
        let (step, outcome) = match ended {
            Ok((_, ended)) => ended,
            Err(error) => {
                let Some((_, (_, step))) = self.running.iter().find(|(_, (abort, _))| abort.id() == error.id()) else { return };
                if !error.is_cancelled() {
                    tracing::error!(server.id = %step.server(), error = %error, "a step broke off");
                }
                (step.clone(), Outcome::Cancelled)
            }
        };
        let (server, now) = (step.server(), self.clock.now());
        self.running.remove(&server);
        self.in_flight.remove(&server);
        self.publisher.progress(server, None);
        self.tick += 1;
        self.touched.insert(server, self.tick);
        let Some(record) = self.records.get_mut(&server) else { return };
        let method = record.spec.run.game_id.method();
        let happenings = finish(record, &step, outcome, now);
        self.dirty.insert(server);
        self.tell(server, happenings, now);
        // The look that follows commits too; this one saves the outcome from a crash in between.
        let _ = self.commit(Vec::new()).await;
        self.look(method);
    }

    async fn fold_signals(&mut self, burst: &mut Vec<Signal>) {
        let now = self.clock.now();
        let mut told = BTreeSet::new();
        let mut methods = BTreeSet::new();
        for Signal { server, instance, observed } in burst.drain(..) {
            let Some(record) = self.records.get_mut(&server).filter(|record| record.tried.instance == Some(instance)) else { continue };
            told.insert(server);
            let sign = match observed {
                Observed::Players(players) => {
                    self.publisher.passing(server, instance).players = Some(players);
                    continue;
                }
                // Whoever follows the log has seen it there.
                Observed::Joined { player } => {
                    self.event(
                        server,
                        "server.player_joined",
                        format!("{player} has joined"),
                        serde_json::json!({ "player": player }),
                        true,
                        now,
                    );
                    continue;
                }
                Observed::Left { player } => {
                    self.event(
                        server,
                        "server.player_left",
                        format!("{player} has left"),
                        serde_json::json!({ "player": player }),
                        true,
                        now,
                    );
                    continue;
                }
                Observed::Extra(extra) => {
                    self.publisher.passing(server, instance).extra = extra;
                    continue;
                }
                Observed::Usage(usage) => {
                    self.publisher.passing(server, instance).usage = Some(usage);
                    continue;
                }
                Observed::Ready => Sign::Ready,
                Observed::Silent { seconds } => Sign::Silent { seconds },
                Observed::Answers => Sign::Answers,
                Observed::Unready { reason } => Sign::Unready { reason },
                Observed::TypedStop => Sign::TypedStop,
                Observed::Condition { kind, message, hint } => Sign::Condition { kind, message, hint },
                Observed::ConditionOver { kind } => Sign::ConditionOver { kind },
            };
            let before = record.tried.clone();
            let happenings = signal(record, instance, sign, now);
            if record.tried != before {
                self.dirty.insert(server);
                methods.insert(record.spec.run.game_id.method());
            }
            self.tell(server, happenings, now);
        }
        if !methods.is_empty() || !self.events.is_empty() {
            let _ = self.commit(Vec::new()).await;
        }
        self.publisher.publish(told);
        for method in methods {
            self.look(method);
        }
    }

    fn fold_aside(&mut self, aside: Aside) {
        match aside {
            Aside::Progress(server, progress) => {
                self.publisher.progress(server, Some(progress));
                self.publisher.publish([server]);
            }
            Aside::RungOver(server, rung, why) => {
                let what = match &rung.step {
                    StopStep::Console(line) => format!("`{line}`"),
                    StopStep::Action(name) => format!("the action `{name}`"),
                    StopStep::Signal(name) => format!("SIG{name}"),
                };
                let message = format!("is not waited for after {what}: {why}");
                let happening = Happening::new("server.rung_over", message, serde_json::json!({ "rung": rung, "reason": why }));
                self.tell(server, vec![happening], self.clock.now());
            }
            Aside::Rung(server, rung) => {
                let message = match &rung.step {
                    StopStep::Console(line) => format!("is told `{line}`, and given {} s", rung.wait_seconds),
                    StopStep::Action(name) => format!("runs the action `{name}`, and is given {} s", rung.wait_seconds),
                    StopStep::Signal(name) => format!("is sent SIG{name}, and given {} s", rung.wait_seconds),
                };
                let happening = Happening::new("server.rung", message, serde_json::json!({ "rung": rung }));
                self.tell(server, vec![happening], self.clock.now());
            }
        }
    }

    /// Puts happenings into the outbox of the next commit, and into the server's own log.
    pub(super) fn tell(&mut self, server: ServerId, happenings: Vec<Happening>, now: Timestamp) {
        for Happening { kind, message, data } in happenings {
            tracing::info!(server.id = %server, kind, "server {message}");
            self.supervision.note(server, message.clone());
            self.event(server, kind, message, data, false, now);
        }
    }

    /// Puts an event into the outbox of the next commit; of too many, those that are `metric` go first.
    fn event(&mut self, server: ServerId, kind: &str, message: String, data: serde_json::Value, metric: bool, now: Timestamp) {
        if self.events.len() >= EVENTS_WAITING_MAX
            && let Some(lighter) = self.events.iter().position(|event| event.metric)
        {
            self.events.remove(lighter);
        }
        if self.events.len() >= EVENTS_WAITING_MAX {
            tracing::error!(server.id = %server, kind, "an event is lost: the disk has taken none for too long");
            return;
        }
        self.events.push(NewEvent { at: now, kind: kind.to_owned(), server_id: Some(server), message, data, metric });
    }

    /// Everything that has changed, in one transaction. What could not be stored stays to be stored.
    pub(super) async fn commit(&mut self, statuses: Vec<manman_common::ServerStatus>) -> Result<(), StoreError> {
        let records: Vec<Record> = self.dirty.iter().filter_map(|server| self.records.get(server)).cloned().collect();
        if records.is_empty() && statuses.is_empty() && self.events.is_empty() {
            self.commit_again = false;
            return Ok(());
        }
        let commit = Commit { records, statuses, events: self.events.clone(), ..Commit::default() };
        match self.store.commit(commit).await {
            Ok(()) => {
                self.dirty.clear();
                self.events.clear();
                self.commit_again = false;
                Ok(())
            }
            Err(error) => {
                self.commit_again = true;
                tracing::error!(error = %super::execute::sentence(&error), hint = error.hint(), "nothing is begun until this is stored");
                Err(error)
            }
        }
    }

    /// How a drain ends: with nothing under way, and where servers go too, nothing live.
    pub(super) fn begin_drain(&mut self, keep_servers: bool, answer: Answer<()>) {
        if keep_servers {
            self.ending = true;
            for (abort, step) in self.running.values() {
                // The others are short, or are stops that somebody wants.
                if matches!(step, Step::Install { .. }) {
                    abort.abort();
                }
            }
        } else {
            self.stops_all = true;
            self.look_everywhere();
        }
        self.draining.push((keep_servers, answer));
    }

    fn answer_drains(&mut self) {
        if self.draining.is_empty() || !self.in_flight.is_empty() || self.commit_again {
            return;
        }
        let may_live = |record: &Record| match self.observed.get(&record.spec.id) {
            Some(Observation::Known(instances)) => instances.iter().any(manman_worker_core::Instance::is_live),
            Some(Observation::Unknown { .. }) | None => !record.tried.deleted,
        };
        let any_lives = self.records.values().any(may_live) || !self.looking.is_empty();
        let (done, waiting) = self.draining.drain(..).partition(|(keep_servers, _)| *keep_servers || !any_lives);
        self.draining = waiting;
        for (_, answer) in done {
            self.ending = true;
            let _ = answer.send(Ok(()));
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A person who stands at the machine wins over every doubt.
    pub(super) fn mode(&self) -> Mode {
        if self.stops_all { Mode::Draining } else { self.standing.mode() }
    }
}
