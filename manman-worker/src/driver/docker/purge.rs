//! Deletes a server's directory, and nothing that a link in it points to.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::error;
use crate::driver::DriverError;

/// The standard library walks by directory handles and never follows a link, the directory's own
/// name included; the name is made of an id alone.
pub(super) async fn purge(dir: PathBuf) -> Result<(), DriverError> {
    let shown = dir.display().to_string();
    let deleted = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(&dir)).await;
    match deleted {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) if source.kind() == ErrorKind::NotFound => Ok(()),
        Ok(Err(source)) => Err(error::retry(format!("the directory {shown} can not be deleted"), source)),
        Err(source) => Err(error::retry(format!("the deletion of {shown} was cut short"), source)),
    }
}
