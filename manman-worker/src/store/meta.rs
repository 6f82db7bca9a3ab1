//! The worker's own row: who it is, how far it has heard, which process wrote last.

use manman_common::wire::ProcessIdentity;
use manman_common::{Name, Revision, SessionEpoch, WorkerId};
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
    /// The process that last had this database.
    pub process: Option<ProcessIdentity>,
    /// The token that callers of the worker's own listener show.
    pub api_token: Option<String>,
}

impl Store {
    pub async fn meta(&self) -> Result<Meta, StoreError> {
        self.transaction("read the worker's identity", read).await
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
