//! Where the orchestrator keeps what it knows over a restart.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

/// One document, replaced as a whole.
#[async_trait]
pub trait Store: Send + Sync {
    async fn load(&self) -> Result<Option<Vec<u8>>, StoreError>;
    async fn save(&self, document: Vec<u8>) -> Result<(), StoreError>;
}

#[derive(Debug, thiserror::Error)]
#[error("could not {doing} what the orchestrator knows in {place}")]
pub struct StoreError {
    pub doing: &'static str,
    pub place: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A file, replaced in one step and readable by its owner alone.
#[derive(Clone, Debug)]
pub struct FileStore {
    path: PathBuf,
}

impl FileStore {
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn error(&self, doing: &'static str) -> impl Fn(std::io::Error) -> StoreError {
        let place = format!("`{}`", self.path.display());
        move |source| StoreError { doing, place: place.clone(), source: Box::new(source) }
    }
}

#[async_trait]
impl Store for FileStore {
    async fn load(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match tokio::fs::read(&self.path).await {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("read")(error)),
        }
    }

    async fn save(&self, document: Vec<u8>) -> Result<(), StoreError> {
        let path = self.path.clone();
        let saved = tokio::task::spawn_blocking(move || write_private(&path, &document)).await;
        saved.map_err(|_| self.error("write")(std::io::Error::other("it was cut short")))?.map_err(self.error("write"))
    }
}

/// Replaces a file in one step, with rights for its owner alone.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    // A left-over of a crash may have other rights.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

/// Nothing is kept: for tests, and for whoever wants it so.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStore;

#[async_trait]
impl Store for NoStore {
    async fn load(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }

    async fn save(&self, _document: Vec<u8>) -> Result<(), StoreError> {
        Ok(())
    }
}
