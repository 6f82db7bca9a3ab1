//! What runs, as the engine says.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bollard::models::{ContainerState, ContainerSummary, ContainerSummaryStateEnum as Summary};
use bollard::query_parameters::ListContainersOptionsBuilder;
use manman_common::Timestamp;
use manman_common::status::ExitRecord;
use manman_worker_core::{Instance, InstanceRef, InstanceState};

use super::fields::{self, Fields};
use super::{DockerDriver, error};
use crate::clock;
use crate::driver::{DriverError, DriverErrorKind};

/// Containers of ours are started once and never again, so that a state, once inspected, stays for
/// as long as the engine's list names the same one: a list of fifty running games costs one request.
#[derive(Default)]
pub(super) struct Seen(Mutex<Known>);

#[derive(Default)]
struct Known {
    states: HashMap<String, InstanceState>,
    /// Containers whose end the engine has told of: it tells before its list knows.
    died: HashSet<String>,
    /// When the engine was last looked at with success, by this process.
    looked: Option<Timestamp>,
    /// The engine has been away since.
    away: bool,
}

impl Known {
    /// Whether whatever ended then, while nobody could look, was taken along by the engine: it ends its
    /// games when it ends itself, as an upgrade or a shutdown of the machine has it, and most of them
    /// obey with code 0.
    fn engine_ended(&self, end: Timestamp, booted: Timestamp) -> bool {
        match self.looked {
            Some(looked) => self.away && end >= looked,
            None => end < booted,
        }
    }
}

impl Seen {
    pub(super) fn died(&self, container: String) {
        self.known().died.insert(container);
    }

    /// The engine does not answer, or has ended a conversation.
    pub(super) fn lost(&self) {
        self.known().away = true;
    }

    /// An end that was not the game's own is told to be the engine's.
    fn ended_by(&self, state: InstanceState) -> InstanceState {
        match state {
            InstanceState::Exited(exit) if exit.at.is_some_and(|end| self.known().engine_ended(end, booted())) => {
                InstanceState::Exited(with_engine(exit))
            }
            other => other,
        }
    }

    fn get(&self, container: &str) -> Option<InstanceState> {
        let known = self.known();
        let state = known.states.get(container)?;
        let outdated = matches!(state, InstanceState::Running { .. } | InstanceState::Created) && known.died.contains(container);
        (!outdated).then(|| state.clone())
    }

