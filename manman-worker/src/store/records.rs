//! Records and statuses, always written together with the events that tell of them.

use std::collections::BTreeMap;

use manman_common::{Revision, ServerId, ServerStatus};
use manman_worker_core::{Origin, Record};
use rusqlite::{Transaction, params};

use super::{Meta, NewEvent, Store, StoreError, meta, outbox};

/// What the store holds when the worker starts.
#[derive(Debug, Default)]
pub struct Loaded {
    pub meta: Meta,
    pub records: BTreeMap<ServerId, Record>,
    pub statuses: BTreeMap<ServerId, ServerStatus>,
    /// Rows that could not be read, which are left alone: one bad row fails no other.
    pub unreadable: Vec<String>,
}

/// One transaction of the reconcile loop.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    pub records: Vec<Record>,
    pub statuses: Vec<ServerStatus>,
    pub events: Vec<NewEvent>,
    /// With the specs of this revision, and only with them.
    pub observed_revision: Option<Revision>,
    pub frozen: Option<bool>,
}

impl Store {
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        self.transaction("read the records", |transaction| {
            let mut loaded = Loaded { meta: meta::read(transaction)?, ..Loaded::default() };
            read_records(transaction, &mut loaded).map_err(|source| StoreError::sql("read the records", source))?;
            read_statuses(transaction, &mut loaded).map_err(|source| StoreError::sql("read the statuses", source))?;
            Ok(loaded)
        })
        .await
    }

    pub async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let seq = self
            .transaction("store the records", move |transaction| {
                for record in &commit.records {
                    write_record(transaction, record)?;
                }
                for status in &commit.statuses {
                    write_status(transaction, status)?;
                }
                if commit.observed_revision.is_some() || commit.frozen.is_some() {
                    let mut row = meta::read(transaction)?;
                    row.observed_revision = commit.observed_revision.unwrap_or(row.observed_revision);
                    row.frozen = commit.frozen.unwrap_or(row.frozen);
                    meta::write(transaction, &row)?;
                }
                outbox::append(transaction, &commit.events)
            })
            .await?;
        self.announce(seq);
        Ok(())
    }
}

fn write_record(transaction: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
    let json = |source| StoreError::Json { what: "a record", source };
    let origin = match record.origin {
        Origin::Host => "host",
        Origin::Here => "here",
    };
    let mut statement = transaction
        .prepare_cached(
            "INSERT INTO record (server, spec, origin, offered_hash, changed_here, tried) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (server) DO UPDATE SET spec = ?2, origin = ?3, offered_hash = ?4, changed_here = ?5, tried = ?6",
        )
        .map_err(|source| StoreError::sql("store a record", source))?;
    statement
        .execute(params![
            record.spec.id.to_string(),
            serde_json::to_string(&record.spec).map_err(json)?,
            origin,
            record.offered_hash.cast_signed(),
            record.changed_here,
            serde_json::to_string(&record.tried).map_err(json)?,
        ])
        .map_err(|source| StoreError::sql("store a record", source))?;
    Ok(())
}

fn write_status(transaction: &Transaction<'_>, status: &ServerStatus) -> Result<(), StoreError> {
    let text = serde_json::to_string(status).map_err(|source| StoreError::Json { what: "a status", source })?;
    let mut statement = transaction
        .prepare_cached("INSERT INTO status (server, status) VALUES (?1, ?2) ON CONFLICT (server) DO UPDATE SET status = ?2")
        .map_err(|source| StoreError::sql("store a status", source))?;
    statement.execute(params![status.id.to_string(), text]).map_err(|source| StoreError::sql("store a status", source))?;
    Ok(())
}

fn read_records(transaction: &Transaction<'_>, loaded: &mut Loaded) -> Result<(), rusqlite::Error> {
    let mut statement = transaction.prepare("SELECT server, spec, origin, offered_hash, changed_here, tried FROM record")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let server: String = row.get(0)?;
        let (spec, origin, tried): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(5)?);
        let parsed = (|| {
            let spec = serde_json::from_str(&spec).map_err(|error| format!("its spec: {error}"))?;
            let tried = serde_json::from_str(&tried).map_err(|error| format!("what was tried: {error}"))?;
            let origin = match origin.as_str() {
                "host" => Origin::Host,
                "here" => Origin::Here,
                other => return Err(format!("its origin `{other}`")),
            };
            Ok((spec, origin, tried))
        })();
        match parsed {
            Ok((spec, origin, tried)) => {
                let record = Record { spec, origin, offered_hash: row.get::<_, i64>(3)?.cast_unsigned(), changed_here: row.get(4)?, tried };
                loaded.records.insert(record.spec.id, record);
            }
            Err(why) => loaded.unreadable.push(format!("record of server {server}: could not read {why}")),
        }
    }
    Ok(())
}

fn read_statuses(transaction: &Transaction<'_>, loaded: &mut Loaded) -> Result<(), rusqlite::Error> {
    let mut statement = transaction.prepare("SELECT status FROM status")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // A status is only a memory of what was said: one that can not be read is said anew.
        if let Ok(status) = serde_json::from_str::<ServerStatus>(&row.get::<_, String>(0)?) {
            loaded.statuses.insert(status.id, status);
        }
    }
    Ok(())
}
