//! The loop's answers to the rest of the worker.

use std::collections::BTreeMap;

use manman_common::link::{IndexEntry, spec_hash};
use manman_common::{DesiredState, Revision, ServerId, ServerSpec};
use manman_worker_core::{Happening, Instance, LocalChange, Observation, Offer, Origin, Record, Tried, change_here, offer, retry};
use serde_json::json;

use super::handle::{Applied, Created, ReconcileError, Request};
use super::task::Reconciler;
use crate::standing::Standing;
use crate::store::Commit;

impl Reconciler {
    /// Answers one request. An answer that nobody waits for any more is dropped.
    pub(super) async fn serve(&mut self, request: Request) {
        match request {
            Request::Wake => self.look_everywhere(),
            Request::ApplySpecs { from, to, specs, answer } => {
                let _ = answer.send(self.apply_specs(from, to, specs).await);
            }
            Request::Index { answer } => {
                let of_host = self.records.values().filter(|record| record.origin == Origin::Host);
                let entry = |record: &Record| IndexEntry { generation: record.spec.generation, hash: record.offered_hash };
                let _ = answer.send(Ok(of_host.map(|record| (record.spec.id, entry(record))).collect::<BTreeMap<_, _>>()));
            }
            Request::Records { answer } => {
                let _ = answer.send(Ok(self.records.values().cloned().collect()));
            }
            Request::Create { spec, answer } => {
                let _ = answer.send(self.create_here(*spec).await);
            }
            Request::Change { server, change, answer } => {
                let _ = answer.send(self.change_here(server, change).await);
            }
            Request::Retry { server, answer } => {
                let result = self.change_record(server, |record| {
                    retry(record);
                    vec![Happening::new("server.retried", "is tried again, as a person asked", json!({}))]
                });
                let _ = answer.send(result.await);
            }
            Request::Hold { server, held, answer } => {
                let result = match self.records.get_mut(&server) {
                    Some(record) => {
                        record.tried.held = held;
                        self.look_everywhere();
                        Ok(())
                    }
                    None => Err(ReconcileError::NoSuchServer(server)),
                };
                let _ = answer.send(result);
            }
            Request::Renew { server, answer } => {
                let result = self.change_record(server, |record| {
                    record.tried.installed = None;
                    retry(record);
                    vec![Happening::new("server.update", "is to have the newest build of its game", json!({}))]
                });
                let _ = answer.send(result.await);
            }
            Request::Freeze { frozen, answer } => {
                let _ = answer.send(self.freeze(frozen).await);
            }
            Request::Stand { standing, answer } => {
                // Frozen is changed in its own way, and may have changed since this was read.
                let standing = Standing { frozen: self.standing.frozen, ..standing };
                if std::mem::replace(&mut self.standing, standing) != standing {
                    self.look_everywhere();
                }
                let _ = answer.send(Ok(()));
            }
            Request::LeaseRenewed { sent, host_at } => self.lease_renewed(sent, host_at),
            Request::Drain { keep_servers, answer } => self.begin_drain(keep_servers, answer),
            Request::Instance { server, answer } => {
                let current = self.records.get(&server).and_then(|record| record.tried.instance);
                let instance = match self.observed.get(&server) {
                    Some(Observation::Known(instances)) => {
                        instances.iter().find(|instance| Some(instance.id) == current && instance.is_live()).cloned()
                    }
                    Some(Observation::Unknown { .. }) | None => None,
                };
                let _ = answer.send(Ok::<Option<Instance>, ReconcileError>(instance));
            }
        }
    }

    async fn apply_specs(&mut self, from: Revision, to: Revision, specs: Vec<ServerSpec>) -> Result<Applied, ReconcileError> {
        if from != self.revision {
            return Err(ReconcileError::RevisionGap { from, have: self.revision });
        }
        let mut touched: BTreeMap<ServerId, Record> = BTreeMap::new();
        for spec in &specs {
            touched.extend(self.records.get(&spec.id).map(|record| (spec.id, record.clone())));
        }
        let mut accepted = Vec::new();
        let mut refused = Vec::new();
        for spec in specs {
            let (server, generation) = (spec.id, spec.generation);
            match offer(&mut touched, spec) {
                Offer::Accepted => accepted.push(server),
                Offer::Unchanged => {}
                why @ (Offer::Stale | Offer::ConflictingSameGeneration | Offer::OwnedHere) => {
                    tracing::warn!(server.id = %server, generation = %generation, ?why, "a wish of the host's is refused");
                    refused.push((server, why));
                }
            }
        }
        let records: Vec<Record> = accepted.iter().filter_map(|server| touched.get(server)).cloned().collect();
        self.store.commit(Commit { records: records.clone(), observed_revision: Some(to), ..Commit::default() }).await?;
        let was_behind = self.revision < self.host_at;
        self.revision = to;
        self.records.extend(records.into_iter().map(|record| (record.spec.id, record)));
        if was_behind || !accepted.is_empty() {
            accepted.iter().for_each(|server| self.tell_lease(*server));
            self.look_everywhere();
        }
        Ok(Applied { revision: to, refused })
    }

    async fn create_here(&mut self, spec: ServerSpec) -> Result<Created, ReconcileError> {
        let (server, desired, offered_hash) = (spec.id, spec.desired, spec_hash(&spec));
        if let Some(known) = self.records.get(&server) {
            return Ok(if known.offered_hash == offered_hash { Created::Same } else { Created::Conflict });
        }
        let record = Record { spec, origin: Origin::Here, offered_hash, changed_here: false, tried: Tried::default() };
        self.store.commit(Commit { records: vec![record.clone()], ..Commit::default() }).await?;
        self.records.insert(server, record);
        if desired == DesiredState::Running {
            self.take_up(server).await;
        }
        let message = "was created at this machine, without the host";
        self.tell(server, vec![Happening::new("server.created_here", message, json!({}))], self.now());
        self.look_everywhere();
        Ok(Created::New)
    }

    async fn change_here(&mut self, server: ServerId, change: LocalChange) -> Result<bool, ReconcileError> {
        if change == LocalChange::Start {
            // First: what is stored to run and refused by its data would stay so.
            self.take_up(server).await;
        }
        let mut changed = false;
        self.change_record(server, |record| {
            changed = change_here(record, change);
            let (wish, data) = match change {
                LocalChange::Start => ("started", json!({ "desired": "running" })),
                LocalChange::Stop(mode) => ("stopped", json!({ "desired": "stopped", "stop_mode": mode })),
                LocalChange::Delete { purge } => ("deleted", json!({ "desired": "deleted", "purge": purge })),
            };
            let message = format!("is to be {wish}, as somebody asked at this machine");
            if changed { vec![Happening::new("server.changed_here", message, data)] } else { Vec::new() }
        })
        .await?;
        Ok(changed)
    }

    /// Changes a record on the disk first, then in memory.
    async fn change_record(&mut self, server: ServerId, change: impl FnOnce(&mut Record) -> Vec<Happening>) -> Result<(), ReconcileError> {
        let mut record = self.records.get(&server).cloned().ok_or(ReconcileError::NoSuchServer(server))?;
        let happenings = change(&mut record);
        self.store.commit(Commit { records: vec![record.clone()], ..Commit::default() }).await?;
        self.records.insert(server, record);
        self.tell(server, happenings, self.now());
        self.look_everywhere();
        Ok(())
    }

    async fn freeze(&mut self, frozen: bool) -> Result<(), ReconcileError> {
        self.store.commit(Commit { frozen: Some(frozen), ..Commit::default() }).await?;
        self.standing.frozen = frozen;
        self.look_everywhere();
        Ok(())
    }
}
