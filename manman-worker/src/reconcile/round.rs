//! One round: what a driver saw is folded, planned on, committed, and only then acted on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use manman_common::{InstallMethod, InstanceId, ServerId, Timestamp};
use manman_worker_core::{Happening, Mode, Observation, Record, Step, StepKind, World, begin, plan, seen};

use super::execute::{Job, execute};
use super::observe::{Look, look, observations};
use super::signals::Watched;
use super::task::Reconciler;

impl Reconciler {
    pub(super) fn look_everywhere(&mut self) {
        let mut methods: BTreeSet<InstallMethod> = self.drivers.keys().copied().collect();
        methods.extend(self.records.values().map(|record| record.spec.run.game_id.method()));
        for method in methods {
            self.look(method);
        }
    }

    /// Looks, or has the look that is under way followed by another.
    pub(super) fn look(&mut self, method: InstallMethod) {
        if self.ending {
            return;
        }
        match self.looking.get_mut(&method) {
            Some(again) => *again = true,
            None => {
                self.tick += 1;
                self.looking.insert(method, false);
                self.looks.spawn(look(method, self.drivers.get(&method).cloned(), self.tick));
            }
        }
    }

    /// Fold, plan, commit, act: for the servers of the driver that has just looked.
    pub(super) async fn round(&mut self, look: Look) {
        let Look { method, started, seen: found } = look;
        let again = self.looking.remove(&method).unwrap_or(false);
        let now = self.clock.now();
        let of_method = |record: &&Record| record.spec.run.game_id.method() == method;
        let servers: Vec<ServerId> = self.records.values().filter(of_method).map(|record| record.spec.id).collect();
        if let Err(reason) = &found {
            tracing::warn!(driver = method.as_str(), reason, "could not look at the machine");
        }
        let blind = found.is_err();
        let mut observed = observations(found, servers.into_iter());
        // A look that began before a step ended may show what was before it.
        let stale = |server: &ServerId| self.touched.get(server).is_some_and(|touched| *touched > started);
        let too_old: Vec<ServerId> = observed.keys().filter(|server| stale(server)).copied().collect();
        for server in &too_old {
            observed.remove(server);
        }
        if !self.drivers.contains_key(&method) {
            let reason = format!("this worker runs without its {} driver", method.as_str());
            for (server, observation) in &mut observed {
                // What was begun with one may still run.
                if self.records.get(server).is_some_and(|record| record.tried.instance.or(record.tried.starting).is_some()) {
                    *observation = Observation::Unknown { reason: reason.clone() };
                }
            }
        }
        if !blind {
            self.watch_over(method, &observed, &too_old);
        }
        for (server, observation) in &observed {
            self.fold_look(method, *server, observation, now);
        }
        let install_keys = self.install_keys(&observed);
        let leased = self.leased();
        let mut plan = plan(World {
            now,
            mode: self.mode(),
            records: &self.records,
            observed: &observed,
            in_flight: &self.in_flight,
            install_keys: &install_keys,
            last: self.publisher.planned(),
            leased: &leased,
            has_room: !*self.full.borrow(),
        });
        self.let_go(method, &mut plan, now).await;
        match plan.wake_at {
            Some(moment) => self.wake_at.insert(method, moment),
            None => self.wake_at.remove(&method),
        };
        let steps = if self.ending { Vec::new() } else { plan.steps };
        for step in &steps {
            self.note_beginning(step, now);
        }
        let planned: Vec<ServerId> = plan.statuses.keys().copied().collect();
        let changed = self.publisher.take(plan.statuses);
        let changed = changed.into_iter().filter(|status| self.records.contains_key(&status.id)).collect();
        self.observed.extend(observed);
        if self.commit(changed).await.is_ok() {
            for step in steps {
                self.act(step);
            }
            for server in plan.cancel {
                if let Some((abort, _)) = self.running.get(&server) {
                    abort.abort();
                }
            }
        }
        self.publisher.publish(planned);
        if again || !too_old.is_empty() {
            self.look(method);
        }
    }

