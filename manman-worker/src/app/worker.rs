//! The worker as its API and its link see it: one place for what both may ask of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use manman_common::client::{Client, Endpoint};
use manman_common::link::IndexEntry;
use manman_common::session::{Quarantine, SessionTerms};
use manman_common::wire::{DriverReport, MachineUsage, ProcessIdentity, Registered};
use manman_common::{Revision, ServerId, ServerSpec};
use manman_link::trust::Trust;
use manman_worker_core::{LocalChange, Record};
use tokio::sync::watch;

use super::ExitReason;
use crate::action::Actions;
use crate::api::error_chain;
use crate::config::Config;
use crate::console::Console;
use crate::driver::Driver;
use crate::driver::docker::DockerDriver;
use crate::host_link::{CallDesk, Heard, LinkControl, LinkState, Registration, beat_body};
use crate::logs::{LogBook, LogBooks};
use crate::machine::{self, UsageMeter};
use crate::metrics::Metrics;
use crate::reconcile::{Created, ReconcileError, ReconcileHandle, Statuses};
use crate::standing::Standing;
use crate::store::{Meta, Store, StoreError};

/// An engine that does not say its version in this time is not well, and the registration goes on
/// without it.
const REPORT_WITHIN: Duration = Duration::from_secs(3);

pub(super) struct WorkerParts {
    pub(super) config: Config,
    pub(super) data_dir: PathBuf,
    pub(super) process: ProcessIdentity,
    pub(super) api_address: SocketAddr,
    pub(super) api_token: String,
    pub(super) store: Store,
    pub(super) reconcile: ReconcileHandle,
    pub(super) logs: LogBooks,
    pub(super) metrics: Metrics,
    pub(super) console: Console,
    pub(super) drivers: Vec<Arc<dyn Driver>>,
    pub(super) docker: Option<Arc<DockerDriver>>,
    pub(super) registration: Option<Registration>,
    pub(super) revision: Revision,
    pub(super) standing: Standing,
}

pub(crate) struct Worker {
    pub(crate) config: Config,
    /// The host that was named or found.
    host: RwLock<Option<Endpoint>>,
    pub(crate) data_dir: PathBuf,
    pub(crate) process: ProcessIdentity,
    pub(crate) api_address: SocketAddr,
    pub(crate) api_token: String,
    pub(crate) store: Store,
    logs: LogBooks,
    pub(crate) metrics: Metrics,
    pub(crate) console: Console,
    pub(crate) actions: Actions,
    pub(crate) calls: CallDesk,
    pub(crate) link: LinkControl,
    /// Held while the host is asked whether this worker is as stale as it was told.
    pub(crate) stale: tokio::sync::Mutex<()>,
    pub(crate) link_state: watch::Sender<LinkState>,
    pub(crate) reconcile: ReconcileHandle,
    drivers: Vec<Arc<dyn Driver>>,
    docker: Option<Arc<DockerDriver>>,
    registration: Mutex<Option<Registration>>,
    revision: AtomicU64,
    standing: watch::Sender<Standing>,
    /// The host's terms as they are stored.
    terms: Mutex<Option<SessionTerms>>,
    end: watch::Sender<Option<ExitReason>>,
    meter: UsageMeter,
}

impl Worker {
    pub(super) fn new(parts: WorkerParts) -> Self {
        let state = LinkState { registration: parts.registration.clone(), ..LinkState::default() };
        Self {
            host: RwLock::new(parts.config.host.clone()),
            config: parts.config,
            actions: Actions::new(parts.store.clone(), parts.data_dir.clone()),
            data_dir: parts.data_dir,
            process: parts.process,
            api_address: parts.api_address,
            api_token: parts.api_token,
            store: parts.store,
            logs: parts.logs,
            metrics: parts.metrics,
            console: parts.console,
            calls: CallDesk::new(),
            link: LinkControl::default(),
            stale: tokio::sync::Mutex::default(),
            link_state: watch::Sender::new(state),
            reconcile: parts.reconcile,
            drivers: parts.drivers,
            docker: parts.docker,
            registration: Mutex::new(parts.registration),
            revision: AtomicU64::new(parts.revision.get()),
            standing: watch::Sender::new(parts.standing),
            terms: Mutex::default(),
            end: watch::Sender::new(None),
            meter: UsageMeter::default(),
        }
    }

    // What it is.

