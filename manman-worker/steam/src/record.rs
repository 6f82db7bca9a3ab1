//! What was laid out for a server, file by file: how an update knows the server's changes from ours.
//!
//! It lies with the worker, not with the game, whose user could write whatever it likes there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use manman_common::ServerId;
use rustix::fs::Stat;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::SteamConfig;
use crate::error::SteamError;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Laid {
    pub(crate) key: String,
    pub(crate) build: String,
    /// False from before the first file is touched until after the last.
    pub(crate) complete: bool,
    /// The generation of the spec that the server was last started with.
    #[serde(default)]
    pub(crate) started: Option<u64>,
    /// By path, bytes that are no plain text escaped.
    pub(crate) files: BTreeMap<String, Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The file of the base that it was made of.
    pub(crate) source: Sign,
    /// The server's file as we left it.
    pub(crate) placed: Sign,
}

/// Enough to tell that a file is no longer the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sign {
    pub(crate) size: i64,
    pub(crate) seconds: i64,
    pub(crate) nanos: u64,
    pub(crate) inode: u64,
}

impl Sign {
    #[expect(clippy::useless_conversion, clippy::unnecessary_cast, reason = "these fields have other types on other machines")]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            size: i64::from(stat.st_size),
            seconds: i64::from(stat.st_mtime),
            nanos: stat.st_mtime_nsec as u64,
            inode: u64::from(stat.st_ino),
        }
    }
}

/// A record of a million files has 200 MB; more is none of ours.
const RECORD_MAX: u64 = 512 << 20;

impl Laid {
    pub(crate) fn read(config: &SteamConfig, server: ServerId) -> Result<Option<Self>, SteamError> {
        read_json(&path(config, server))
    }

    pub(crate) fn write(&self, config: &SteamConfig, server: ServerId) -> Result<(), SteamError> {
        write_json(&path(config, server), self)
    }

    pub(crate) fn remove(config: &SteamConfig, server: ServerId) -> Result<(), SteamError> {
        let path = path(config, server);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SteamError::io(format!("the record {} can not be removed", path.display()), error))
            }
            _ => Ok(()),
        }
    }
}

fn path(config: &SteamConfig, server: ServerId) -> PathBuf {
    config.dir.join("servers").join(format!("{server}.json"))
}

/// A record of ours; one that can not be understood is as good as none, and said.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SteamError> {
    let what = || format!("the record {} can not be read", path.display());
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SteamError::io(what(), error)),
        Ok(metadata) if metadata.len() > RECORD_MAX => {
            tracing::warn!(record.path = %path.display(), "a record is too large to be one of ours and is made anew");
            return Ok(None);
        }
        Ok(_) => {}
    }
    let text = fs::read(path).map_err(|error| SteamError::io(what(), error))?;
    Ok(serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!(record.path = %path.display(), %error, "a record can not be understood and is made anew"))
        .ok())
}

/// Whole or not at all, also after a power cut.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), SteamError> {
    let write = || -> io::Result<()> {
        let text = serde_json::to_vec(value)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&text).and_then(|()| file.sync_all()).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    write().map_err(|error| SteamError::io(format!("the record {} can not be written", path.display()), error))
}
