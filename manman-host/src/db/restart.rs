//! Restarts that their worker has not said to have heard of.

use manman_common::{Revision, ServerId, Timestamp, WorkerId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{BadRow, moment};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRestart {
    pub server_id: ServerId,
    pub worker_id: WorkerId,
    /// What the wish's restart counter goes back to if nobody hears of it.
    pub before: u64,
    /// What that counter was set to.
    pub asked: u64,
    /// The worker's revision with which it was asked for.
    pub revision: Revision,
    pub asked_at: Timestamp,
}

struct Row {
    server_id: Uuid,
    worker_id: Uuid,
    before_seq: i64,
    asked_seq: i64,
    revision: i64,
    asked_at: chrono::DateTime<chrono::Utc>,
}

impl TryFrom<Row> for PendingRestart {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let bad = |column: &'static str| move |error| BadRow::of("server_restart", column, error);
        Ok(Self {
            server_id: ServerId::from_uuid(row.server_id),
            worker_id: WorkerId::from_uuid(row.worker_id),
            before: row.before_seq.try_into().map_err(bad("before_seq"))?,
            asked: row.asked_seq.try_into().map_err(bad("asked_seq"))?,
            revision: row.revision.try_into().map_err(|error| BadRow::of("server_restart", "revision", error))?,
            asked_at: moment(row.asked_at),
        })
    }
}

/// Takes the place of the one that the server had.
pub async fn restart_put(conn: &mut PgConnection, restart: &PendingRestart) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into server_restart (server_id, worker_id, before_seq, asked_seq, revision, asked_at) values ($1, $2, $3, $4, $5, $6)
         on conflict (server_id) do update
         set worker_id = $2, before_seq = $3, asked_seq = $4, revision = $5, asked_at = $6",
        restart.server_id.as_uuid(),
        restart.worker_id.as_uuid(),
        restart.before.cast_signed(),
        restart.asked.cast_signed(),
        i64::from(restart.revision),
        restart.asked_at.to_chrono()
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub async fn restart_find(conn: &mut PgConnection, server: ServerId) -> sqlx::Result<Option<PendingRestart>> {
    let row = sqlx::query_as!(
        Row,
        "select server_id, worker_id, before_seq, asked_seq, revision, asked_at from server_restart where server_id = $1",
        server.as_uuid()
    )
    .fetch_optional(conn)
    .await?;
    row.map(TryInto::try_into).transpose()
}

pub async fn restart_list(conn: &mut PgConnection) -> sqlx::Result<Vec<PendingRestart>> {
    let rows = sqlx::query_as!(Row, "select server_id, worker_id, before_seq, asked_seq, revision, asked_at from server_restart");
    rows.fetch_all(conn).await?.into_iter().map(TryInto::try_into).collect()
}

/// Forgets this one, and none that has taken its place.
pub async fn restart_forget(conn: &mut PgConnection, restart: &PendingRestart) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from server_restart where server_id = $1 and asked_seq = $2",
        restart.server_id.as_uuid(),
        restart.asked.cast_signed()
    )
    .execute(conn)
    .await?;
    Ok(())
}
