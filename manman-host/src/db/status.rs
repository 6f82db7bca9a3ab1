//! All servers in few words, for counts.

use manman_common::{Phase, ServerId, WorkerId};
use sqlx::PgConnection;

use super::BadRow;

#[derive(Clone, Debug)]
pub struct ServerSight {
    pub id: ServerId,
    pub worker_id: WorkerId,
    pub name: String,
    /// The worker's last stored word.
    pub phase: Option<Phase>,
}

pub async fn status_servers(conn: &mut PgConnection) -> sqlx::Result<Vec<ServerSight>> {
    let rows = sqlx::query!("select id, worker_id, name, status -> 'phase' as phase from server where gone_at is null order by id")
        .fetch_all(conn)
        .await?;
    rows.into_iter()
        .map(|row| {
            let phase = row.phase.map(serde_json::from_value).transpose().map_err(|error| BadRow::of("server", "status", error))?;
            Ok(ServerSight { id: ServerId::from_uuid(row.id), worker_id: WorkerId::from_uuid(row.worker_id), name: row.name, phase })
        })
        .collect()
}