    pub(crate) fn registration(&self) -> Option<Registration> {
        self.registration.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that the host wanted up to here is stored.
    pub(crate) fn revision(&self) -> Revision {
        Revision::new(self.revision.load(Ordering::Relaxed))
    }

    pub(crate) fn is_frozen(&self) -> bool {
        let standing = self.standing();
        standing.frozen || standing.fenced
    }

    /// How far it goes by its own and its host's word.
    pub(crate) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub(crate) fn usage(&self) -> MachineUsage {
        self.meter.measure(&self.data_dir)
    }

    pub(crate) fn statuses(&self) -> Statuses {
        self.reconcile.statuses().borrow().clone()
    }

    pub(crate) fn watch_statuses(&self) -> watch::Receiver<Statuses> {
        self.reconcile.statuses()
    }

    pub(crate) fn watch_events(&self) -> watch::Receiver<u64> {
        self.store.event_seq()
    }

    pub(crate) async fn driver_reports(&self) -> Vec<DriverReport> {
        let mut reports = Vec::with_capacity(self.drivers.len());
        for driver in &self.drivers {
            let report = tokio::time::timeout(REPORT_WITHIN, driver.report()).await;
            reports.push(report.unwrap_or_else(|_| DriverReport {
                method: driver.method(),
                ready: false,
                version: None,
                problem: Some(format!("it did not answer within {} s", REPORT_WITHIN.as_secs())),
            }));
        }
        reports
    }

    /// A server's log, made if there is none yet.
    pub(crate) async fn log_of(&self, server: ServerId) -> std::io::Result<LogBook> {
        let logs = self.logs.clone();
        // The first look reads the end of a file.
        tokio::task::spawn_blocking(move || logs.open(server)).await.map_err(std::io::Error::other)?
    }

    // What is asked of it.

    pub(crate) async fn records(&self) -> Result<Vec<Record>, ReconcileError> {
        self.reconcile.records().await
    }

    pub(crate) async fn change_here(&self, server: ServerId, change: LocalChange) -> Result<bool, ReconcileError> {
        self.reconcile.change_here(server, change).await
    }

    pub(crate) async fn create_here(&self, spec: ServerSpec) -> Result<Created, ReconcileError> {
        self.reconcile.create_here(spec).await
    }

    pub(crate) async fn freeze(&self, frozen: bool) -> Result<(), ReconcileError> {
        self.reconcile.freeze(frozen).await?;
        self.standing.send_modify(|standing| standing.frozen = frozen);
        // The host hears of it now, not with the next beat.
        self.link.beat_now.notify_one();
        Ok(())
    }

    pub(super) async fn drain(&self, keep_servers: bool) -> Result<(), ReconcileError> {
        self.reconcile.drain(keep_servers).await
    }

    /// Has the worker end; the first reason counts.
    pub(crate) fn end(&self, reason: ExitReason) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(reason);
            first
        });
    }

    pub(super) fn ordered_end(&self) -> watch::Receiver<Option<ExitReason>> {
        self.end.subscribe()
    }

    // What the host has to do with it.

    /// Those of the host's index that are not stored as it has them.
    pub(crate) async fn differing(&self, index: BTreeMap<ServerId, IndexEntry>) -> Result<Vec<ServerId>, ReconcileError> {
        let stored = self.reconcile.index().await?;
        let differs = |server: &ServerId, entry: &IndexEntry| match stored.get(server) {
            None => true,
            Some(known) => entry.generation > known.generation || (entry.generation == known.generation && entry.hash != known.hash),
        };
        Ok(index.iter().filter(|(server, entry)| differs(server, entry)).map(|(server, _)| *server).collect())
    }

    /// Specs and revision are on the disk when this answers.
    pub(crate) async fn take_specs(&self, specs: Vec<ServerSpec>, revision: Revision) -> Result<(), ReconcileError> {
        let from = self.revision();
        if specs.is_empty() && from == revision {
            return Ok(());
        }
        self.reconcile.apply_specs(from, revision, specs).await?;
        self.revision.store(revision.get(), Ordering::Relaxed);
        Ok(())
    }

    /// Keeps what a registration gave, all of it on the disk before the first beat of its session.
    /// Another host counts its revisions anew.
    pub(crate) async fn keep_registration(
        &self,
        registration: &Registration,
        registered: &Registered,
        other_host: bool,
    ) -> Result<(), ReconcileError> {
        if other_host {
            self.take_specs(Vec::new(), Revision::default()).await?;
        }
        let stored = registration.clone();
        let (resume_token, terms) = (registered.resume_token.clone(), registered.terms.clone());
        let machine = machine::this_machine(&self.data_dir);
        let meta = self
            .store
            .update_meta(move |meta| {
                stored.write_to(meta);
                if other_host {
                    meta.trust = Trust { resume_token: None, timeline: None, foreign: None, ..meta.trust.clone() };
                }
                meta.trust.welcomed(resume_token, &terms, machine);
                meta.had_session = true;
            })
            .await?;
        self.stand(&meta).await?;
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner) = Some(registered.terms.clone());
        if let Some(docker) = &self.docker {
            docker.set_session_epoch(registration.session_epoch);
        }
        *self.registration.lock().unwrap_or_else(PoisonError::into_inner) = Some(registration.clone());
        Ok(())
    }

    pub(crate) async fn forget_registration(&self) -> Result<(), StoreError> {
        let forget = |meta: &mut Meta| {
            Registration::clear(meta);
            meta.token = Some(crate::clock::new_token("worker"));
            // Of another machine than its own it remains.
            let quarantine = meta.trust.quarantine.filter(|cause| *cause == Quarantine::OtherMachine);
            meta.trust = Trust { resume_token: None, timeline: None, foreign: None, quarantine, ..meta.trust.clone() };
        };
        let meta = self.store.update_meta(forget).await?;
        if let Err(error) = self.stand(&meta).await {
            tracing::error!(error = error_chain(&error), "what the worker may do is settled at its next start only");
        }
        *self.registration.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.link_state.send_modify(|state| *state = LinkState::default());
        Ok(())
    }

    /// The host's terms, as each beat repeats them; on the disk when this answers, so that they hold
    /// without it. `host_at` is how far the host's wishes went as it said them.
    pub(crate) async fn told(&self, terms: &SessionTerms, host_at: Revision) -> Result<Heard, ReconcileError> {
        let knows_all = self.revision() >= host_at;
        let is_lifted = terms.quarantine.is_none() && self.standing().quarantine.is_some();
        let heard = if is_lifted && !knows_all { Heard::BeforeItsWishes } else { Heard::InThisSession };
        let is_known = self.terms.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(terms);
        if is_known && !(is_lifted && knows_all) {
            return Ok(heard);
        }
        let told = terms.clone();
        let meta = self.store.update_meta(move |meta| meta.trust.told(&told, knows_all)).await?;
        self.stand(&meta).await?;
        if meta.trust.is_of_another_life(terms) {
            return Ok(Heard::InAnotherLife);
        }
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner) = Some(terms.clone());
        Ok(heard)
    }

    /// Has the loop go by what is stored, and tells a person where that has changed.
    async fn stand(&self, meta: &Meta) -> Result<(), ReconcileError> {
        let standing = Standing::of(meta);
        self.reconcile.stand(standing).await?;
        let changed = self.standing.send_if_modified(|now| {
            // Frozen goes its own way.
            let next = Standing { frozen: now.frozen, ..standing };
            std::mem::replace(now, next) != next
        });
        if !changed {
            return Ok(());
        }
        let standing = self.standing();
        match standing.attention(self.config.name.as_str()) {
            Some((text, hint)) => tracing::warn!(hint, "{text}"),
            None => tracing::info!("the worker goes by its host's word again"),
        }
        Ok(())
    }

    /// The host was found, or found elsewhere.
    pub(crate) fn set_host(&self, endpoint: Endpoint) {
        *self.host.write().unwrap_or_else(PoisonError::into_inner) = Some(endpoint);
    }

    /// The host as this worker speaks to it, where there is one that knows it.
    pub(crate) fn host_client(&self) -> Option<Client> {
        let endpoint = self.host.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        Client::new(endpoint, Some(self.registration()?.token)).ok()
    }

    /// Whether the host answers at all, whatever it says.
    pub(crate) async fn host_answers(&self) -> bool {
        let (Some(client), Some(registration)) = (self.host_client(), self.registration()) else { return false };
        let beat = beat_body(self, Some(registration.session_epoch), None);
        match client.worker_beat(registration.worker_id, &beat).await {
            Ok(_) => true,
            Err(error) => !error.is_unreachable(),
        }
    }
}
