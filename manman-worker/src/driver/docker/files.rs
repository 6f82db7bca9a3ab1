//! Configuration files of a game in a container, written into its data directory before each start.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use manman_common::ServerSpec;

use super::error;
use super::volumes::gives_away;
use crate::driver::{DriverError, DriverErrorKind};

pub(super) async fn write(spec: &ServerSpec, data: PathBuf) -> Result<(), DriverError> {
    if spec.run.files.is_empty() {
        return Ok(());
    }
    let files = spec.run.files.clone();
    let written = tokio::task::spawn_blocking(move || {
        // New files are the game's, as its directory is. A worker that may give nothing away does not:
        // its files are then for everybody to read who gets as far as the directory.
        let owner = std::fs::metadata(&data).ok().map(|meta| (meta.uid(), meta.gid()));
        manman_config_files::write(&data, &files, owner.filter(|_| gives_away()))
    });
    let written = written.await.map_err(|source| error::retry("the writing of its configuration files broke off", source))?;
    written.map(drop).map_err(|source| DriverError {
        kind: if source.is_of_the_machine() { DriverErrorKind::Retry } else { DriverErrorKind::Final },
        what: "its configuration files can not be written".to_owned(),
        hint: Some(source.hint()),
        source: Some(source.into()),
    })
}
