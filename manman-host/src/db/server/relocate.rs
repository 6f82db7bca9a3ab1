//! A server that goes to another worker, and what the one before is told.

use manman_common::wire::CreateServer;
use manman_common::{DesiredState, Generation, Name, Revision, RunSpec, ServerId, Timestamp, WorkerId};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::super::BadRow;
use super::change::ports_take;
use super::desired_text;

#[derive(Clone, Debug)]
pub struct Relocation<'a> {
    pub server: ServerId,
    pub from: WorkerId,
    pub from_revision: Revision,
    pub to: WorkerId,
    pub to_revision: Revision,
    pub epoch: u64,
    /// The generation that is replaced.
    pub generation: Generation,
    /// The highest that anybody was told.
    pub told: Generation,
    pub request: &'a CreateServer,
    pub run: &'a RunSpec,
    pub desired: DesiredState,
}

/// The highest epoch and generation of a server that any worker was told.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub epoch: u64,
    pub generation: Generation,
}

pub async fn server_told(conn: &mut PgConnection, server: ServerId) -> sqlx::Result<Told> {
    let row = sqlx::query!(
        r#"select greatest(s.epoch, max(r.epoch)) as "epoch!", greatest(s.generation, max(r.generation)) as "generation!"
           from server s left join server_release r on r.server_id = s.id where s.id = $1 group by s.id"#,
        server.as_uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(Told {
        epoch: row.epoch.try_into().map_err(|error| BadRow::of("server", "epoch", error))?,
        generation: row.generation.try_into().map_err(|error| BadRow::of("server", "generation", error))?,
    })
}

/// Assigns the server anew, takes its ports there, and notes that the worker before must let go of
/// it. `false` where the server has changed since; violates `server_port_taken` where somebody was
/// faster.
pub async fn server_relocate(conn: &mut PgConnection, relocation: &Relocation<'_>, now: Timestamp) -> sqlx::Result<bool> {
    let Relocation { server, from, from_revision, to, to_revision, epoch, generation, told, request, run, desired } = relocation;
    let next = (*generation).max(*told).next();
    let moved = sqlx::query!(
        "update server set worker_id = $4, epoch = $5, generation = $6, run_generation = $6, revision = $7, request = $8, run = $9,
                           desired = $10, stop_mode = 'graceful', lease_generation = $6, status = null, status_at = null, updated_at = $11
         where id = $1 and worker_id = $2 and generation = $3 and gone_at is null",
        server.as_uuid(),
        from.as_uuid(),
        i64::from(*generation),
        to.as_uuid(),
        i64::try_from(*epoch).unwrap_or(i64::MAX),
        i64::from(next),
        i64::from(*to_revision),
        Json(request) as _,
        Json(run) as _,
        desired_text(*desired),
        now.to_chrono(),
    )
    .execute(&mut *conn)
    .await?;
    if moved.rows_affected() != 1 {
        return Ok(false);
    }
    sqlx::query!("delete from server_port where server_id = $1", server.as_uuid()).execute(&mut *conn).await?;
    ports_take(conn, *to, *server, &run.ports).await?;
    // What it was to let go of once is its own again.
    sqlx::query!("delete from server_release where server_id = $1 and worker_id = $2", server.as_uuid(), to.as_uuid())
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "insert into server_release (server_id, worker_id, epoch, generation, revision, created_at) values ($1, $2, $3, $4, $5, $6)
         on conflict (server_id, worker_id) do update
         set epoch = excluded.epoch, generation = excluded.generation, revision = excluded.revision, created_at = excluded.created_at,
             gone_at = null",
        server.as_uuid(),
        from.as_uuid(),
        i64::try_from(*epoch).unwrap_or(i64::MAX),
        i64::from(next),
        i64::from(*from_revision),
        now.to_chrono(),
    )
    .execute(conn)
    .await?;
    Ok(true)
}

/// Notes that a worker has let go of these; answers those of which that was wished.
pub async fn release_gone(
    conn: &mut PgConnection,
    worker: WorkerId,
    servers: &[Uuid],
    now: Timestamp,
) -> sqlx::Result<Vec<(ServerId, Name)>> {
    let rows = sqlx::query!(
        "update server_release r set gone_at = $3 from server s
         where r.worker_id = $1 and r.server_id = any($2) and r.gone_at is null and s.id = r.server_id returning s.id, s.name",
        worker.as_uuid(),
        servers,
        now.to_chrono(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok((ServerId::from_uuid(row.id), row.name.parse().map_err(|_| BadRow::of("server", "name", &row.name))?)))
        .collect()
}

/// Wishes for what runs there: these are to run. Violates `server_name_key` where the name of a
/// deleted one is in use.
pub async fn server_keep(
    conn: &mut PgConnection,
    worker: WorkerId,
    servers: &[Uuid],
    revision: Revision,
    now: Timestamp,
) -> sqlx::Result<u64> {
    sqlx::query!(
        "update server set desired = 'running', stop_mode = 'graceful', deleted_at = null, purge = false, generation = generation + 1,
                           revision = $3, updated_at = $4
         where worker_id = $1 and id = any($2) and gone_at is null",
        worker.as_uuid(),
        servers,
        i64::from(revision),
        now.to_chrono(),
    )
    .execute(conn)
    .await
    .map(|done| done.rows_affected())
}
