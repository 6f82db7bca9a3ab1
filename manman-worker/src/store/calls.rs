//! Calls of the host by their id: each is carried out once, however often its frame is delivered.

use std::time::Duration;

use manman_common::link::Reply;
use manman_common::{CommandId, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};

/// How long an answer is kept for a duplicate.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

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
                    let oldest = now.as_micros() - i64::try_from(KEPT_FOR.as_micros()).unwrap_or(0);
                    transaction.execute("DELETE FROM calls WHERE at < ?1", [oldest]).map_err(sql)?;
                    transaction
                        .execute("INSERT INTO calls (id, at) VALUES (?1, ?2)", params![id.to_string(), now.as_micros()])
                        .map_err(sql)?;
                    Ok(CallState::New)
                }
            }
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
