//! One worker as the host holds it in memory: its session, when it was last heard of, its link.
//!
//! A beat touches only this; what must outlive the host is written by [`super::status`].

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use manman_common::error::GoneReason;
use manman_common::wire::{MachineUsage, ProcessIdentity};
use manman_common::{Name, Revision, ServerId, SessionEpoch, Timestamp, WorkerId, WorkerStatus};
use manman_link::admission::{Current, gone};
use tokio_util::sync::CancellationToken;

use super::link::{Farewell, Link};
use super::standing::Standing;
use crate::clock;
use crate::db::worker::{Admission, SessionFacts, TrustFacts, WorkerRow};

/// Servers that a worker reports and this host knows nothing of; beyond this many they are looked
/// up again.
const STRANGERS_MAX: usize = 1024;

/// Anybody can try to register, without a token; the record of it must not grow as fast.
const IMPOSTOR_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: WorkerId,
    state: Mutex<State>,
    /// One writer at a time per worker, so that the database gets its words in their order.
    pub(crate) storing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) name: Name,
    pub(crate) admission: Admission,
    /// What a person wants.
    pub(crate) frozen: bool,
    /// What the worker last said of itself; a change of it is a person's wish at the machine.
    said_frozen: bool,
    pub(crate) status: WorkerStatus,
    /// What the database has.
    pub(crate) stored: (WorkerStatus, bool),
    pub(crate) epoch: SessionEpoch,
    /// None once it is revoked: the next word is answered with "register again".
    pub(crate) session: Option<Session>,
    /// When it was last heard of; the host's start, before its first word.
    pub(crate) last_seen: Instant,
    pub(crate) heard_at: Option<Timestamp>,
    pub(crate) unknown_since: Option<Instant>,
    pub(crate) kill_begun: bool,
    pub(crate) kill: Option<CancellationToken>,
    pub(crate) link: Option<Arc<Link>>,
    pub(crate) desired_revision: Revision,
    /// The desired revision may have grown; a beat looks it up.
    pub(crate) desired_stale: bool,
    pub(crate) observed_revision: Revision,
    pub(crate) usage: Option<MachineUsage>,
    /// Revision or usage are newer than in the database.
    pub(crate) unsaved: bool,
    pub(crate) api_url: Option<String>,
    pub(crate) api_token: Option<String>,
    /// Whether its memory is trusted.
    pub(crate) standing: Standing,
    strangers: HashSet<ServerId>,
    impostor_told: Option<Instant>,
}

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) process: Option<ProcessIdentity>,
    pub(crate) had_link: bool,
}

