//! Runs of actions: begun once by their id, and kept with how they ended.

use std::time::Duration;

use manman_common::wire::{ActionRun, ActionState};
use manman_common::{CommandId, ServerId, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};

use super::{NewEvent, Store, StoreError, outbox};

/// How long the end of a run can be asked for.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// And how many of them, whatever their age; an answer has 256 KiB at most, and mostly a line.
const KEPT_MAX: i64 = 500;

impl Store {
    /// Writes a run down before anything of it is done. `false` if this id was begun before, and
    /// then nothing may be done.
    pub async fn action_begin(&self, run: ActionRun, event: NewEvent) -> Result<bool, StoreError> {
        const WHAT: &str = "store an action";
        let sql = |source| StoreError::sql(WHAT, source);
        let seq = self
            .transaction(WHAT, move |transaction| {
                forget_old(transaction, run.began_at).map_err(sql)?;
                let text = json(&run)?;
                let added = transaction
                    .execute(
                        "INSERT INTO action (id, server, at, running, run) VALUES (?1, ?2, ?3, 1, ?4) ON CONFLICT (id) DO NOTHING",
                        params![run.id.to_string(), run.server_id.to_string(), run.began_at.as_micros(), text],
                    )
                    .map_err(sql)?;
                if added == 0 { Ok(None) } else { outbox::append(transaction, &[event]).map(Some) }
            })
            .await?;
        if let Some(seq) = seq {
            self.announce(seq);
        }
        Ok(seq.is_some())
    }

    /// Writes down how it ended, together with the event that tells the host: it hears of it once.
    pub async fn action_end(&self, run: ActionRun, event: NewEvent) -> Result<(), StoreError> {
        const WHAT: &str = "store the end of an action";
        let seq = self
            .transaction(WHAT, move |transaction| {
                let text = json(&run)?;
                let changed = transaction
                    .execute("UPDATE action SET running = 0, run = ?2 WHERE id = ?1 AND running = 1", params![run.id.to_string(), text])
                    .map_err(|source| StoreError::sql(WHAT, source))?;
                outbox::append(transaction, if changed == 0 { &[] } else { std::slice::from_ref(&event) })
            })
            .await?;
        self.announce(seq);
        Ok(())
    }

    pub async fn action_find(&self, server: ServerId, id: CommandId) -> Result<Option<ActionRun>, StoreError> {
        const WHAT: &str = "read an action";
        self.transaction(WHAT, move |transaction| {
            let text: Option<String> = transaction
                .query_row("SELECT run FROM action WHERE id = ?1 AND server = ?2", params![id.to_string(), server.to_string()], |row| {
                    row.get(0)
                })
                .optional()
                .map_err(|source| StoreError::sql(WHAT, source))?;
            text.map(|text| read(&text)).transpose()
        })
        .await
    }

    /// Those that no end was written of: their worker was killed.
    pub async fn actions_cut_off(&self) -> Result<Vec<ActionRun>, StoreError> {
        const WHAT: &str = "read actions";
        let sql = |source| StoreError::sql(WHAT, source);
        self.transaction(WHAT, move |transaction| {
            let mut statement = transaction.prepare("SELECT run FROM action WHERE running = 1 ORDER BY at").map_err(sql)?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(sql)?;
            rows.map(|row| read(&row.map_err(sql)?)).collect()
        })
        .await
    }
}

fn forget_old(transaction: &Transaction<'_>, now: Timestamp) -> Result<(), rusqlite::Error> {
    let oldest = now.as_micros() - i64::try_from(KEPT_FOR.as_micros()).unwrap_or(0);
    transaction.execute("DELETE FROM action WHERE running = 0 AND at < ?1", [oldest])?;
    transaction.execute(
        "DELETE FROM action WHERE running = 0 AND id IN (SELECT id FROM action ORDER BY at DESC LIMIT -1 OFFSET ?1)",
        [KEPT_MAX],
    )?;
    Ok(())
}

fn json(run: &ActionRun) -> Result<String, StoreError> {
    debug_assert!(run.state != ActionState::Unknown, "only a host does not know");
    serde_json::to_string(run).map_err(|source| StoreError::Json { what: "an action", source })
}

fn read(text: &str) -> Result<ActionRun, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Json { what: "an action", source })
}
