//! Calls of the host by their id: each is carried out once, however often its frame is delivered.
//!
//! An answer is kept for a week, and until the host has said that it has it and a newer session has
//! begun: before that, a duplicate may still be on its way. What no host ever asks for again is kept
//! for a month at most, and [`KEPT_MAX`] of all.

use std::time::Duration;

use manman_common::link::Reply;
use manman_common::{CommandId, SessionEpoch, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, StoreError, meta};

/// How long an answer is kept for a duplicate.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long where the host never said that it has it: none sends a call for so long.
const KEPT_UNHEARD: Duration = Duration::from_secs(30 * 24 * 3600);
/// Of those that are older than a minute, which no caller waits for any more.
const KEPT_MAX: i64 = 10_000;

#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum CallState {
    /// Never seen before: carry it out, then [`Store::call_finish`].
    New,
    /// Begun and not answered: under way, or cut off by a crash, and nobody can tell what it did.
    Begun,
    Done(Reply),
}

impl Store {
    pub async fn call_begin(&self, id: CommandId, now: Timestamp) -> Result<CallState, StoreError> {
        const WHAT: &str = "store a call";
        let sql = |source| StoreError::sql(WHAT, source);
        self.transaction(WHAT, move |transaction| {
            let known: Option<Option<String>> = transaction
                .query_row("SELECT reply FROM calls WHERE id = ?1", [id.to_string()], |row| row.get(0))
                .optional()
                .map_err(sql)?;
            match known {
                Some(Some(reply)) => {
                    let reply = serde_json::from_str(&reply).map_err(|source| StoreError::Json { what: "an answer", source })?;
                    Ok(CallState::Done(reply))
                }
                Some(None) => Ok(CallState::Begun),
                None => {
                    let session = meta::read(transaction)?.session_epoch;
                    forget_old(transaction, now, session).map_err(sql)?;
                    transaction
                        .execute("INSERT INTO calls (id, at) VALUES (?1, ?2)", params![id.to_string(), now.as_micros()])
                        .map_err(sql)?;
                    Ok(CallState::New)
                }
            }
        })
        .await
    }

    /// The host has these answers, and says so in this session.
    pub async fn replies_stored(&self, ids: Vec<CommandId>, session: SessionEpoch) -> Result<(), StoreError> {
        const WHAT: &str = "note that the host has its answers";
        let sql = |source| StoreError::sql(WHAT, source);
        self.transaction(WHAT, move |transaction| {
            let mut statement =
                transaction.prepare_cached("UPDATE calls SET acked_in = ?2 WHERE id = ?1 AND acked_in IS NULL").map_err(sql)?;
            for id in ids {
                statement.execute(params![id.to_string(), as_column(session)]).map_err(sql)?;
            }
            Ok(())
        })
        .await
    }

    pub async fn call_finish(&self, id: CommandId, reply: Reply) -> Result<(), StoreError> {
        const WHAT: &str = "store the answer to a call";
        self.transaction(WHAT, move |transaction| {
            let text = serde_json::to_string(&reply).map_err(|source| StoreError::Json { what: "an answer", source })?;
            transaction
                .execute("UPDATE calls SET reply = ?2 WHERE id = ?1", params![id.to_string(), text])
                .map_err(|source| StoreError::sql(WHAT, source))?;
            Ok(())
        })
        .await
    }
}

fn as_column(session: SessionEpoch) -> i64 {
    i64::try_from(session.get()).unwrap_or(i64::MAX)
}

fn forget_old(transaction: &Transaction<'_>, now: Timestamp, session: SessionEpoch) -> Result<(), rusqlite::Error> {
    let before = |age: Duration| now.as_micros() - i64::try_from(age.as_micros()).unwrap_or(0);
    transaction.execute(
        "DELETE FROM calls WHERE (at < ?1 AND acked_in < ?2) OR at < ?3",
        params![before(KEPT_FOR), as_column(session), before(KEPT_UNHEARD)],
    )?;
    transaction.execute(
        "DELETE FROM calls WHERE at < ?1 AND id IN (SELECT id FROM calls ORDER BY at DESC LIMIT -1 OFFSET ?2)",
        params![before(Duration::from_secs(60)), KEPT_MAX],
    )?;
    Ok(())
}