    fn replace(&self, instances: &[Instance], looked: Timestamp) {
        let mut known = self.known();
        known.looked = Some(looked);
        known.away = false;
        let states = instances.iter().filter_map(|instance| match &instance.reference {
            InstanceRef::Container(id) => Some((id.clone(), instance.state.clone())),
            InstanceRef::Process { .. } => None,
        });
        known.states = states.collect();
        let Known { states, died, .. } = &mut *known;
        died.retain(|id| states.get(id).is_some_and(|state| !matches!(state, InstanceState::Exited(_))));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DockerDriver {
    pub(super) async fn list_own(&self) -> Result<Vec<Instance>, DriverError> {
        let listed = self.list_now().await;
        if listed.is_err() {
            self.seen.lost();
        }
        listed
    }

    async fn list_now(&self) -> Result<Vec<Instance>, DriverError> {
        let looked = clock::now();
        let options = ListContainersOptionsBuilder::new().all(true).filters(&fields::own(self.config.worker)).build();
        let listed = self.engine.docker().await?.list_containers(Some(options)).await;
        let listed = listed.map_err(|source| error::retry("the Docker engine can not list this worker's containers", source))?;
        let mut instances = Vec::with_capacity(listed.len());
        for summary in listed {
            let Some((id, fields)) = ours(&summary).filter(|(_, fields)| fields.worker == self.config.worker) else { continue };
            match self.state(&id, summary.state).await {
                Ok(state) => instances.push(self.as_boxed(instance(id, &fields, state)).await),
                // Removed since the list was made.
                Err(error) if error.kind == DriverErrorKind::Gone => {}
                Err(error) => return Err(error),
            }
        }
        self.seen.replace(&instances, looked);
        Ok(instances)
    }

    async fn state(&self, id: &str, listed: Option<Summary>) -> Result<InstanceState, DriverError> {
        let known = self.seen.get(id).filter(|known| match known {
            InstanceState::Created => listed == Some(Summary::CREATED),
            InstanceState::Running { .. } => listed == Some(Summary::RUNNING),
            InstanceState::Exited(_) => listed == Some(Summary::EXITED),
        });
        match known {
            Some(state) => Ok(state),
            None => Ok(self.seen.ended_by(read_state(&self.engine.inspect(id).await?.state.unwrap_or_default()))),
        }
    }
}

fn ours(summary: &ContainerSummary) -> Option<(String, Fields)> {
    Some((summary.id.clone()?, Fields::from_labels(summary.labels.as_ref()?)?))
}

pub(super) fn instance(id: String, fields: &Fields, state: InstanceState) -> Instance {
    Instance {
        server: fields.server,
        id: fields.instance,
        reference: InstanceRef::Container(id),
        state,
        generation: fields.generation,
        restart_seq: fields.restart_seq,
        run_hash: fields.run_hash,
        degraded: false,
    }
}

pub(super) fn read_state(state: &ContainerState) -> InstanceState {
    let started = moment(state.started_at.as_deref());
    if state.running.unwrap_or(false) {
        return InstanceState::Running { since: started.unwrap_or(Timestamp::EPOCH) };
    }
    // A container that never ran has neither moment; one whose start failed has no start.
    if started.is_none() {
        return InstanceState::Created;
    }
    InstanceState::Exited(exit_record(state))
}

pub(super) fn exit_record(state: &ContainerState) -> ExitRecord {
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
    // Docker says 128 + n for a process that signal n ended.
    let signal = code.and_then(|code| code.checked_sub(128)).filter(|signal| (1..=64).contains(signal));
    let oom = state.oom_killed.unwrap_or(false);
    let reason = if oom {
        Some("out of memory".to_owned())
    } else {
        state.error.clone().filter(|error| !error.is_empty()).or_else(|| named_code(code))
    };
    ExitRecord { code: if signal.is_some() { None } else { code }, signal, oom, reason, at: moment(state.finished_at.as_deref()) }
}

/// The end of a game that the engine took along. Whatever the code, it is no wish of the game's.
fn with_engine(exit: ExitRecord) -> ExitRecord {
    let how = match (exit.code, exit.signal) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no code".to_owned(),
    };
    let reason = format!("the Docker engine or the machine was stopped, and it with them ({how})");
    ExitRecord { code: None, signal: None, reason: Some(reason), ..exit }
}

/// When this machine was booted, by the clock as it goes now.
fn booted() -> Timestamp {
    let up = i64::try_from(clock::boottime().as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(clock::now().as_micros().saturating_sub(up))
}

/// What a shell or loader means by a code.
fn named_code(code: Option<i32>) -> Option<String> {
    match code? {
        126 => Some("its program can not be executed".to_owned()),
        127 => Some("its program or a library of it is missing".to_owned()),
        _ => None,
    }
}

/// The engine writes the year 1 for "never".
fn moment(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok().filter(|moment| *moment > Timestamp::EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_with_the_engine_did_not_end_by_itself() {
        let mut known = Known { looked: Some(at(100)), away: true, ..Known::default() };
        assert!(known.engine_ended(at(100), at(10)) && !known.engine_ended(at(99), at(10)));
        known.away = false;
        assert!(!known.engine_ended(at(150), at(10)), "the engine was there when it ended");
        known.looked = None;
        assert!(known.engine_ended(at(9), at(10)) && !known.engine_ended(at(11), at(10)), "only what ended before the boot");
    }

    #[test]
    fn a_code_0_that_the_engine_asked_for_is_no_clean_end() {
        let seen = Seen::default();
        seen.replace(&[], at(100));
        let clean = || ExitRecord { code: Some(0), at: Some(at(200)), ..ExitRecord::default() };
        assert_eq!(seen.ended_by(InstanceState::Exited(clean())), InstanceState::Exited(clean()));
        seen.lost();
        let InstanceState::Exited(exit) = seen.ended_by(InstanceState::Exited(clean())) else { panic!("it has ended") };
        assert!(exit.code.is_none() && exit.reason.is_some_and(|reason| reason.contains("code 0")));
        seen.replace(&[], at(300));
        assert_eq!(seen.ended_by(InstanceState::Exited(clean())), InstanceState::Exited(clean()), "it is there again");
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }
}
