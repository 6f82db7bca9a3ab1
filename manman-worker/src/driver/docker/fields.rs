//! Names and labels: by them a container is known as this worker's, and as which instance of what.

use std::collections::HashMap;

use manman_common::{Generation, InstanceId, ServerId, ServerSpec, SessionEpoch, WorkerId};

pub(super) const WORKER: &str = "manman.worker";
const SERVER: &str = "manman.server";
const INSTANCE: &str = "manman.instance";
const GENERATION: &str = "manman.generation";
const RESTART_SEQ: &str = "manman.restart_seq";
const RUN_HASH: &str = "manman.run_hash";
const SESSION_EPOCH: &str = "manman.session_epoch";

/// What the labels of one of our containers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) worker: WorkerId,
    pub(super) server: ServerId,
    pub(super) instance: InstanceId,
    pub(super) generation: Generation,
    pub(super) restart_seq: u64,
    pub(super) run_hash: u64,
}

impl Fields {
    pub(super) fn new(worker: WorkerId, spec: &ServerSpec, instance: InstanceId) -> Self {
        Self {
            worker,
            server: spec.id,
            instance,
            generation: spec.generation,
            restart_seq: spec.restart_seq,
            run_hash: manman_worker_core::run_hash(&spec.run),
        }
    }

    pub(super) fn to_labels(&self, epoch: SessionEpoch) -> HashMap<String, String> {
        HashMap::from([
            (WORKER.to_owned(), self.worker.to_string()),
            (SERVER.to_owned(), self.server.to_string()),
            (INSTANCE.to_owned(), self.instance.to_string()),
            (GENERATION.to_owned(), self.generation.to_string()),
            (RESTART_SEQ.to_owned(), self.restart_seq.to_string()),
            (RUN_HASH.to_owned(), format!("{:016x}", self.run_hash)),
            (SESSION_EPOCH.to_owned(), epoch.to_string()),
        ])
    }

    /// `None` for a container that is not an instance of ours, such as one made to look into an image.
    pub(super) fn from_labels(labels: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            worker: labels.get(WORKER)?.parse().ok()?,
            server: labels.get(SERVER)?.parse().ok()?,
            instance: labels.get(INSTANCE)?.parse().ok()?,
            generation: Generation::new(labels.get(GENERATION)?.parse().ok()?),
            restart_seq: labels.get(RESTART_SEQ)?.parse().ok()?,
            run_hash: u64::from_str_radix(labels.get(RUN_HASH)?, 16).ok()?,
        })
    }

    /// The last digits are used where a name is short: the first of a UUIDv7 are its time, which two
    /// starts within a minute share.
    pub(super) fn container_name(&self) -> String {
        format!("manman-{}-{}-{}", tail(&self.worker.to_string()), self.server, tail(&self.instance.to_string()))
    }
}

/// The filter by which the engine shows a worker its own containers alone.
pub(super) fn own(worker: WorkerId) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{WORKER}={worker}")])])
}

fn tail(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}
