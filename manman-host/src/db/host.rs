//! The host's own identity, and the timeline that its database is on.

use manman_common::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::BadRow;

/// The id of the host whose database this is; `fresh` becomes it in an empty one.
pub async fn host_ensure(conn: &mut PgConnection, fresh: Uuid, now: Timestamp) -> sqlx::Result<Uuid> {
    sqlx::query!("insert into host (host_id, created_at) values ($1, $2) on conflict (only_row) do nothing", fresh, now.to_chrono())
        .execute(&mut *conn)
        .await?;
    sqlx::query_scalar!("select host_id from host").fetch_one(conn).await
}

/// How far this database has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifeline {
    pub timeline: Uuid,
    /// +1 with each start and each renewal.
    pub start_seq: u64,
}

impl Lifeline {
    fn of(timeline: Option<Uuid>, start_seq: i64) -> sqlx::Result<Self> {
        Ok(Self {
            timeline: timeline.ok_or_else(|| BadRow::of("host", "timeline", "null"))?,
            start_seq: u64::try_from(start_seq).map_err(|_| BadRow::of("host", "start_seq", start_seq))?,
        })
    }
}

/// Notes that a host has started; `fresh` is the timeline of a database that has none.
pub async fn host_start(conn: &mut PgConnection, fresh: Uuid) -> sqlx::Result<Lifeline> {
    let row =
        sqlx::query!("update host set start_seq = start_seq + 1, timeline = coalesce(timeline, $1) returning timeline, start_seq", fresh)
            .fetch_one(conn)
            .await?;
    Lifeline::of(row.timeline, row.start_seq)
}

pub async fn host_lifeline(conn: &mut PgConnection) -> sqlx::Result<Lifeline> {
    let row = sqlx::query!("select timeline, start_seq from host").fetch_one(conn).await?;
    Lifeline::of(row.timeline, row.start_seq)
}

/// Goes over to another timeline, beyond what was counted anywhere; `None` where somebody else just
/// has.
pub async fn host_renew(conn: &mut PgConnection, old: Uuid, fresh: Uuid, at_least: u64) -> sqlx::Result<Option<Lifeline>> {
    let row = sqlx::query!(
        "update host set start_seq = greatest(start_seq, $3) + 1, timeline = $2 where timeline = $1 returning timeline, start_seq",
        old,
        fresh,
        i64::try_from(at_least).unwrap_or(i64::MAX),
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| Lifeline::of(row.timeline, row.start_seq)).transpose()
}
