//! The host's own identity.

use manman_common::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

/// The id of the host whose database this is; `fresh` becomes it in an empty one.
pub async fn host_ensure(conn: &mut PgConnection, fresh: Uuid, now: Timestamp) -> sqlx::Result<Uuid> {
    sqlx::query!("insert into host (host_id, created_at) values ($1, $2) on conflict (only_row) do nothing", fresh, now.to_chrono())
        .execute(&mut *conn)
        .await?;
    sqlx::query_scalar!("select host_id from host").fetch_one(conn).await
}
