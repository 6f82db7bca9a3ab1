//! Changes of a wish, each with a new generation and a new revision of its worker, and the storing
//! of what workers report.

use manman_common::spec::{PortSpec, StopMode};
use manman_common::wire::CreateServer;
use manman_common::{DesiredState, GameId, Generation, Name, Phase, Revision, RunSpec, ServerId, ServerStatus, Timestamp, WorkerId};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::super::BadRow;
use super::{desired_text, stop_mode_text};

/// The next revision of a worker, which stays locked until the transaction ends: so changes of one
/// worker's servers and ports happen one after the other.
pub async fn revision_bump(conn: &mut PgConnection, worker: WorkerId) -> sqlx::Result<Revision> {
    let revision = sqlx::query_scalar!(
        "update worker set desired_revision = desired_revision + 1 where id = $1 returning desired_revision",
        worker.as_uuid()
    )
    .fetch_one(conn)
    .await?;
    revision.try_into().map_err(|error| BadRow::of("worker", "desired_revision", error))
}

#[derive(Clone, Debug)]
pub struct NewServer<'a> {
    pub id: ServerId,
    pub name: &'a Name,
    pub worker_id: WorkerId,
    pub game_id: &'a GameId,
    pub request: &'a CreateServer,
    pub run: &'a RunSpec,
    pub desired: DesiredState,
    pub revision: Revision,
}

/// Inserts the server and takes its ports; violates `server_name_key` or `server_port_taken` where
/// somebody was faster.
pub async fn server_insert(conn: &mut PgConnection, server: &NewServer<'_>, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into server (id, name, worker_id, game_id, request, run, desired, generation, run_generation, revision, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, 1, 1, $8, $9, $9)",
        server.id.as_uuid(),
        server.name.as_str(),
        server.worker_id.as_uuid(),
        server.game_id.to_string(),
        Json(server.request) as _,
        Json(server.run) as _,
        desired_text(server.desired),
        i64::from(server.revision),
        now.to_chrono(),
    )
    .execute(&mut *conn)
    .await?;
    ports_take(conn, server.worker_id, server.id, &server.run.ports).await
}

async fn ports_take(conn: &mut PgConnection, worker: WorkerId, server: ServerId, ports: &[PortSpec]) -> sqlx::Result<()> {
    let protocols: Vec<String> = ports.iter().map(|port| port.protocol.as_str().to_owned()).collect();
    let numbers: Vec<i32> = ports.iter().map(|port| i32::from(port.port)).collect();
    let names: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
    sqlx::query!(
        "insert into server_port (worker_id, server_id, protocol, port, name)
         select $1, $2, wish.protocol, wish.port, wish.name from unnest($3::text[], $4::int[], $5::text[]) as wish (protocol, port, name)",
        worker.as_uuid(),
        server.as_uuid(),
        &protocols,
        &numbers,
        &names,
    )
    .execute(conn)
    .await
    .map(drop)
}

pub async fn server_name_is_free(conn: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select not exists (select from server where lower(name) = lower($1) and deleted_at is null) as "free!""#, name)
        .fetch_one(conn)
        .await
}

/// A changed wish; every field is what it is to be from now on.
#[derive(Clone, Debug)]
pub struct Wish {
    pub name: Name,
    pub request: CreateServer,
    pub run: RunSpec,
    pub run_changed: bool,
    pub desired: DesiredState,
    pub stop_mode: StopMode,
    pub restart_seq: u64,
    pub purge: bool,
}

/// Stores the wish as the successor of `from`; `None` where the server has changed since.
pub async fn server_change(
    conn: &mut PgConnection,
    id: ServerId,
    from: Generation,
    wish: &Wish,
    revision: Revision,
    now: Timestamp,
) -> sqlx::Result<Option<Generation>> {
    let next = from.next();
    let changed = sqlx::query!(
        "update server set name = $3, request = $4, run = $5, desired = $6, stop_mode = $7, restart_seq = $8, purge = $9,
                generation = $10, run_generation = case when $11 then $10 else run_generation end, revision = $12, updated_at = $13,
                deleted_at = case when $6 = 'deleted' then coalesce(deleted_at, $13) else deleted_at end
         where id = $1 and generation = $2 and gone_at is null",
        id.as_uuid(),
        i64::from(from),
        wish.name.as_str(),
        Json(&wish.request) as _,
        Json(&wish.run) as _,
        desired_text(wish.desired),
        stop_mode_text(wish.stop_mode),
        i64::try_from(wish.restart_seq).unwrap_or(i64::MAX),
        wish.purge,
        i64::from(next),
        wish.run_changed,
        i64::from(revision),
        now.to_chrono(),
    )
    .execute(conn)
    .await?;
    Ok((changed.rows_affected() == 1).then_some(next))
}

/// What came of a worker's word on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// No such server of this worker: unknown, another's, or gone already.
    NotIts,
    /// An older word than the one that is there.
    Older,
    Unchanged,
    Changed,
    /// Its tombstone is carried out: ports are free, the row is history.
    Gone,
}

/// Stores what a worker says of one of its own servers. Once a server that was to be deleted is
/// reported [`Phase::Deleted`], its ports are freed and it is gone.
pub async fn server_status_store(conn: &mut PgConnection, worker: WorkerId, status: &ServerStatus, now: Timestamp) -> sqlx::Result<Stored> {
    let row = sqlx::query!(
        r#"select desired, generation, status as "status: Json<ServerStatus>" from server
           where id = $1 and worker_id = $2 and gone_at is null for update"#,
        status.id.as_uuid(),
        worker.as_uuid()
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(Stored::NotIts) };
    if row.status.as_ref().is_some_and(|stored| stored.generation > status.generation) {
        return Ok(Stored::Older);
    }
    let unchanged = row.status.as_ref().is_some_and(|stored| stored.0 == *status);
    if unchanged && status.phase != Phase::Deleted {
        return Ok(Stored::Unchanged);
    }
    sqlx::query!("update server set status = $2, status_at = $3 where id = $1", status.id.as_uuid(), Json(status) as _, now.to_chrono())
        .execute(&mut *conn)
        .await?;
    if row.desired == "deleted" && status.phase == Phase::Deleted {
        server_gone(conn, status.id, now).await?;
        return Ok(Stored::Gone);
    }
    Ok(Stored::Changed)
}

/// Turns a server into a mere tombstone and frees its ports: nothing of it runs any more.
pub async fn server_gone(conn: &mut PgConnection, id: ServerId, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query!("delete from server_port where server_id = $1", id.as_uuid()).execute(&mut *conn).await?;
    sqlx::query!(
        "update server set gone_at = $2, deleted_at = coalesce(deleted_at, $2), desired = 'deleted' where id = $1 and gone_at is null",
        id.as_uuid(),
        now.to_chrono()
    )
    .execute(conn)
    .await
    .map(drop)
}

/// For a worker that is itself deleted: nobody will ever report on its servers again.
pub async fn worker_servers_gone(conn: &mut PgConnection, worker: WorkerId, now: Timestamp) -> sqlx::Result<Vec<ServerId>> {
    sqlx::query!("delete from server_port where worker_id = $1", worker.as_uuid()).execute(&mut *conn).await?;
    let ids = sqlx::query_scalar!(
        "update server set gone_at = $2, deleted_at = coalesce(deleted_at, $2), desired = 'deleted'
         where worker_id = $1 and gone_at is null returning id",
        worker.as_uuid(),
        now.to_chrono()
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(ServerId::from_uuid).collect())
}
