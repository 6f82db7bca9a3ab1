//! Records over a restart: in a file, or wherever the host keeps them.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use manman_common::wire::registry::ServiceName;
use serde::{Deserialize, Serialize};

use super::entry::Record;

/// Where records are kept.
pub enum Keep {
    Nowhere,
    /// All of them, in one file of JSON.
    File(PathBuf),
    Store(Box<dyn Store>),
}

/// Keeps single records.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    async fn load(&self) -> Result<Vec<Record>, StoreError>;

    /// Takes over what has changed, all of it or nothing.
    async fn save(&self, changes: Vec<Change>) -> Result<(), StoreError>;
}

/// What is to be kept of a name; nothing, where the record is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub name: ServiceName,
    pub record: Option<Record>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not {doing} `{}`", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("could not use the registry's tables")]
    Foreign(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    services: Vec<Record>,
}

const VERSION: u32 = 1;

/// What a file says; one that can not be understood is set aside, and the registry begins empty:
/// its services register again by themselves.
pub(super) fn read(path: &Path) -> Result<Vec<Record>, StoreError> {
    let fault = |doing| move |source| StoreError::File { doing, path: path.to_owned(), source };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault("read")(error)),
    };
    match serde_json::from_slice::<Snapshot>(&text) {
        Ok(snapshot) if snapshot.version == VERSION => Ok(snapshot.services),
        Ok(_) | Err(_) => {
            let aside = path.with_extension("unreadable");
            std::fs::rename(path, &aside).map_err(fault("set aside"))?;
            tracing::warn!(file = %path.display(), aside = %aside.display(), "the registry's file makes no sense and is set aside");
            Ok(Vec::new())
        }
    }
}

/// Replaces the file in one step, readable by its owner alone.
pub(super) fn write(path: &Path, services: Vec<Record>) -> Result<(), StoreError> {
    let fault = |doing| move |source| StoreError::File { doing, path: path.to_owned(), source };
    // Text, numbers and lists of them: it can always be written.
    let text = serde_json::to_vec(&Snapshot { version: VERSION, services }).unwrap_or_default();
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fault("remove the left-over of")(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(fault("write a successor of"))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(fault("write a successor of"))?;
    std::fs::rename(&fresh, path).map_err(fault("replace"))
}