    fn fold_look(&mut self, method: InstallMethod, server: ServerId, observation: &Observation, now: Timestamp) {
        let Observation::Known(instances) = observation else { return };
        let mode = self.mode();
        match self.records.get_mut(&server) {
            Some(record) if !self.in_flight.contains_key(&server) => {
                let first = self.known.insert(server);
                let before = record.tried.clone();
                let happenings = seen(server, record, instances, mode, now, first);
                if record.tried != before {
                    self.dirty.insert(server);
                }
                self.tell(server, happenings, now);
            }
            Some(_) => {}
            None => {
                let live = instances.iter().any(manman_worker_core::Instance::is_live);
                if live && self.orphans.insert(server, method).is_none() {
                    let message = "runs here, and no wish that this worker knows mentions it; it is left alone";
                    self.tell(server, vec![Happening::new("server.orphaned", message, serde_json::json!({}))], now);
                }
                if !live {
                    self.orphans.remove(&server);
                    self.publisher.forget(server);
                }
            }
        }
    }

    /// Tells the supervision what is there, and what no longer is.
    fn watch_over(&mut self, method: InstallMethod, observed: &BTreeMap<ServerId, Observation>, too_old: &[ServerId]) {
        let Some(driver) = self.drivers.get(&method).cloned() else { return };
        let mut present = BTreeSet::new();
        for (server, observation) in observed {
            let (Some(record), Observation::Known(instances)) = (self.records.get(server), observation) else { continue };
            for instance in instances {
                present.insert(instance.id);
                // Until its start has been answered it is not the server's current one, and a Ready
                // that came so early would be passed over.
                if self.in_flight.get(server) == Some(&StepKind::Start) {
                    continue;
                }
                self.watched.insert(instance.id, (*server, method));
                self.supervision.watch(Watched {
                    instance: instance.clone(),
                    spec: Arc::new(record.spec.clone()),
                    driver: driver.clone(),
                    was_ready: record.tried.instance == Some(instance.id) && record.tried.ready_at.is_some(),
                });
            }
        }
        let is_gone =
            |id: &InstanceId, server: &ServerId, of: InstallMethod| of == method && !present.contains(id) && !too_old.contains(server);
        let gone: Vec<_> =
            self.watched.iter().filter(|(id, (server, of))| is_gone(id, server, *of)).map(|(id, (server, _))| (*id, *server)).collect();
        for (instance, server) in gone {
            self.watched.remove(&instance);
            self.supervision.unwatch(server, instance);
        }
        let records = &self.records;
        let (gone, there): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.orphans)
            .into_iter()
            .partition(|(server, of)| *of == method && !observed.contains_key(server) && !too_old.contains(server));
        self.orphans = there;
        for server in gone.into_keys().filter(|server| !records.contains_key(server)) {
            self.publisher.forget(server);
        }
    }

    fn install_keys(&self, observed: &BTreeMap<ServerId, Observation>) -> BTreeMap<ServerId, String> {
        let key = |server: &ServerId| {
            let record = self.records.get(server)?;
            let driver = self.drivers.get(&record.spec.run.game_id.method())?;
            Some((*server, driver.install_key(&record.spec)))
        };
        observed.keys().filter_map(key).collect()
    }

    fn note_beginning(&mut self, step: &Step, now: Timestamp) {
        let server = step.server();
        let Some(record) = self.records.get_mut(&server) else { return };
        let happenings = begin(record, step, now, crate::clock::new_instance_id());
        self.dirty.insert(server);
        self.tell(server, happenings, now);
    }

    fn act(&mut self, step: Step) {
        let server = step.server();
        let Some(record) = self.records.get(&server) else { return };
        let named = match &step {
            Step::Stop { instance, .. } | Step::Remove { instance, .. } => Some(*instance),
            Step::Install { .. } | Step::Start { .. } | Step::Purge { .. } => None,
        };
        let instance = match self.observed.get(&server) {
            Some(Observation::Known(instances)) => instances.iter().find(|instance| Some(instance.id) == named).cloned(),
            Some(Observation::Unknown { .. }) | None => None,
        };
        let job = Job {
            step: step.clone(),
            spec: record.spec.clone(),
            instance,
            starting: record.tried.starting,
            driver: self.drivers.get(&record.spec.run.game_id.method()).cloned(),
            supervision: self.supervision.clone(),
            lease: self.lease_of(&record.spec),
            host_wants: !record.is_said_here() && self.mode() == Mode::Normal && self.beat_sent.is_some() && self.revision >= self.host_at,
            asides: self.asides.clone(),
        };
        self.in_flight.insert(server, step.kind());
        self.running.insert(server, (self.steps.spawn(execute(job)), step));
    }
}
