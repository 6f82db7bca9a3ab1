//! What of the feed a caller sees: all of it, or what concerns one server.

use std::collections::BTreeMap;

use manman_common::wire::{Capabilities, WorkerView};
use manman_common::{Revision, ServerId, SessionEpoch};

use crate::http::auth::{Caller, Permission};
use crate::http::error::ApiError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Fleet,
    /// This server, its events, and how its worker is called and does.
    Server(ServerId),
}

impl Sight {
    pub(super) fn of(caller: &Caller) -> Result<Self, ApiError> {
        match caller.server_id {
            Some(server) if !caller.allows(Permission::SeeFleet) => Ok(Self::Server(server)),
            _ => caller.require(Permission::SeeFleet).map(|()| Self::Fleet),
        }
    }
}

/// A worker as who sees one server alone may see it.
pub(super) fn brief(worker: &WorkerView) -> WorkerView {
    WorkerView {
        id: worker.id,
        name: worker.name.clone(),
        status: worker.status,
        status_since: worker.status_since,
        frozen: worker.frozen,
        address: String::new(),
        api_url: None,
        labels: BTreeMap::new(),
        capabilities: Capabilities::default(),
        usage: None,
        session_epoch: SessionEpoch::default(),
        desired_revision: Revision::default(),
        observed_revision: Revision::default(),
        linked: worker.linked,
        quarantine: None,
        rebase_needed: false,
        last_seen: worker.last_seen,
        servers: 0,
        created_at: worker.created_at,
    }
}
