//! The registry's records, and where the fleet's own services are.

use manman_common::spec::PortSpec;
use manman_common::{Name, ServerId, WorkerId};
use manman_front_door::registry::{Change, Record};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::BadRow;

/// All that is kept. A record that can not be read is as good as none: its service comes again.
pub async fn registry_all(conn: &mut PgConnection) -> sqlx::Result<Vec<Record>> {
    let rows = sqlx::query_scalar!("select record from registry_entry").fetch_all(conn).await?;
    Ok(rows.into_iter().filter_map(|record| serde_json::from_value(record).ok()).collect())
}

/// Takes over what has changed, all of it or nothing.
pub async fn registry_save(pool: &PgPool, changes: Vec<Change>) -> sqlx::Result<()> {
    let (mut names, mut records, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for Change { name, record } in changes {
        match record {
            Some(record) => {
                names.push(String::from(name));
                records.push(Json(record));
            }
            None => gone.push(String::from(name)),
        }
    }
    let mut tx = pool.begin().await?;
    if !gone.is_empty() {
        sqlx::query!("delete from registry_entry where name = any($1)", &gone).execute(&mut *tx).await?;
    }
    if !names.is_empty() {
        sqlx::query!(
            "insert into registry_entry (name, record) select * from unnest($1::text[], $2::jsonb[])
             on conflict (name) do update set record = excluded.record",
            &names,
            &records as _,
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await
}

/// What of a server and its worker stands in the registry.
#[derive(Clone, Debug)]
pub struct Placed {
    pub id: ServerId,
    pub name: Name,
    pub ports: Vec<PortSpec>,
    /// The worker's address, as text: an IP address or the name of a machine.
    pub address: String,
}

/// These servers, as far as there are any.
pub async fn registry_servers(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Placed>> {
    let rows = sqlx::query!(
        r#"select s.id, s.name, s.run -> 'ports' as "ports: Json<Vec<PortSpec>>", w.address
           from server s join worker w on w.id = s.worker_id where s.id = any($1) and s.gone_at is null"#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Placed {
                id: ServerId::from_uuid(row.id),
                name: row.name.parse().map_err(|why| BadRow::of("server", "name", why))?,
                ports: row.ports.map(|ports| ports.0).unwrap_or_default(),
                address: row.address,
            })
        })
        .collect()
}

/// Where these workers are.
pub async fn registry_workers(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<(WorkerId, String)>> {
    let rows = sqlx::query!("select id, address from worker where id = any($1) and state = 'accepted'", ids).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (WorkerId::from_uuid(row.id), row.address)).collect())
}
