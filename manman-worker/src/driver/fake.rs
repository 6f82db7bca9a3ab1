//! A driver without games, for tests and trials: a machine in memory that behaves like one.
//!
//! The [`FakeMachine`] outlives the worker, as a real one does: a driver made anew on it finds what
//! an earlier one started. It can be told to be blind, to hang, to fail and to crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use manman_common::spec::{StopMode, StopRung};
use manman_common::status::{ExitRecord, Progress, Usage};
use manman_common::wire::DriverReport;
use manman_common::{Generation, InstallMethod, InstanceId, ServerId, ServerSpec};
use manman_worker_core::{Instance, InstanceRef, InstanceState, run_hash};
use tokio::sync::Notify;

use super::{Driver, DriverError, DriverErrorKind, LEASE_ENDED, Lease, OutputBatch, OutputCursor, ProgressSink, RungSink, Stops};
use crate::clock;

/// What a server's game does on this machine.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// Ends by itself with this exit code, so long after its start.
    pub ends_after: Option<(Duration, i32)>,
    /// Its start does not return.
    pub start_hangs: bool,
    /// Its start leaves a dead, never started instance behind and fails.
    pub start_breaks_off: bool,
    pub start_fails: Option<DriverErrorKind>,
    pub install_fails: Option<DriverErrorKind>,
    pub install_takes: Duration,
    /// Goes on until it is killed.
    pub ignores_stop: bool,
    pub stop_takes: Duration,
    /// Its data can not be told that it is not to run here.
    pub is_not_let_go: bool,
}

#[derive(Default)]
pub struct FakeMachine {
    state: Mutex<State>,
    changes: Arc<Notify>,
}

#[derive(Default)]
struct State {
    behaviours: BTreeMap<ServerId, Behaviour>,
    instances: BTreeMap<InstanceId, Instance>,
    blind: Option<String>,
    /// Every instance that ever ran, in the order of their starts.
    starts: Vec<(ServerId, InstanceId)>,
    installs: u32,
    purged: BTreeSet<ServerId>,
    lines: Vec<(InstanceId, String)>,
    leases: Vec<(ServerId, Option<InstanceId>, Option<Lease>)>,
    let_go: Vec<(ServerId, Generation)>,
    taken_up: Vec<(ServerId, Generation, Stops)>,
}

impl FakeMachine {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn behave(&self, server: ServerId, behaviour: Behaviour) {
        self.state().behaviours.insert(server, behaviour);
    }

    /// With a reason, looking fails; without one it works again.
    pub fn set_blind(&self, reason: Option<&str>) {
        self.state().blind = reason.map(str::to_owned);
        self.changes.notify_one();
    }

    /// Ends whatever of the server lives, as a crash does.
    pub fn crash(&self, server: ServerId, code: i32) {
        self.end_where(|instance| instance.server == server, code);
    }

    /// Puts an instance there that nobody here started.
    pub fn insert(&self, instance: Instance) {
        self.state().instances.insert(instance.id, instance);
        self.changes.notify_one();
    }

    #[must_use]
    pub fn live(&self, server: ServerId) -> Vec<InstanceId> {
        let state = self.state();
        state.instances.values().filter(|instance| instance.server == server && instance.is_live()).map(|instance| instance.id).collect()
    }

    /// All that lies there of the server, dead or alive.
    #[must_use]
    pub fn present(&self, server: ServerId) -> usize {
        self.state().instances.values().filter(|instance| instance.server == server).count()
    }

    #[must_use]
    pub fn starts(&self, server: ServerId) -> usize {
        self.state().starts.iter().filter(|(of, _)| *of == server).count()
    }

    /// By which wishes a server was not to run here any more, as often as that was said.
    #[must_use]
    pub fn let_go(&self, server: ServerId) -> Vec<Generation> {
        self.state().let_go.iter().filter(|(of, _)| *of == server).map(|(_, generation)| *generation).collect()
    }

