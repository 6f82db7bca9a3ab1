//! The steps of all subjects in `metrics.sqlite`, a file of its own: samples may be lost, and what
//! may not be is never kept waiting for them.
//!
//! Rows lie by tier and time first, so that one round of samples, of however many servers, changes
//! the same few pages. A damaged file is begun anew.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use manman_common::ServerId;
use manman_common::wire::MetricsRange;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};

use super::tier::{Place, Sample, Step, window};

/// Another layout is another file: the old one is dropped.
const LAYOUT: i64 = 1;

const TABLES: &str = "
CREATE TABLE subject (id INTEGER PRIMARY KEY, server TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE step (
    tier INTEGER NOT NULL, slot INTEGER NOT NULL, subject INTEGER NOT NULL, at INTEGER NOT NULL,
    count INTEGER NOT NULL, cpu_millis INTEGER NOT NULL, memory_bytes INTEGER NOT NULL,
    networks INTEGER NOT NULL, received INTEGER NOT NULL, sent INTEGER NOT NULL,
    players INTEGER, disks INTEGER NOT NULL, disk_bytes INTEGER NOT NULL,
    PRIMARY KEY (tier, slot, subject)
) STRICT, WITHOUT ROWID;
";

/// Somebody may look at the file; so long is waited for them.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Whom a sample is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Subject {
    Machine,
    Server(ServerId),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum MetricsError {
    #[error("could not {what} in the history of metrics")]
    Sql {
        what: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the history of metrics was not looked at: the worker goes down")]
    Ended,
}

/// Blocks on the disk with each call.
pub(super) struct Store {
    /// `None` keeps everything in memory.
    path: Option<PathBuf>,
    /// Opened when first needed, which is not at the worker's start.
    connection: Mutex<Option<Connection>>,
}

impl Store {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, connection: Mutex::default() }
    }

    /// Adds what was measured at a time, in one transaction.
    pub(super) fn add(&self, now: i64, samples: &[(Subject, Sample)]) -> Result<(), MetricsError> {
        self.within("keep samples", |transaction| {
            let mut find = transaction.prepare_cached(FIND)?;
            let mut put = transaction.prepare_cached(PUT)?;
            for (subject, sample) in samples {
                let subject = subject_id(transaction, *subject)?;
                for range in MetricsRange::ALL {
                    let place = Place::of(range, now);
                    let found = find.query_row(params![tier(range), place.slot, subject], read_step).optional()?;
                    let mut step = found.filter(|(at, _)| *at == place.at).map(|(_, step)| step).unwrap_or_default();
                    step.add(sample);
                    put.execute(params![
                        tier(range),
                        place.slot,
                        subject,
                        place.at,
                        number(step.count),
                        number(step.cpu_millis),
                        number(step.memory_bytes),
                        number(step.networks),
                        number(step.received),
                        number(step.sent),
                        step.players,
                        number(step.disks),
                        number(step.disk_bytes),
                    ])?;
                }
            }
            Ok(())
        })
    }

    /// The steps of a range as it is at a time, oldest first.
    pub(super) fn steps(&self, subject: Subject, range: MetricsRange, now: i64) -> Result<Vec<Option<Step>>, MetricsError> {
        self.within("look", |transaction| {
            let mut find = transaction.prepare_cached(FIND)?;
            let known = known_subject(transaction, subject)?;
            window(range, now)
                .map(|place| {
                    let Some(subject) = known else { return Ok(None) };
                    let found = find.query_row(params![tier(range), place.slot, subject], read_step).optional()?;
                    Ok(found.filter(|(at, _)| *at == place.at).map(|(_, step)| step))
                })
                .collect()
        })
    }

    pub(super) fn remove(&self, server: ServerId) -> Result<(), MetricsError> {
        self.within("delete a server", |transaction| {
            if let Some(subject) = known_subject(transaction, Subject::Server(server))? {
                forget(transaction, subject)?;
            }
            Ok(())
        })
    }

    /// Deletes all servers but these, and answers how many.
    pub(super) fn keep_only(&self, is_known: impl Fn(ServerId) -> bool) -> Result<usize, MetricsError> {
        self.within("delete old servers", |transaction| {
            let mut all = transaction.prepare_cached("SELECT id, server FROM subject WHERE server <> ''")?;
            let found: Vec<(i64, String)> = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            let mut count = 0;
            for (subject, server) in found {
                if !server.parse().is_ok_and(&is_known) {
                    forget(transaction, subject)?;
                    count += 1;
                }
            }
            Ok(count)
        })
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> u32 {
        self.within("count", |transaction| transaction.query_row("SELECT count(*) FROM step", [], |row| row.get(0))).expect("counted")
    }

    fn within<T>(&self, what: &'static str, work: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error>) -> Result<T, MetricsError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.is_none() {
            *connection = Some(self.open().map_err(|source| MetricsError::Sql { what, source })?);
        }
        let Some(open) = connection.as_mut() else { return Err(MetricsError::Ended) };
        let done = (|| {
            let transaction = open.transaction()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        done.map_err(|source| {
            if is_damage(&source) {
                // The next call begins anew.
                *connection = None;
                self.discard();
            }
            MetricsError::Sql { what, source }
        })
    }

    fn open(&self) -> Result<Connection, rusqlite::Error> {
        let Some(path) = &self.path else { return prepare(Connection::open_in_memory()?).map(|(connection, _)| connection) };
        match Connection::open(path).and_then(prepare) {
            Ok((connection, true)) => Ok(connection),
            // Of another layout.
            Ok((connection, false)) => {
                drop(connection);
                self.discard();
                Connection::open(path).and_then(prepare).map(|(connection, _)| connection)
            }
            Err(error) if is_damage(&error) => {
                tracing::warn!(path = %path.display(), %error, "the history of metrics is damaged, and is begun anew");
                self.discard();
                Connection::open(path).and_then(prepare).map(|(connection, _)| connection)
            }
            Err(error) => Err(error),
        }
    }

    fn discard(&self) {
        let Some(path) = &self.path else { return };
        for suffix in ["", "-wal", "-shm"] {
            // What can not be deleted is met again, and said, at the next opening.
            let _ = std::fs::remove_file(Path::new(&format!("{}{suffix}", path.display())));
        }
    }
}

const FIND: &str = "SELECT at, count, cpu_millis, memory_bytes, networks, received, sent, players, disks, disk_bytes
                    FROM step WHERE tier = ?1 AND slot = ?2 AND subject = ?3";
const PUT: &str = "INSERT OR REPLACE INTO step (tier, slot, subject, at, count, cpu_millis, memory_bytes, networks, received, sent,
                   players, disks, disk_bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

/// The connection, and whether the file is of this layout.
fn prepare(connection: Connection) -> Result<(Connection, bool), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Kibibytes. A round of samples touches a handful of pages, and an idle worker is to stay small.
    connection.pragma_update(None, "cache_size", -256)?;
    // Pages of 4 KiB: the log beside the file stays at a megabyte.
    connection.pragma_update(None, "wal_autocheckpoint", 256)?;
    let layout: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if layout == 0 {
        connection.execute_batch(&format!("BEGIN;{TABLES}PRAGMA user_version = {LAYOUT};COMMIT;"))?;
        return Ok((connection, true));
    }
    Ok((connection, layout == LAYOUT))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

fn subject_text(subject: Subject) -> String {
    match subject {
        Subject::Machine => String::new(),
        Subject::Server(server) => server.to_string(),
    }
}

fn known_subject(transaction: &Transaction<'_>, subject: Subject) -> Result<Option<i64>, rusqlite::Error> {
    let mut find = transaction.prepare_cached("SELECT id FROM subject WHERE server = ?1")?;
    find.query_row([subject_text(subject)], |row| row.get(0)).optional()
}

fn subject_id(transaction: &Transaction<'_>, subject: Subject) -> Result<i64, rusqlite::Error> {
    if let Some(known) = known_subject(transaction, subject)? {
        return Ok(known);
    }
    transaction.prepare_cached("INSERT INTO subject (server) VALUES (?1)")?.execute([subject_text(subject)])?;
    Ok(transaction.last_insert_rowid())
}

fn forget(transaction: &Transaction<'_>, subject: i64) -> Result<(), rusqlite::Error> {
    transaction.prepare_cached("DELETE FROM step WHERE subject = ?1")?.execute([subject])?;
    transaction.prepare_cached("DELETE FROM subject WHERE id = ?1")?.execute([subject])?;
    Ok(())
}

const fn tier(range: MetricsRange) -> i64 {
    match range {
        MetricsRange::Hour => 0,
        MetricsRange::Day => 1,
        MetricsRange::Week => 2,
    }
}

fn read_step(row: &rusqlite::Row<'_>) -> Result<(i64, Step), rusqlite::Error> {
    let count = |index| row.get(index).map(|number: i64| u64::try_from(number).unwrap_or(0));
    let step = Step {
        count: count(1)?,
        cpu_millis: count(2)?,
        memory_bytes: count(3)?,
        networks: count(4)?,
        received: count(5)?,
        sent: count(6)?,
        players: row.get(7)?,
        disks: count(8)?,
        disk_bytes: count(9)?,
    };
    Ok((row.get(0)?, step))
}

/// A sum that is beyond the column is not one of this world.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
