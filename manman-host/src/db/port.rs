//! Ports that servers have on their machines.

use std::collections::BTreeSet;

use manman_common::spec::Protocol;
use manman_common::{ServerId, WorkerId};
use sqlx::PgConnection;

use super::BadRow;
use crate::domain::ports::Socket;

/// Every port that is taken on a worker's machine.
pub async fn port_taken(conn: &mut PgConnection, worker: WorkerId) -> sqlx::Result<BTreeSet<Socket>> {
    let rows = sqlx::query!("select protocol, port from server_port where worker_id = $1", worker.as_uuid()).fetch_all(conn).await?;
    rows.into_iter()
        .map(|row| {
            let protocol = match row.protocol.as_str() {
                "udp" => Protocol::Udp,
                "tcp" => Protocol::Tcp,
                other => return Err(BadRow::of("server_port", "protocol", other)),
            };
            let port = u16::try_from(row.port).map_err(|error| BadRow::of("server_port", "port", error))?;
            Ok((protocol, port))
        })
        .collect()
}

/// Who has this port there.
pub async fn port_holder(
    conn: &mut PgConnection,
    worker: WorkerId,
    protocol: Protocol,
    port: u16,
) -> sqlx::Result<Option<(ServerId, String)>> {
    let row = sqlx::query!(
        "select s.id, s.name from server_port p join server s on s.id = p.server_id
         where p.worker_id = $1 and p.protocol = $2 and p.port = $3",
        worker.as_uuid(),
        protocol.as_str(),
        i32::from(port)
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (ServerId::from_uuid(row.id), row.name)))
}
