//! Servers in pages, in the order of their ids, which is that of their creation.

use manman_common::wire::CreateServer;
use manman_common::{RunSpec, ServerId, ServerStatus, WorkerId};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Server, server_query};

/// Where a page begins: just after this server.
pub type ServerKey = ServerId;

#[derive(Clone, Debug, Default)]
pub struct ServerFilter {
    pub worker_id: Option<WorkerId>,
    pub game_id: Option<String>,
    /// A caller who may see this one alone.
    pub only: Option<ServerId>,
}

pub async fn server_list(
    conn: &mut PgConnection,
    filter: &ServerFilter,
    after: Option<ServerKey>,
    limit: u32,
) -> sqlx::Result<Vec<Server>> {
    let rows = server_query!(
        "where s.gone_at is null and ($1::uuid is null or s.worker_id = $1) and ($2::text is null or s.game_id = $2)
           and ($3::uuid is null or s.id = $3) and ($4::uuid is null or s.id > $4)
         order by s.id limit $5",
        filter.worker_id.map(WorkerId::as_uuid),
        filter.game_id,
        filter.only.map(ServerId::as_uuid),
        after.map(ServerId::as_uuid),
        i64::from(limit),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Server::try_from).collect()
}
