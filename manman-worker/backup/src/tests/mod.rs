mod create;
mod full;
mod hostile;
mod interrupted;
mod race;
mod restore;
mod round_trip;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use manman_common::ids::ServerId;

use crate::{BackupError, CreateRequest, RestoreRequest, Restored, Summary};

pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

pub(crate) fn server() -> ServerId {
    ServerId::from_uuid(uuid::Uuid::from_u128(7))
}

/// A server's directory and a shelf, in a folder that goes with the test.
pub(crate) struct House {
    pub dir: tempfile::TempDir,
}

impl House {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        Self { dir }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn put(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.root().join(path)).unwrap()
    }

    pub(crate) fn request(&self, patterns: &[&str]) -> CreateRequest {
        request(&self.root(), &self.dir.path().join("backups"), patterns)
    }

    pub(crate) fn create(&self, patterns: &[&str]) -> Result<Summary, BackupError> {
        crate::create(&self.request(patterns), |_| {}, &NEVER)
    }

    pub(crate) fn restore_request(&self, archive: &Path) -> RestoreRequest {
        RestoreRequest { archive: archive.to_owned(), root: self.root(), server: Some(server()), owner: None }
    }

    pub(crate) fn restore(&self, archive: &Path) -> Result<Restored, BackupError> {
        crate::restore(&self.restore_request(archive), |_| {}, &NEVER)
    }

    /// What lies beside the server's directory.
    pub(crate) fn beside(&self) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "data" && name != "backups");
        names.sort();
        names
    }
}

pub(crate) fn request(root: &Path, into: &Path, patterns: &[&str]) -> CreateRequest {
    CreateRequest {
        root: root.to_owned(),
        patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        into: into.to_owned(),
        server: server(),
        game: "docker:games/world".parse().unwrap(),
        note: "before the update".into(),
    }
}
