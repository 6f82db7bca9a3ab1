//! Who this worker is, in a small file beside the database: should the database ever be lost, the
//! worker still knows its own containers by their labels, and its host knows it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Meta, StoreError};

pub(super) struct IdentityFile {
    path: PathBuf,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Identity {
    worker_id: Option<manman_common::WorkerId>,
    token: Option<String>,
    name: Option<manman_common::Name>,
    host_id: Option<uuid::Uuid>,
    session_epoch: manman_common::SessionEpoch,
    api_token: Option<String>,
}

impl IdentityFile {
    pub(super) fn beside(directory: &Path) -> Self {
        Self { path: directory.join("identity.json") }
    }

    /// Writes what of `meta` makes the identity, whole or not at all.
    pub(super) fn write(&self, meta: &Meta) -> Result<(), StoreError> {
        let identity = Identity {
            worker_id: meta.worker_id,
            token: meta.token.clone(),
            name: meta.name.clone(),
            host_id: meta.host_id,
            session_epoch: meta.session_epoch,
            api_token: meta.api_token.clone(),
        };
        let text = serde_json::to_vec_pretty(&identity).map_err(|source| StoreError::Json { what: "the worker's identity", source })?;
        let temporary = self.path.with_extension("json.new");
        let failed = |source| StoreError::File { what: "write", path: self.path.clone(), source };
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&temporary, &self.path).map_err(failed)
    }

    /// What the file says, as the beginning of a new database; nothing where there is no sound file.
    pub(super) fn read(&self) -> Option<Meta> {
        let identity: Identity = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        Some(Meta {
            worker_id: identity.worker_id,
            token: identity.token,
            name: identity.name,
            host_id: identity.host_id,
            session_epoch: identity.session_epoch,
            api_token: identity.api_token,
            ..Meta::default()
        })
    }

    pub(super) fn differs(before: &Meta, after: &Meta) -> bool {
        let key =
            |meta: &Meta| (meta.worker_id, meta.token.clone(), meta.name.clone(), meta.host_id, meta.session_epoch, meta.api_token.clone());
        key(before) != key(after)
    }
}
