//! The host's database.

use std::collections::BTreeMap;

use manman_common::session::SessionTerms;
use manman_common::wire::ProcessIdentity;
use manman_common::{DesiredState, Generation, Phase, Revision, ServerId, ServerSpec, SessionEpoch};
use uuid::Uuid;

use crate::admission::Ledger;

#[derive(Clone)]
pub(super) struct HostDb {
    pub(super) timeline: Uuid,
    pub(super) workers: Vec<WorkerRow>,
    pub(super) servers: BTreeMap<ServerId, ServerRow>,
    pub(super) releases: BTreeMap<(ServerId, usize), Release>,
    /// By worker and number.
    pub(super) events: BTreeMap<(usize, u64), u64>,
}

#[derive(Clone, Default)]
pub(super) struct WorkerRow {
    pub(super) ledger: Ledger,
    /// A session exists.
    pub(super) open: bool,
    pub(super) process: Option<ProcessIdentity>,
    pub(super) rebased: Option<Uuid>,
    /// The timeline in which its inventory was last held against the tables.
    pub(super) lifted: Option<Uuid>,
    /// The timeline that the worker goes with.
    pub(super) follows: Option<Uuid>,
    pub(super) fenced: bool,
    pub(super) at_home: bool,
}

#[derive(Clone)]
pub(super) struct ServerRow {
    pub(super) spec: ServerSpec,
    pub(super) worker: usize,
    pub(super) revision: Revision,
    /// Phase and generation as its worker said last, and in which session.
    pub(super) status: Option<(Phase, Generation, SessionEpoch)>,
}

/// What a worker had and must let go of. It stays for ever: an old database may bring it back.
#[derive(Clone)]
pub(super) struct Release {
    pub(super) spec: ServerSpec,
    pub(super) revision: Revision,
    pub(super) gone: bool,
}

impl HostDb {
    pub(super) fn terms(&self, worker: usize) -> SessionTerms {
        let row = &self.workers[worker];
        SessionTerms { timeline: Some(self.timeline), rebased: row.rebased == Some(self.timeline), quarantine: row.ledger.quarantine }
    }

    pub(super) fn next_revision(&mut self, worker: usize) -> Revision {
        let ledger = &mut self.workers[worker].ledger;
        ledger.desired_revision = ledger.desired_revision.next();
        ledger.desired_revision
    }

    /// A server's row has changed: its worker must hear of it.
    pub(super) fn touch(&mut self, server: ServerId) {
        let worker = self.servers[&server].worker;
        let revision = self.next_revision(worker);
        if let Some(row) = self.servers.get_mut(&server) {
            row.revision = revision;
            row.spec.generation = row.spec.generation.next();
        }
    }

    pub(super) fn specs(&self, worker: usize) -> impl Iterator<Item = (&ServerSpec, Revision)> {
        let own = self.servers.values().filter(move |row| row.worker == worker).map(|row| (&row.spec, row.revision));
        let released = self.releases.iter().filter(move |((_, of), release)| *of == worker && !release.gone);
        own.chain(released.map(|(_, release)| (&release.spec, release.revision)))
    }

    /// The server goes to another worker, in a new epoch; the old one lets go.
    pub(super) fn give(&mut self, server: ServerId, to: usize, epoch: u64) {
        let Some(row) = self.servers.get(&server) else { return };
        let from = row.worker;
        // Above all that anybody was told: a generation has one content, whoever is told of it.
        let told = self.releases.range((server, 0)..=(server, usize::MAX)).map(|(_, release)| release.spec.generation);
        let generation = told.fold(row.spec.generation, Generation::max).next();
        let spec = ServerSpec { epoch, generation, desired: DesiredState::Deleted, ..row.spec.clone() };
        let revision = self.next_revision(from);
        self.releases.insert((server, from), Release { spec, revision, gone: false });
        self.releases.remove(&(server, to));
        if let Some(row) = self.servers.get_mut(&server) {
            row.worker = to;
            row.spec.epoch = epoch;
            row.spec.generation = generation;
            row.status = None;
        }
        self.touch(server);
    }
}
