//! The identity that containers are labelled with. It belongs to the data directory: a worker that
//! joins another host, or the same one as a new worker, still knows the games it has started.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use manman_common::WorkerId;

use super::RunError;
use crate::config::Config;
use crate::host_link::{Registration, reserve_id};
use crate::identity::DataDir;
use crate::{api, clock};

/// A worker without any server waits so long for its host's name for it, and then makes up its own.
const FIRST_CONTACT: Duration = Duration::from_secs(3);

pub(crate) const FILE: &str = "label-id";

/// The directory's label: the one it has, or at its first start the id that the host has for it,
/// so that people find the same id in both places.
pub(super) async fn label(data_dir: &DataDir, config: &Config, registration: Option<&Registration>) -> Result<WorkerId, RunError> {
    let path = data_dir.path().join(FILE);
    if let Some(label) = read(&path) {
        return Ok(label);
    }
    let label = match (registration, &config.host) {
        (Some(registration), _) => registration.worker_id,
        (None, Some(host)) => {
            let reserving = reserve_id(host, config.join_token.as_deref(), &config.name);
            match tokio::time::timeout(FIRST_CONTACT, reserving).await {
                Ok(Ok(id)) => id,
                Ok(Err(error)) => {
                    tracing::debug!(error = api::error_chain(&error), "the host gave no id; containers get one of this worker's own");
                    WorkerId::from_uuid(clock::new_uuid())
                }
                Err(_) => WorkerId::from_uuid(clock::new_uuid()),
            }
        }
        (None, None) => WorkerId::from_uuid(clock::new_uuid()),
    };
    write(&path, label).map_err(|source| RunError::File { path, source })?;
    Ok(label)
}

/// The label of a directory, if a worker has ever run on it.
pub(crate) fn read(path: &Path) -> Option<WorkerId> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whole or not at all, and on the disk before any container bears it.
fn write(path: &Path, label: WorkerId) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{label}")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
