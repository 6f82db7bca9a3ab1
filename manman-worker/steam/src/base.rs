//! The shared base of an app: one install that SteamCMD works on, and the word that it is whole.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::acf::{FULLY_INSTALLED, Manifest};
use crate::app::App;
use crate::error::SteamError;
use crate::lock::BaseLock;
use crate::record::{read_json, write_json};
use crate::{Report, SteamConfig, beneath};

/// The word that a base is whole. It is written when all is on the disk, and removed before anything is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) build: String,
    pub(crate) size: u64,
}

#[derive(Debug)]
pub(crate) struct Base {
    /// `apps/KEY`
    home: PathBuf,
    app: u32,
    directory: OwnedFd,
}

/// Bits of an app's state that leave something to do.
const UNDONE: u32 = 0x1 | 0x2 | 0x20 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800;

/// A manifest has some kilobytes.
const MANIFEST_MAX: u64 = 4 << 20;

impl Base {
    pub(crate) fn open(config: &SteamConfig, app: &App) -> Result<Self, SteamError> {
        drop(beneath::create_private(&config.root, &config.dir)?);
        let home = config.dir.join("apps").join(app.key());
        let directory = beneath::create(&config.root, &home.join("base"))?;
        Ok(Self { home, app: app.id(), directory })
    }

    pub(crate) async fn lock(&self, _config: &SteamConfig, progress: Report<'_>) -> Result<BaseLock, SteamError> {
        BaseLock::take(&self.home.join("lock"), progress).await
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.home.join("base")
    }

    pub(crate) const fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(crate) fn marker(&self) -> Result<Option<Marker>, SteamError> {
        read_json(&self.marker_path())
    }

    /// Only after this is a base laid out for anybody.
    pub(crate) fn mark(&self, marker: &Marker) -> Result<(), SteamError> {
        // All of it is on the disk before the word that it is.
        rustix::fs::syncfs(&self.directory)
            .map_err(|errno| SteamError::io(format!("{} can not be brought to the disk", self.path().display()), errno.into()))?;
        write_json(&self.marker_path(), marker)
    }

    pub(crate) fn unmark(&self) -> Result<(), SteamError> {
        let remove = || -> io::Result<()> {
            match fs::remove_file(self.marker_path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => File::open(&self.home)?.sync_all(),
            }
        };
        remove().map_err(|error| SteamError::io(format!("{} can not be marked as changing", self.path().display()), error))
    }

    /// What Steam's own manifest says of it.
    pub(crate) fn manifest(&self) -> Result<Option<Manifest>, SteamError> {
        let path = self.manifest_path();
        let what = || format!("the manifest {} can not be read", path.display());
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SteamError::io(what(), error)),
            Ok(metadata) if metadata.len() > MANIFEST_MAX => return Ok(None),
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(|error| SteamError::io(what(), error))?;
        Ok(Manifest::parse(&String::from_utf8_lossy(&bytes)).unwrap_or_else(|error| {
            tracing::warn!(manifest.path = %path.display(), %error, "a manifest of Steam can not be understood");
            None
        }))
    }

    /// The manifest of a whole install, with nothing left to do.
    pub(crate) fn whole(&self) -> Result<Option<Manifest>, SteamError> {
        Ok(self.manifest()?.filter(|manifest| manifest.state & FULLY_INSTALLED != 0 && manifest.state & UNDONE == 0))
    }

    /// Whether a try that failed left the build of this marker untouched.
    pub(crate) fn is_untouched(&self, marker: &Marker) -> Result<bool, SteamError> {
        let begun = self.path().join("steamapps/downloading").join(self.app.to_string());
        Ok(!begun.exists() && self.whole()?.is_some_and(|manifest| manifest.build == marker.build))
    }

    /// Steam's own view of it is forgotten: the next run looks at every file.
    pub(crate) fn forget_manifest(&self) -> Result<(), SteamError> {
        match fs::remove_file(self.manifest_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SteamError::io(format!("{} can not be removed", self.manifest_path().display()), error))
            }
            _ => Ok(()),
        }
    }

    /// Frees what was half downloaded: games that run on the same disk have to save their worlds.
    pub(crate) fn clean(&self) {
        for folder in ["steamapps/downloading", "steamapps/temp"] {
            let path = self.path().join(folder);
            if let Err(error) = fs::remove_dir_all(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "what was half downloaded can not be removed");
            }
        }
    }

    /// Bytes that may still be written there.
    pub(crate) fn free(&self) -> Option<u64> {
        free(&self.directory)
    }

    fn manifest_path(&self) -> PathBuf {
        self.path().join("steamapps").join(format!("appmanifest_{}.acf", self.app))
    }

    fn marker_path(&self) -> PathBuf {
        self.home.join("installed.json")
    }
}

/// Bytes that we may still write to the file system of a directory.
pub(crate) fn free(directory: &OwnedFd) -> Option<u64> {
    let stat = rustix::fs::fstatvfs(directory).ok()?;
    let blocks = if rustix::process::geteuid().is_root() { stat.f_bfree } else { stat.f_bavail };
    Some(blocks.saturating_mul(stat.f_frsize))
}

/// Every base with the build that is whole in it.
pub(crate) fn all(config: &SteamConfig) -> Result<Vec<(String, Option<String>)>, SteamError> {
    let apps = config.dir.join("apps");
    let what = || format!("{} can not be read", apps.display());
    let entries = match fs::read_dir(&apps) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| SteamError::io(what(), error))?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| SteamError::io(what(), error))?;
        let marker: Option<Marker> = read_json(&Path::new(&entry.path()).join("installed.json"))?;
        all.push((entry.file_name().to_string_lossy().into_owned(), marker.map(|marker| marker.build)));
    }
    all.sort();
    Ok(all)
}
