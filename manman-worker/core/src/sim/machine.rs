//! The machine: the only place that knows what is true.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::spec::StopMode;
use manman_common::status::ExitRecord;
use manman_common::{InstanceId, ServerId, ServerSpec, Timestamp};

use crate::{Instance, InstanceRef, InstanceState, Step, run_hash};

/// A step as the driver carries it out.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) step: Step,
    pub(super) spec: ServerSpec,
    pub(super) starting: Option<InstanceId>,
}

#[derive(Default)]
pub(super) struct Machine {
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    /// Put there by nobody's plan.
    pub(super) intruders: BTreeSet<InstanceId>,
    /// Names once used: an effect that comes late meets its own name.
    ever: BTreeSet<InstanceId>,
    pub(super) purged: BTreeSet<ServerId>,
}

impl Machine {
    pub(super) fn of(&self, server: ServerId) -> Vec<Instance> {
        self.instances.values().filter(|instance| instance.server == server).cloned().collect()
    }

    pub(super) fn live(&self, server: ServerId) -> impl Iterator<Item = &Instance> {
        self.instances.values().filter(move |instance| instance.server == server && instance.is_live())
    }

    pub(super) fn end(&mut self, id: InstanceId, code: i32, now: Timestamp) {
        if let Some(instance) = self.instances.get_mut(&id).filter(|instance| instance.is_live()) {
            instance.state = InstanceState::Exited(ExitRecord { code: Some(code), at: Some(now), ..ExitRecord::default() });
        }
    }

    /// By whatever holds it, since its lease has ended.
    pub(super) fn end_of_lease(&mut self, server: ServerId, now: Timestamp) {
        let reason = Some(crate::LEASE_ENDED.to_owned());
        for instance in self.instances.values_mut().filter(|instance| instance.server == server && instance.is_live()) {
            let exit = ExitRecord { code: Some(143), at: Some(now), reason: reason.clone(), ..ExitRecord::default() };
            instance.state = InstanceState::Exited(exit);
        }
    }

    pub(super) fn put(&mut self, spec: &ServerSpec, id: InstanceId, state: InstanceState) {
        self.ever.insert(id);
        let instance = Instance {
            server: spec.id,
            id,
            reference: InstanceRef::Container(id.to_string()),
            state,
            generation: spec.generation,
            restart_seq: spec.restart_seq,
            run_hash: run_hash(&spec.run),
            degraded: false,
        };
        self.instances.insert(id, instance);
    }

    /// Carries the step out. What is refused (removing a live instance) is simply not done.
    pub(super) fn take_effect(&mut self, effect: &Effect, now: Timestamp) {
        match &effect.step {
            Step::Install { .. } => {}
            Step::Start { .. } => {
                let Some(id) = effect.starting else { return };
                match self.instances.get_mut(&id) {
                    Some(instance) if instance.state == InstanceState::Created => instance.state = InstanceState::Running { since: now },
                    // There is one of this name: it is that one.
                    Some(_) => {}
                    None => self.put(&effect.spec, id, InstanceState::Running { since: now }),
                }
            }
            Step::Stop { instance, mode: StopMode::Graceful, .. } => self.end(*instance, 0, now),
            Step::Stop { instance, mode: StopMode::Kill, .. } => self.end(*instance, 137, now),
            Step::Remove { instance, .. } => {
                if self.instances.get(instance).is_some_and(|instance| !instance.is_live()) {
                    self.instances.remove(instance);
                }
            }
            Step::Purge { server } => {
                self.purged.insert(*server);
            }
        }
    }

    /// The same, for an effect that was thought lost: its name may have been used up meanwhile.
    pub(super) fn take_effect_late(&mut self, effect: &Effect, now: Timestamp) {
        match &effect.step {
            Step::Start { .. } if effect.starting.is_some_and(|id| self.ever.contains(&id)) => {}
            // Data is deleted by nobody but a worker that waits for it.
            Step::Purge { .. } => {}
            Step::Install { .. } | Step::Start { .. } | Step::Stop { .. } | Step::Remove { .. } => self.take_effect(effect, now),
        }
    }

    pub(super) fn leave_half_way(&mut self, effect: &Effect) {
        if let (Step::Start { .. }, Some(id)) = (&effect.step, effect.starting)
            && !self.instances.contains_key(&id)
        {
            self.put(&effect.spec, id, InstanceState::Created);
        }
    }
}
