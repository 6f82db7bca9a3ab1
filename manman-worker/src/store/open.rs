//! Opening the file: checked, brought up to date, and set aside if it is beyond help.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::identity::IdentityFile;
use super::migrations::{MIGRATIONS, migrate};
use super::{Counters, Meta, Store, StoreError, meta};
use crate::clock;

/// Another process may look at the file (`sqlite3`, a backup); so long is waited for it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Opened {
    pub store: Store,
    /// The file found was not sound: where it is now, and why. What runs is adopted, and the host
    /// says again what should be.
    pub set_aside: Option<SetAside>,
}

#[derive(Clone, Debug)]
pub struct SetAside {
    pub path: PathBuf,
    pub reason: String,
}

impl Store {
    /// Opens `DIRECTORY/worker.sqlite`, which is made if it is not there. Blocks for as long as the
    /// check of the file takes.
    pub fn open(directory: &Path) -> Result<Opened, StoreError> {
        fs::create_dir_all(directory).map_err(|source| StoreError::File { what: "make", path: directory.to_owned(), source })?;
        let path = directory.join("worker.sqlite");
        let identity = IdentityFile::beside(directory);
        let (mut connection, set_aside) = match open_sound(&path)? {
            Ok(connection) => (connection, None),
            Err(reason) => {
                let aside = set_aside(&path)?;
                let connection = match open_sound(&path)? {
                    Ok(connection) => connection,
                    Err(_) => return Err(StoreError::Open { path, source: rusqlite::Error::InvalidQuery }),
                };
                (connection, Some(SetAside { path: aside, reason }))
            }
        };
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        match migrate(&mut connection) {
            Ok(Ok(())) => {}
            Ok(Err(found)) => return Err(StoreError::Newer { path, found, known }),
            Err(source) => return Err(StoreError::Open { path, source }),
        }
        let failed = |source| StoreError::Open { path: path.clone(), source };
        let transaction = connection.transaction().map_err(failed)?;
        // An untouched database beside a file with an identity: it is a new one in an old one's place.
        if meta::read(&transaction)? == meta::Meta::default()
            && let Some(kept) = identity.read()
        {
            meta::write(&transaction, &kept)?;
        }
        let (event_seq, state_seq): (i64, i64) =
            transaction.query_row("SELECT event_seq, state_seq FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        let number = |column: i64| u64::try_from(column).unwrap_or(0);
        let counters = Counters { event_seq: number(event_seq), state_seq: number(state_seq) };
        let store = Self::spawn(connection, counters, identity)?;
        Ok(Opened { store, set_aside })
    }
}

/// The worker's own row in `DIRECTORY/worker.sqlite`, whoever is at work on it; nothing where there is
/// no such file, or none that can be read. Changes nothing.
#[must_use]
pub fn peek(directory: &Path) -> Option<Meta> {
    let connection = Connection::open_with_flags(directory.join("worker.sqlite"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.busy_timeout(BUSY_TIMEOUT).ok()?;
    let text: String = connection.query_row("SELECT value FROM meta", [], |row| row.get(0)).ok()?;
    serde_json::from_str(&text).ok()
}

/// A connection to a sound file; the inner error says what is wrong with the file's content.
fn open_sound(path: &Path) -> Result<Result<Connection, String>, StoreError> {
    // Made here and not by SQLite, so that it is never readable for others; it holds tokens and specs.
    let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    file.and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o600))).map_err(|source| StoreError::File {
        what: "open",
        path: path.to_owned(),
        source,
    })?;
    let connection = Connection::open(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    match prepare(&connection) {
        Ok(answer) if answer == "ok" => Ok(Ok(connection)),
        Ok(damage) => Ok(Err(damage)),
        Err(source) => match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => Ok(Err(source.to_string())),
            _ => Err(StoreError::Open { path: path.to_owned(), source }),
        },
    }
}

fn prepare(connection: &Connection) -> Result<String, rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
}

fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let stamp = clock::now().as_micros();
    let aside = path.with_extension(format!("sqlite.corrupt-{stamp}"));
    for suffix in ["", "-wal", "-shm"] {
        let with_suffix = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        match fs::rename(with_suffix(path), with_suffix(&aside)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !suffix.is_empty() => {}
            Err(source) => return Err(StoreError::File { what: "set aside", path: path.to_owned(), source }),
        }
    }
    Ok(aside)
}