    /// By which wishes a server was to run here again, and which stops no longer counted.
    #[must_use]
    pub fn taken_up(&self, server: ServerId) -> Vec<(Generation, Stops)> {
        let state = self.state();
        state.taken_up.iter().filter(|(of, ..)| *of == server).map(|(_, generation, stops)| (*generation, *stops)).collect()
    }

    #[must_use]
    pub fn installs(&self) -> u32 {
        self.state().installs
    }

    #[must_use]
    pub fn is_purged(&self, server: ServerId) -> bool {
        self.state().purged.contains(&server)
    }

    /// What was said of a server's lease, and of which live instance, in its order.
    #[must_use]
    pub fn leases(&self, server: ServerId) -> Vec<(Option<InstanceId>, Option<Lease>)> {
        self.state().leases.iter().filter(|(of, ..)| *of == server).map(|(_, live, lease)| (*live, *lease)).collect()
    }

    /// Ends whatever of the server lives, as its holder does when the lease has run out.
    pub fn end_lease(&self, server: ServerId) {
        let end = ExitRecord { signal: Some(15), reason: Some(LEASE_ENDED.to_owned()), at: Some(clock::now()), ..ExitRecord::default() };
        for instance in self.state().instances.values_mut().filter(|instance| instance.server == server && instance.is_live()) {
            instance.state = InstanceState::Exited(end.clone());
        }
        self.changes.notify_one();
    }

    #[must_use]
    pub fn lines(&self) -> Vec<(InstanceId, String)> {
        self.state().lines.clone()
    }

    fn behaviour(&self, server: ServerId) -> Behaviour {
        self.state().behaviours.get(&server).cloned().unwrap_or_default()
    }

    fn end_where(&self, which: impl Fn(&Instance) -> bool, code: i32) {
        let exit = exit(code);
        for instance in self.state().instances.values_mut().filter(|instance| instance.is_live() && which(instance)) {
            instance.state = InstanceState::Exited(exit.clone());
        }
        self.changes.notify_one();
    }
}

fn exit(code: i32) -> ExitRecord {
    ExitRecord { code: Some(code), at: Some(clock::now()), ..ExitRecord::default() }
}

fn refused(kind: DriverErrorKind, what: &str) -> DriverError {
    DriverError { kind, what: what.to_owned(), hint: None, source: None }
}

pub struct FakeDriver {
    machine: Arc<FakeMachine>,
}

impl FakeDriver {
    #[must_use]
    pub fn new(machine: Arc<FakeMachine>) -> Self {
        Self { machine }
    }
}

#[async_trait]
impl Driver for FakeDriver {
    fn method(&self) -> InstallMethod {
        InstallMethod::Docker
    }

    async fn report(&self) -> DriverReport {
        DriverReport { method: self.method(), ready: true, version: Some("fake".to_owned()), problem: None }
    }

    fn changes(&self) -> Arc<Notify> {
        self.machine.changes.clone()
    }

    async fn list(&self) -> Result<Vec<Instance>, DriverError> {
        let state = self.machine.state();
        match &state.blind {
            Some(reason) => Err(refused(DriverErrorKind::Retry, reason)),
            None => Ok(state.instances.values().cloned().collect()),
        }
    }

    fn install_key(&self, spec: &ServerSpec) -> String {
        spec.run.game_id.identifier()
    }

    async fn install(&self, spec: &ServerSpec, progress: ProgressSink) -> Result<(), DriverError> {
        let behaviour = self.machine.behaviour(spec.id);
        progress(Progress { percent: Some(50), step: "half way".to_owned() });
        tokio::time::sleep(behaviour.install_takes).await;
        self.machine.state().installs += 1;
        match behaviour.install_fails {
            Some(kind) => Err(refused(kind, "could not install it")),
            None => Ok(()),
        }
    }

