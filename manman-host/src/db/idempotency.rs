//! Answers to requests that carried an `Idempotency-Key`.

use std::time::Duration;

use manman_common::{Timestamp, TokenId};
use sqlx::PgConnection;

use super::BadRow;

#[derive(Clone, Debug)]
pub struct Kept {
    pub request_hash: Vec<u8>,
    pub status: u16,
    pub body: serde_json::Value,
    pub location: Option<String>,
}

/// Long enough for any client that tries again, short enough that the table stays small.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

pub async fn idempotency_find(conn: &mut PgConnection, token: TokenId, key: &str) -> sqlx::Result<Option<Kept>> {
    let row =
        sqlx::query!("select request_hash, status, body, location from idempotency where token_id = $1 and key = $2", token.as_uuid(), key)
            .fetch_optional(conn)
            .await?;
    row.map(|row| {
        let status = u16::try_from(row.status).map_err(|error| BadRow::of("idempotency", "status", error))?;
        Ok(Kept { request_hash: row.request_hash, status, body: row.body, location: row.location })
    })
    .transpose()
}

/// Claims the key, or answers false; waits for another transaction that is claiming it.
pub async fn idempotency_begin(
    conn: &mut PgConnection,
    token: TokenId,
    key: &str,
    request_hash: &[u8; 32],
    now: Timestamp,
) -> sqlx::Result<bool> {
    let before = Timestamp::from_micros(now.as_micros() - i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX));
    sqlx::query!("delete from idempotency where created_at < $1", before.to_chrono()).execute(&mut *conn).await?;
    let claimed = sqlx::query!(
        "insert into idempotency (token_id, key, request_hash, status, body, created_at) values ($1, $2, $3, 0, 'null', $4)
         on conflict do nothing",
        token.as_uuid(),
        key,
        request_hash,
        now.to_chrono()
    )
    .execute(conn)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

pub async fn idempotency_keep(
    conn: &mut PgConnection,
    token: TokenId,
    key: &str,
    status: u16,
    body: &serde_json::Value,
    location: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update idempotency set status = $3, body = $4, location = $5 where token_id = $1 and key = $2",
        token.as_uuid(),
        key,
        i32::from(status),
        body,
        location
    )
    .execute(conn)
    .await
    .map(drop)
}
