//! `context.toml` in the data directory: how this machine's own programs reach the host.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Context {
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) internal_url: Option<String>,
    #[serde(default)]
    pub(crate) token: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("could not {doing} `{}`", path.display())]
pub struct ContextError {
    doing: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

fn file(data: &Path) -> PathBuf {
    data.join("context.toml")
}

/// What an earlier host has left; one that can not be read is as good as none, and written anew.
pub(crate) fn read(data: &Path) -> Result<Option<Context>, ContextError> {
    let path = file(data);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(toml::from_str(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ContextError { doing: "read", path, source }),
    }
}

/// Replaces the file in one step, readable by its owner alone.
pub(crate) fn write(data: &Path, context: &Context) -> Result<(), ContextError> {
    let path = file(data);
    let fresh = data.join(".context.toml.new");
    let text = toml::to_string(context).unwrap_or_default();
    let written = (|| {
        // A left-over of a crash may have other rights.
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)
    })();
    written.map_err(|source| ContextError { doing: "write", path, source })
}

/// The data directory itself, for its owner alone where we make it.
pub(crate) fn make_data_dir(data: &Path) -> Result<(), ContextError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|source| ContextError { doing: "make the directory", path: data.to_owned(), source })
}
