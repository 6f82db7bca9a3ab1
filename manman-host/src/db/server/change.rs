//! Changes of a wish, each with a new generation and a new revision of its worker.

use manman_common::spec::{PortSpec, StopMode};
use manman_common::wire::CreateServer;
use manman_common::{DesiredState, GameId, Generation, Name, Revision, RunSpec, ServerId, Timestamp, WorkerId};
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
        "insert into server (id, name, worker_id, game_id, request, run, desired, generation, run_generation, revision, created_at, updated_at,
                             lease_seconds)
         values ($1, $2, $3, $4, $5, $6, $7, 1, 1, $8, $9, $9, $10)",
        server.id.as_uuid(),
        server.name.as_str(),
        server.worker_id.as_uuid(),
        server.game_id.to_string(),
        Json(server.request) as _,
        Json(server.run) as _,
        desired_text(server.desired),
        i64::from(server.revision),
        now.to_chrono(),
        lease_of(server.request),
    )
    .execute(&mut *conn)
    .await?;
    ports_take(conn, server.worker_id, server.id, &server.run.ports).await
}

fn lease_of(request: &CreateServer) -> Option<i32> {
    request.lease_seconds.map(|seconds| i32::try_from(seconds).unwrap_or(i32::MAX))
}

pub(super) async fn ports_take(conn: &mut PgConnection, worker: WorkerId, server: ServerId, ports: &[PortSpec]) -> sqlx::Result<()> {
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
                lease_seconds = $14, lease_generation = case when lease_seconds is distinct from $14 then $10 else lease_generation end,
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
        lease_of(&wish.request),
    )
    .execute(conn)
    .await?;
    Ok((changed.rows_affected() == 1).then_some(next))
}