impl Machine {
    /// As the database has it, when the host starts. A worker that had been given up and has no
    /// process to its name lost its session to a kill attempt.
    pub(crate) fn of_row(row: WorkerRow) -> Arc<Self> {
        let now = clock::instant();
        let given_up = row.status == WorkerStatus::Unknown;
        let session = (!given_up || row.process.is_some()).then_some(Session { process: row.process, had_link: false });
        Arc::new(Self {
            id: row.id,
            storing: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                name: row.name,
                admission: row.admission,
                frozen: row.frozen,
                // Unheard of in this life of the host: whoever says so first is a person at the machine.
                said_frozen: false,
                status: row.status,
                stored: (row.status, row.frozen),
                epoch: row.session_epoch,
                kill_begun: given_up && session.is_none(),
                session,
                last_seen: now,
                heard_at: None,
                unknown_since: given_up.then_some(now),
                kill: None,
                link: None,
                desired_revision: row.desired_revision,
                desired_stale: false,
                observed_revision: row.observed_revision,
                usage: row.usage,
                unsaved: false,
                api_url: row.api_url,
                api_token: row.api_token,
                standing: Standing::of(&row.trust),
                strangers: HashSet::new(),
                impostor_told: None,
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its link, if that is open.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.lock().link.clone().filter(|link| !link.is_closed())
    }
}

impl State {
    /// A word has come from the worker; with what it says of itself, if it does.
    pub(crate) fn heard(&mut self, says: Option<WorkerStatus>) {
        self.last_seen = clock::instant();
        self.heard_at = Some(clock::now());
        self.forgive();
        if self.admission != Admission::Accepted {
            self.status = WorkerStatus::Pending;
            return;
        }
        match says {
            Some(WorkerStatus::Shutdown) => {
                self.status = WorkerStatus::Shutdown;
                return;
            }
            Some(WorkerStatus::Frozen) => {
                self.frozen |= !self.said_frozen;
                self.said_frozen = true;
            }
            Some(WorkerStatus::Alive) => {
                self.frozen &= !self.said_frozen;
                self.said_frozen = false;
            }
            // A frame that was under way when it said goodbye does not bring it back.
            None if self.status == WorkerStatus::Shutdown => return,
            None | Some(WorkerStatus::Pending | WorkerStatus::Unknown) => {}
        }
        self.status = self.working_status();
    }

    pub(crate) fn working_status(&self) -> WorkerStatus {
        if self.frozen { WorkerStatus::Frozen } else { WorkerStatus::Alive }
    }

    /// What the silence had brought about is over.
    fn forgive(&mut self) {
        self.unknown_since = None;
        self.kill_begun = false;
        if let Some(kill) = self.kill.take() {
            kill.cancel();
        }
    }

    /// Whether a message of this epoch is heard; if not, why. A kill attempt ends either way:
    /// whoever speaks is not dead.
    pub(crate) fn admits(&mut self, epoch: Option<SessionEpoch>) -> Result<(), GoneReason> {
        let open = self.session.is_some() && !self.standing.dismissed;
        let refused = gone(open, self.epoch, epoch);
        if refused == Some(GoneReason::Revoked)
            && let Some(kill) = self.kill.take()
        {
            kill.cancel();
        }
        refused.map_or(Ok(()), Err)
    }

    pub(crate) fn current_session(&self) -> Option<Current> {
        self.session.as_ref().map(|session| Current {
            process_gone: session.process.as_ref().is_some_and(super::process::has_ended),
            process: session.process.clone(),
            linked: self.link.as_ref().is_some_and(|link| !link.is_closed()),
            had_link: session.had_link,
            silent_for: clock::instant().saturating_duration_since(self.last_seen),
        })
    }

    /// Nothing has been heard for so long, unless a word has come since that was found. Whoever
    /// waits for it over the link hears at once that it is in vain.
    pub(crate) fn give_up(&mut self, silence: Duration) {
        let now = clock::instant();
        if now.saturating_duration_since(self.last_seen) < silence {
            return;
        }
        self.unknown_since = Some(now);
        self.status = WorkerStatus::Unknown;
        if let Some(link) = self.link.take() {
            link.close(Farewell { reason: None, detail: "nothing has been heard of the worker".to_owned() });
        }
    }

    /// Somebody tried to register as this worker; whether people are told, once a minute at most.
    pub(crate) fn note_impostor(&mut self) -> bool {
        let now = clock::instant();
        let told = self.impostor_told.is_some_and(|at| now.saturating_duration_since(at) < IMPOSTOR_EVERY);
        if !told {
            self.impostor_told = Some(now);
        }
        !told
    }

    /// A new session has been stored under this epoch.
    pub(crate) fn begin(&mut self, epoch: SessionEpoch, facts: &SessionFacts, trust: &TrustFacts) {
        let old = self.session.take().and_then(|session| session.process).map(|process| (self.epoch, process));
        self.standing.begin(trust, old, facts.process.as_ref());
        self.desired_stale = true;
        if let Some(link) = self.link.take() {
            link.close(Farewell { reason: Some(GoneReason::Superseded), detail: "another session of this worker has begun".to_owned() });
        }
        self.epoch = epoch;
        self.session = Some(Session { process: facts.process.clone(), had_link: false });
        self.api_url.clone_from(&facts.api_url);
        self.api_token.clone_from(&facts.api_token);
        self.status = self.working_status();
        self.heard(None);
    }

    /// The session was revoked under this epoch.
    pub(crate) fn revoke(&mut self, epoch: SessionEpoch) {
        let process = self.session.take().and_then(|session| session.process);
        self.standing.revoked(self.epoch, process);
        self.epoch = epoch;
        if let Some(link) = self.link.take() {
            link.close(Farewell { reason: Some(GoneReason::Revoked), detail: "the host gave this worker up".to_owned() });
        }
    }

    /// A person's wish; the worker is told by whoever has its link.
    pub(crate) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
        if matches!(self.status, WorkerStatus::Alive | WorkerStatus::Frozen) {
            self.status = self.working_status();
        }
    }

    pub(crate) fn is_stranger(&self, server: ServerId) -> bool {
        self.strangers.contains(&server)
    }

    pub(crate) fn note_strangers(&mut self, servers: impl Iterator<Item = ServerId>) {
        self.strangers.extend(servers);
        if self.strangers.len() > STRANGERS_MAX {
            self.strangers.clear();
        }
    }

    /// What the worker should do has changed; what was strange may be its own now.
    pub(crate) fn desired_changed(&mut self) {
        self.desired_stale = true;
        self.strangers.clear();
    }
}
