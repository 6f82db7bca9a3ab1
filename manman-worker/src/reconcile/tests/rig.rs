//! A worker's middle on a fake machine, which can be killed and started again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use manman_common::spec::{RestartPolicy, StopMode};
use manman_common::{DesiredState, Generation, InstanceId, Phase, Revision, RunSpec, ServerId, ServerSpec, ServerStatus};
use tokio::task::JoinHandle;

use crate::driver::fake::{FakeDriver, FakeMachine};
use crate::reconcile::signals::{self, Observed, Signal, SignalSender, Supervision, Watched};
use crate::reconcile::{LoopClock, Parts, ReconcileHandle, Reconciler};
use crate::store::Store;

/// Longest that any condition here may take; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says Ready of whatever runs, unless told not to.
pub(super) struct Watchman {
    signals: SignalSender,
    pub(super) never_ready: bool,
    seen: Mutex<BTreeSet<InstanceId>>,
    pub(super) purged: Mutex<BTreeSet<ServerId>>,
}

#[async_trait]
impl Supervision for Watchman {
    fn watch(&self, watched: Watched) {
        let new = self.seen.lock().expect("no panic holds it").insert(watched.instance.id);
        if new && watched.instance.is_live() && !self.never_ready {
            let signal = Signal { server: watched.instance.server, instance: watched.instance.id, observed: Observed::Ready };
            self.signals.try_send(signal).expect("room for a signal");
        }
    }

    fn unwatch(&self, _server: ServerId, instance: InstanceId) {
        self.seen.lock().expect("no panic holds it").remove(&instance);
    }

    async fn drain(&self, _server: ServerId, _instance: InstanceId) {}

    fn note(&self, _server: ServerId, _text: String) {}

    async fn purge(&self, server: ServerId) -> std::io::Result<()> {
        self.purged.lock().expect("no panic holds it").insert(server);
        Ok(())
    }
}

pub(super) struct Rig {
    pub(super) machine: Arc<FakeMachine>,
    pub(super) directory: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) handle: ReconcileHandle,
    pub(super) watchman: Arc<Watchman>,
    pub(super) signals: SignalSender,
    task: JoinHandle<()>,
    /// Goes on over the ends of the worker, as a machine's clock does.
    clock: LoopClock,
    pub(super) speed: u32,
    never_ready: bool,
    pub(super) revision: Revision,
}

impl Rig {
    pub(super) async fn new(speed: u32) -> Self {
        Self::with(speed, false).await
    }

    pub(super) async fn with(speed: u32, never_ready: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (machine, clock) = (FakeMachine::new(), LoopClock::fast(speed));
        let (store, handle, watchman, signals, task) = start(&directory, &machine, clock, never_ready).await;
        Self { machine, directory, store, handle, watchman, signals, task, clock, speed, never_ready, revision: Revision::default() }
    }

    /// What SIGKILL does: the loop is gone at whatever line it was, and so are its steps.
    pub(super) async fn kill_and_start_again(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        (self.store, self.handle, self.watchman, self.signals, self.task) =
            start(&self.directory, &self.machine, self.clock, self.never_ready).await;
    }

    pub(super) async fn wish(&mut self, spec: ServerSpec) {
        let next = self.revision.next();
        let applied = self.handle.apply_specs(self.revision, next, vec![spec]).await.expect("stored");
        assert_eq!(applied.refused, []);
        self.revision = next;
    }

    /// A clock as fast as the loop's.
    pub(super) fn clock(&self) -> LoopClock {
        LoopClock::fast(self.speed)
    }

    pub(super) async fn until(&self, what: &str, mut holds: impl FnMut(&Rig) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "waited in vain for: {what}; last seen: {:#?}",
                self.handle.statuses().borrow().values().collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn until_phase(&self, server: ServerId, phase: Phase) -> ServerStatus {
        self.until(&format!("{server} is {phase:?}"), |rig| rig.phase(server) == Some(phase)).await;
        self.handle.status(server).expect("it has a phase")
    }

    pub(super) fn phase(&self, server: ServerId) -> Option<Phase> {
        self.handle.status(server).map(|status| status.phase)
    }

    pub(super) fn watchman_has_seen(&self, instance: Option<InstanceId>) -> bool {
        let seen = self.watchman.seen.lock().expect("no panic holds it");
        instance.is_some_and(|instance| seen.contains(&instance))
    }

    /// Waits until an event of this kind is stored, and answers the kinds of all.
    pub(super) async fn until_event(&self, server: ServerId, kind: &str) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let events = self.events(server).await;
            if events.iter().any(|stored| stored == kind) {
                return events;
            }
            assert!(tokio::time::Instant::now() < deadline, "waited in vain for the event {kind}; there are {events:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The kinds of all events so far, of this server.
    pub(super) async fn events(&self, server: ServerId) -> Vec<String> {
        let events = self.store.events_after(0, 10_000).await.expect("readable");
        let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "numbers have gaps: {numbers:?}");
        events.into_iter().filter(|event| event.server_id == Some(server)).map(|event| event.kind).collect()
    }
}

async fn start(
    directory: &tempfile::TempDir,
    machine: &Arc<FakeMachine>,
    clock: LoopClock,
    never_ready: bool,
) -> (Store, ReconcileHandle, Arc<Watchman>, SignalSender, JoinHandle<()>) {
    let opened = Store::open(directory.path()).expect("opens");
    assert!(opened.set_aside.is_none());
    let (sender, receiver) = signals::channel();
    let watchman = Arc::new(Watchman { signals: sender.clone(), never_ready, seen: Mutex::default(), purged: Mutex::default() });
    let parts = Parts {
        store: opened.store.clone(),
        drivers: vec![Arc::new(FakeDriver::new(machine.clone()))],
        supervision: watchman.clone(),
        signals: receiver,
        clock,
        full: tokio::sync::watch::channel(false).1,
    };
    let (handle, task) = Reconciler::spawn(parts).await.expect("starts");
    (opened.store, handle, watchman, sender, task)
}

pub(super) fn server_id(number: u128) -> ServerId {
    ServerId::from_uuid(uuid::Uuid::from_u128(number))
}

pub(crate) fn spec(number: u128) -> ServerSpec {
    ServerSpec {
        id: server_id(number),
        name: format!("s{number}").parse().expect("a sound name"),
        generation: Generation::new(1),
        desired: DesiredState::Running,
        stop_mode: StopMode::Graceful,
        restart_seq: 0,
        purge: false,
        epoch: 1,
        lease_seconds: None,
        run: RunSpec { restart: RestartPolicy::Always, ..RunSpec::new("docker:manman/openarena".parse().expect("a sound game id")) },
    }
}

pub(super) fn next(spec: &ServerSpec, change: impl FnOnce(&mut ServerSpec)) -> ServerSpec {
    let mut next = spec.clone();
    next.generation = next.generation.next();
    change(&mut next);
    next
}
