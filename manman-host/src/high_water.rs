//! How far the database had come, as a file beside it: a database that is behind it was restored.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HighWater {
    /// Whose database it is; another one is no older one.
    pub host_id: Uuid,
    pub start_seq: u64,
    /// The number of the newest event.
    pub event: i64,
}

#[derive(Debug, thiserror::Error)]
#[error("could not keep how far the database has come in `{}`", .path.display())]
pub struct HighWaterError {
    path: PathBuf,
    source: std::io::Error,
}

impl HighWater {
    /// None where there is none, or where it can not be understood: then it says nothing.
    #[must_use]
    pub fn read(data: &Path) -> Option<Self> {
        let path = path(data);
        match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(found) => Some(found),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "how far the database had come is not understood; it is written anew");
                    None
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "how far the database had come could not be read");
                None
            }
        }
    }

    /// As a whole or not at all, and on the disk when it returns.
    pub fn write(&self, data: &Path) -> Result<(), HighWaterError> {
        let path = path(data);
        self.write_to(&path).map_err(|source| HighWaterError { path, source })
    }

    fn write_to(&self, path: &Path) -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder)?;
        let beside = path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        std::fs::File::open(folder)?.sync_all()
    }

    /// Whether a database that has come to `now` is behind.
    #[must_use]
    pub fn is_ahead_of(&self, now: &Self) -> bool {
        self.host_id == now.host_id && (self.start_seq >= now.start_seq || self.event > now.event)
    }
}

fn path(data: &Path) -> PathBuf {
    data.join("host").join("high-water")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_database_is_behind_and_another_one_is_not() {
        let folder = tempfile::tempdir().expect("a directory");
        assert_eq!(HighWater::read(folder.path()), None);
        let left = HighWater { host_id: Uuid::from_u128(1), start_seq: 4, event: 70 };
        left.write(folder.path()).expect("written");
        let left = HighWater::read(folder.path()).expect("it is there");
        let started = HighWater { start_seq: 5, ..left };
        assert!(!left.is_ahead_of(&started));
        assert!(left.is_ahead_of(&HighWater { start_seq: 4, ..left }), "as many starts as before this one");
        assert!(left.is_ahead_of(&HighWater { event: 69, ..started }));
        assert!(!left.is_ahead_of(&HighWater { host_id: Uuid::from_u128(2), start_seq: 1, event: 0 }));
        std::fs::write(path(folder.path()), "{").expect("written");
        assert_eq!(HighWater::read(folder.path()), None);
    }
}
