//! The worker's own row: who it is, how far it has heard, which process wrote last.

use manman_common::session::Memory;
use manman_common::wire::ProcessIdentity;
use manman_common::{Name, Revision, SessionEpoch, WorkerId};
use manman_link::trust::Trust;
use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use super::identity::IdentityFile;
use super::{Store, StoreError};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    pub worker_id: Option<WorkerId>,
    /// Its own token at the host.
    pub token: Option<String>,
    pub name: Option<Name>,
    /// The host that this identity is with.
    pub host_id: Option<uuid::Uuid>,
    pub session_epoch: SessionEpoch,
    /// Everything that the host said up to here is stored; written only together with it.
    pub observed_revision: Revision,
    pub frozen: bool,
    /// Whose word is taken, and whether this database's own memory is.
    pub trust: Trust,
    /// This database has had a session with its host. One that has not is new, or was lost and made
    /// anew: it remembers nothing, and nothing wrong.
    pub had_session: bool,
    /// A person at this machine has said that nothing may start here.
    pub fenced: bool,
    /// The process that last had this database.
    pub process: Option<ProcessIdentity>,
    /// The token that callers of the worker's own listener show.
    pub api_token: Option<String>,
}

impl Store {
    pub async fn meta(&self) -> Result<Meta, StoreError> {
        self.transaction("read the worker's identity", read).await
    }

    /// What a registration shows of this database's memory.
    pub async fn memory(&self) -> Result<Memory, StoreError> {
        const WHAT: &str = "read the worker's memory";
        self.transaction(WHAT, |transaction| {
            let meta = read(transaction)?;
            let (state_seq, events_stored): (i64, i64) = transaction
                .query_row("SELECT state_seq, events_stored FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(|source| StoreError::sql(WHAT, source))?;
            Ok(Memory {
                resume_token: meta.trust.resume_token,
                session_epoch: meta.session_epoch,
                state_seq: u64::try_from(state_seq).unwrap_or(0),
                have_revision: meta.observed_revision,
                events_stored: u64::try_from(events_stored).unwrap_or(0),
                timeline: meta.trust.timeline,
                blank: !meta.had_session,
                machine: meta.trust.here,
            })
        })
        .await
    }

    /// Changes the row and answers what it is then.
    pub async fn update_meta(&self, change: impl FnOnce(&mut Meta) + Send + 'static) -> Result<Meta, StoreError> {
        let identity = self.identity.clone();
        self.transaction("store the worker's identity", move |transaction| {
            let before = read(transaction)?;
            let mut after = before.clone();
            change(&mut after);
            write(transaction, &after)?;
            // Before the commit: a file that is ahead by one crash names the same worker still.
            if IdentityFile::differs(&before, &after) {
                identity.write(&after)?;
            }
            Ok(after)
        })
        .await
    }
}

pub(super) fn read(transaction: &Transaction<'_>) -> Result<Meta, StoreError> {
    let text: String = transaction
        .query_row("SELECT value FROM meta", [], |row| row.get(0))
        .map_err(|source| StoreError::sql("read the worker's identity", source))?;
    serde_json::from_str(&text).map_err(|source| StoreError::Json { what: "the worker's identity", source })
}

pub(super) fn write(transaction: &Transaction<'_>, meta: &Meta) -> Result<(), StoreError> {
    let text = serde_json::to_string(meta).map_err(|source| StoreError::Json { what: "the worker's identity", source })?;
    transaction.execute("UPDATE meta SET value = ?1", [text]).map_err(|source| StoreError::sql("store the worker's identity", source))?;
    Ok(())
}
