//! Events on their way to the host, numbered without a gap as they are written.
//!
//! Words about a server's life are never dropped. Above [`ROWS_MAX`] or [`BYTES_MAX`] the oldest
//! metrics go first, and are counted; the host is told how many when it is there again.

use manman_common::wire::WorkerEvent;
use manman_common::{ServerId, Timestamp};
use rusqlite::{Transaction, params};
use tokio::sync::watch;

use super::{Store, StoreError};

/// At some 400 bytes each that is 20 MB, weeks of a home fleet's life without its host.
const ROWS_MAX: i64 = 50_000;
const BYTES_MAX: i64 = 64 * 1024 * 1024;
/// Metrics dropped in one go once there are too many bytes, whatever each of them has.
const DROPPED_AT_ONCE: i64 = 500;

/// An event that has no number yet.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    pub at: Timestamp,
    pub kind: String,
    pub server_id: Option<ServerId>,
    pub message: String,
    pub data: serde_json::Value,
    /// May be dropped when the host is away for long.
    pub metric: bool,
}

impl Store {
    /// The number of the newest event; changes when there is something to send.
    #[must_use]
    pub fn event_seq(&self) -> watch::Receiver<u64> {
        self.event_seq.subscribe()
    }

    pub async fn append_events(&self, events: Vec<NewEvent>) -> Result<u64, StoreError> {
        let seq = self.transaction("store events", move |transaction| append(transaction, &events)).await?;
        self.announce(seq);
        Ok(seq)
    }

    pub(super) fn announce(&self, seq: u64) {
        self.event_seq.send_if_modified(|known| std::mem::replace(known, seq) != seq);
    }

    /// Events after this one, oldest first.
    pub async fn events_after(&self, after: u64, limit: u32) -> Result<Vec<WorkerEvent>, StoreError> {
        const WHAT: &str = "read events";
        self.transaction(WHAT, move |transaction| {
            let mut statement = transaction
                .prepare_cached("SELECT event_seq, event FROM outbox WHERE event_seq > ?1 ORDER BY event_seq LIMIT ?2")
                .map_err(|source| StoreError::sql(WHAT, source))?;
            let rows = statement
                .query_map(params![as_column(after), limit], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
                .map_err(|source| StoreError::sql(WHAT, source))?;
            let mut events = Vec::new();
            for row in rows {
                let (seq, text) = row.map_err(|source| StoreError::sql(WHAT, source))?;
                let mut event: WorkerEvent = serde_json::from_str(&text).map_err(|source| StoreError::Json { what: "an event", source })?;
                event.seq = u64::try_from(seq).unwrap_or(0);
                events.push(event);
            }
            Ok(events)
        })
        .await
    }

    /// The host has everything up to this number. A host that has numbers which this database never
    /// gave (it was lost and rebuilt) moves the waiting events behind them.
    pub async fn events_stored_by_host(&self, up_to: u64, now: Timestamp) -> Result<(), StoreError> {
        const WHAT: &str = "clear events that the host has";
        let sql = |source| StoreError::sql(WHAT, source);
        let seq = self
            .transaction(WHAT, move |transaction| {
                let up_to = as_column(up_to);
                let newest: i64 = transaction.query_row("SELECT event_seq FROM meta", [], |row| row.get(0)).map_err(sql)?;
                transaction.execute("UPDATE meta SET events_stored = ?1 WHERE events_stored != ?1", [up_to]).map_err(sql)?;
                if newest >= up_to {
                    transaction.execute("DELETE FROM outbox WHERE event_seq <= ?1", [up_to]).map_err(sql)?;
                } else {
                    // By way of negative numbers, since a key must not meet its neighbour while it moves.
                    transaction.execute("UPDATE outbox SET event_seq = -(event_seq + ?1)", [up_to]).map_err(sql)?;
                    transaction.execute("UPDATE outbox SET event_seq = -event_seq", []).map_err(sql)?;
                    transaction.execute("UPDATE meta SET event_seq = ?1", [newest + up_to]).map_err(sql)?;
                }
                tell_dropped(transaction, now)
            })
            .await?;
        self.announce(seq);
        Ok(())
    }
}

fn as_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn append(transaction: &Transaction<'_>, events: &[NewEvent]) -> Result<u64, StoreError> {
    const WHAT: &str = "store events";
    let sql = |source| StoreError::sql(WHAT, source);
    let mut seq: i64 = transaction.query_row("SELECT event_seq FROM meta", [], |row| row.get(0)).map_err(sql)?;
    if events.is_empty() {
        return Ok(u64::try_from(seq).unwrap_or(0));
    }
    {
        let mut insert = transaction.prepare_cached("INSERT INTO outbox (event_seq, metric, event) VALUES (?1, ?2, ?3)").map_err(sql)?;
        for event in events {
            seq += 1;
            let numbered = WorkerEvent {
                seq: u64::try_from(seq).unwrap_or(0),
                at: event.at,
                kind: event.kind.clone(),
                server_id: event.server_id,
                message: event.message.clone(),
                data: event.data.clone(),
            };
            let text = serde_json::to_string(&numbered).map_err(|source| StoreError::Json { what: "an event", source })?;
            insert.execute(params![seq, event.metric, text]).map_err(sql)?;
        }
    }
    transaction.execute("UPDATE meta SET event_seq = ?1", [seq]).map_err(sql)?;
    drop_metrics(transaction).map_err(sql)?;
    Ok(u64::try_from(seq).unwrap_or(0))
}

fn drop_metrics(transaction: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    loop {
        let (rows, bytes): (i64, i64) =
            transaction.query_row("SELECT outbox_rows, outbox_bytes FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let too_many = if bytes > BYTES_MAX { DROPPED_AT_ONCE.max(rows - ROWS_MAX) } else { rows - ROWS_MAX };
        if too_many <= 0 {
            return Ok(());
        }
        let dropped = transaction.execute(
            "DELETE FROM outbox WHERE event_seq IN (SELECT event_seq FROM outbox WHERE metric = 1 ORDER BY event_seq LIMIT ?1)",
            [too_many],
        )?;
        if dropped == 0 {
            // All that is left is about lives.
            return Ok(());
        }
        transaction.execute("UPDATE meta SET metrics_dropped = metrics_dropped + ?1", [i64::try_from(dropped).unwrap_or(0)])?;
    }
}

/// Puts the number of what was dropped into the outbox itself, so that it reaches the host once.
fn tell_dropped(transaction: &Transaction<'_>, now: Timestamp) -> Result<u64, StoreError> {
    let sql = |source| StoreError::sql("count what was dropped", source);
    let dropped: i64 = transaction.query_row("SELECT metrics_dropped FROM meta", [], |row| row.get(0)).map_err(sql)?;
    if dropped == 0 {
        return append(transaction, &[]);
    }
    transaction.execute("UPDATE meta SET metrics_dropped = 0", []).map_err(sql)?;
    let told = NewEvent {
        at: now,
        kind: "worker.events_dropped".to_owned(),
        server_id: None,
        message: format!("{dropped} events of little weight were dropped while the host was away; none about a server's life"),
        data: serde_json::json!({ "count": dropped }),
        metric: false,
    };
    append(transaction, &[told])
}