    async fn start(&self, spec: &ServerSpec, instance: InstanceId) -> Result<InstanceRef, DriverError> {
        let behaviour = self.machine.behaviour(spec.id);
        if behaviour.start_hangs {
            std::future::pending::<()>().await;
        }
        if let Some(kind) = behaviour.start_fails {
            return Err(refused(kind, "could not start it"));
        }
        let reference = InstanceRef::Container(instance.to_string());
        let state = if behaviour.start_breaks_off { InstanceState::Created } else { InstanceState::Running { since: clock::now() } };
        {
            let mut machine = self.machine.state();
            if machine.instances.get(&instance).is_some_and(Instance::is_live) {
                return Ok(reference);
            }
            machine.instances.insert(
                instance,
                Instance {
                    server: spec.id,
                    id: instance,
                    reference: reference.clone(),
                    state,
                    generation: spec.generation,
                    restart_seq: spec.restart_seq,
                    run_hash: run_hash(&spec.run),
                    degraded: false,
                },
            );
            if behaviour.start_breaks_off {
                return Err(refused(DriverErrorKind::Retry, "the start broke off"));
            }
            machine.starts.push((spec.id, instance));
        }
        self.machine.changes.notify_one();
        if let Some((after, code)) = behaviour.ends_after {
            let machine = self.machine.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                machine.end_where(|one| one.id == instance, code);
            });
        }
        Ok(reference)
    }

    async fn grant_lease(&self, server: ServerId, live: Option<&Instance>, lease: Option<Lease>) -> Result<(), DriverError> {
        self.machine.state().leases.push((server, live.map(|live| live.id), lease));
        Ok(())
    }

    async fn stop(&self, instance: &Instance, ladder: &[StopRung], mode: StopMode, rung: RungSink) -> Result<ExitRecord, DriverError> {
        let behaviour = self.machine.behaviour(instance.server);
        let code = match mode {
            StopMode::Kill => 137,
            StopMode::Graceful => {
                if let Some(first) = ladder.first() {
                    rung(first);
                }
                tokio::time::sleep(behaviour.stop_takes).await;
                if behaviour.ignores_stop {
                    std::future::pending::<()>().await;
                }
                0
            }
        };
        self.machine.end_where(|one| one.id == instance.id, code);
        Ok(exit(code))
    }

    async fn remove(&self, instance: &Instance) -> Result<(), DriverError> {
        let mut state = self.machine.state();
        match state.instances.get(&instance.id) {
            Some(one) if one.is_live() => Err(refused(DriverErrorKind::Retry, "it lives")),
            Some(_) => {
                state.instances.remove(&instance.id);
                Ok(())
            }
            None => Err(refused(DriverErrorKind::Gone, "it is not there")),
        }
    }

    async fn let_go(&self, spec: &ServerSpec) -> Result<(), DriverError> {
        if self.machine.behaviour(spec.id).is_not_let_go {
            return Err(refused(DriverErrorKind::Retry, "the disk is full"));
        }
        self.machine.state().let_go.push((spec.id, spec.generation));
        Ok(())
    }

    async fn take_up(&self, spec: &ServerSpec, stops: Stops) -> Result<(), DriverError> {
        self.machine.state().taken_up.push((spec.id, spec.generation, stops));
        Ok(())
    }

    async fn purge(&self, server: ServerId) -> Result<(), DriverError> {
        self.machine.state().purged.insert(server);
        Ok(())
    }

    async fn write_line(&self, instance: &Instance, line: &str) -> Result<(), DriverError> {
        self.machine.state().lines.push((instance.id, line.to_owned()));
        Ok(())
    }

    async fn output(
        &self,
        _instance: &Instance,
        _after: Option<OutputCursor>,
    ) -> Result<BoxStream<'static, Result<OutputBatch, DriverError>>, DriverError> {
        Ok(futures_util::stream::empty().boxed())
    }

    async fn usage(&self, _instance: &Instance) -> Result<Usage, DriverError> {
        Ok(Usage::default())
    }

    async fn ports_bound(&self, instance: &Instance, _spec: &ServerSpec) -> Result<bool, DriverError> {
        Ok(self.machine.state().instances.get(&instance.id).is_some_and(Instance::is_live))
    }
}
