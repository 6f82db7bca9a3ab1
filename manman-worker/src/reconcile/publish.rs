//! What the loop says of its servers: the plan's statuses, with what changes by the second on top.

use std::collections::BTreeMap;
use std::sync::Arc;

use manman_common::status::{Players, Progress, Usage};
use manman_common::{InstanceId, Phase, ServerId, ServerStatus};
use tokio::sync::watch;

use super::Statuses;

/// What is true for a moment, and so is never stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Passing {
    /// The instance that all but the progress is about.
    pub(super) instance: Option<InstanceId>,
    pub(super) players: Option<Players>,
    pub(super) extra: BTreeMap<String, serde_json::Value>,
    pub(super) usage: Option<Usage>,
    pub(super) progress: Option<Progress>,
}

pub(super) struct Publisher {
    /// The plan's word, and what is stored.
    planned: BTreeMap<ServerId, ServerStatus>,
    passing: BTreeMap<ServerId, Passing>,
    published: watch::Sender<Statuses>,
}

impl Publisher {
    pub(super) fn new(planned: BTreeMap<ServerId, ServerStatus>) -> Self {
        let published = watch::Sender::new(Arc::new(planned.clone()));
        Self { planned, passing: BTreeMap::new(), published }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Statuses> {
        self.published.subscribe()
    }

    pub(super) fn planned(&self) -> &BTreeMap<ServerId, ServerStatus> {
        &self.planned
    }

    /// Takes a plan's statuses and answers those that are new.
    pub(super) fn take(&mut self, statuses: BTreeMap<ServerId, ServerStatus>) -> Vec<ServerStatus> {
        let mut changed = Vec::new();
        for (server, status) in statuses {
            if self.planned.get(&server) != Some(&status) {
                changed.push(status.clone());
                self.planned.insert(server, status);
            }
        }
        changed
    }

    /// Drops what is neither recorded nor there any more: an orphan that has gone.
    pub(super) fn forget(&mut self, server: ServerId) {
        self.planned.remove(&server);
        self.passing.remove(&server);
        self.published.send_if_modified(|statuses| statuses.contains_key(&server) && Arc::make_mut(statuses).remove(&server).is_some());
    }

    pub(super) fn passing(&mut self, server: ServerId, instance: InstanceId) -> &mut Passing {
        let passing = self.passing.entry(server).or_default();
        if passing.instance != Some(instance) {
            *passing = Passing { instance: Some(instance), ..Passing::default() };
        }
        passing
    }

    pub(super) fn progress(&mut self, server: ServerId, progress: Option<Progress>) {
        match progress {
            Some(progress) => self.passing.entry(server).or_default().progress = Some(progress),
            None => {
                if let Some(passing) = self.passing.get_mut(&server) {
                    passing.progress = None;
                }
            }
        }
    }

    /// Shows the newest of these servers to everybody.
    pub(super) fn publish(&self, servers: impl IntoIterator<Item = ServerId>) {
        self.published.send_if_modified(|statuses| {
            let mut changed = false;
            for server in servers {
                let Some(status) = self.composed(server) else { continue };
                if statuses.get(&server) != Some(&status) {
                    Arc::make_mut(statuses).insert(server, status);
                    changed = true;
                }
            }
            changed
        });
    }

    fn composed(&self, server: ServerId) -> Option<ServerStatus> {
        let mut status = self.planned.get(&server)?.clone();
        if let Some(passing) = self.passing.get(&server) {
            if passing.instance.is_some() && passing.instance == status.instance {
                status.players = passing.players.clone();
                status.extra = passing.extra.clone();
                status.usage = passing.usage;
            }
            if status.phase == Phase::Installing {
                status.progress = passing.progress.clone();
            }
        }
        Some(status)
    }
}
