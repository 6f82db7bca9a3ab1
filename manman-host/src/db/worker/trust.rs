//! Whether a worker's memory is trusted, and what a person has said about it.

use manman_common::session::{Machine, Quarantine};
use manman_common::{DesiredState, Generation, Name, Phase, Revision, ServerId, SessionEpoch, Timestamp, WorkerId};
use manman_link::admission::TokenHash;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::super::BadRow;
use super::super::server::desired_of;

/// What a worker's first session begins with, which comes with its row.
#[derive(Clone, Copy, Debug)]
pub struct First<'a> {
    pub token: TokenHash,
    pub before: TokenHash,
    pub timeline: Uuid,
    pub machine: Option<&'a Machine>,
    pub home: Option<&'a str>,
    pub state_seq: u64,
}

pub async fn worker_first(conn: &mut PgConnection, id: WorkerId, first: First<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "update worker set resume_hash = $2, resume_before_hash = $3, resume_epoch = session_epoch, timeline = $4, machine = $5, home = $6,
                           state_seq = $7
         where id = $1",
        id.as_uuid(),
        &first.token[..],
        &first.before[..],
        first.timeline,
        first.machine.map(Json) as _,
        first.home,
        i64::try_from(first.state_seq).unwrap_or(i64::MAX),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The worker has spoken in this session, so it has the newest token: the one before is void.
pub async fn worker_confirm_resume(conn: &mut PgConnection, id: WorkerId, epoch: SessionEpoch) -> sqlx::Result<()> {
    sqlx::query!("update worker set resume_before_hash = null where id = $1 and session_epoch = $2", id.as_uuid(), i64::from(epoch))
        .execute(conn)
        .await
        .map(drop)
}

/// Notes why the worker's memory is not trusted; `false` where another reason was found before.
pub async fn worker_quarantine(conn: &mut PgConnection, id: WorkerId, why: Quarantine) -> sqlx::Result<bool> {
    sqlx::query!(
        "update worker set quarantine = $2, quarantine_at_home = false where id = $1 and quarantine is null",
        id.as_uuid(),
        why.as_str()
    )
    .execute(conn)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// The worker's memory is trusted again; with a timeline, the worker follows the host on that
/// without reserve.
pub async fn worker_rebase(conn: &mut PgConnection, id: WorkerId, timeline: Option<Uuid>) -> sqlx::Result<()> {
    sqlx::query!(
        "update worker set quarantine = null, quarantine_at_home = false, rebased_timeline = coalesce($2, rebased_timeline) where id = $1",
        id.as_uuid(),
        timeline
    )
    .execute(conn)
    .await
    .map(drop)
}

/// A person has said that this machine is off: its session is over, and its servers may be moved.
pub async fn worker_fence(conn: &mut PgConnection, id: WorkerId, epoch: SessionEpoch, now: Timestamp) -> sqlx::Result<bool> {
    sqlx::query!(
        "update worker set session_epoch = session_epoch + 1, process = null, fenced_at = $3
         where id = $1 and session_epoch = $2 and state = 'accepted'",
        id.as_uuid(),
        i64::from(epoch),
        now.to_chrono(),
    )
    .execute(conn)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Those of these servers that this host knows nothing of; a tombstone is known.
pub async fn worker_unknown_servers(conn: &mut PgConnection, servers: &[Uuid]) -> sqlx::Result<Vec<ServerId>> {
    let ids = sqlx::query_scalar!(
        r#"select i.id as "id!" from unnest($1::uuid[]) as i (id) where not exists (select from server s where s.id = i.id) order by 1"#,
        servers
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(ServerId::from_uuid).collect())
}

/// Whether one of these servers is another worker's now.
pub async fn worker_holds_moved(conn: &mut PgConnection, worker: WorkerId, servers: &[Uuid]) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from server where id = any($2) and worker_id <> $1) as "moved!""#,
        worker.as_uuid(),
        servers
    )
    .fetch_one(conn)
    .await
}

/// Lifts generations and epochs that the host has forgotten above what the worker has seen, as of
/// this revision.
pub async fn worker_lift(
    conn: &mut PgConnection,
    worker: WorkerId,
    servers: &[(ServerId, Generation, u64)],
    revision: Revision,
) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = servers.iter().map(|(id, _, _)| id.as_uuid()).collect();
    let generations: Vec<i64> = servers.iter().map(|(_, generation, _)| i64::from(*generation)).collect();
    let epochs: Vec<i64> = servers.iter().map(|(_, _, epoch)| i64::try_from(*epoch).unwrap_or(i64::MAX)).collect();
    sqlx::query!(
        "update server s set generation = greatest(s.generation, l.generation) + 1, epoch = greatest(s.epoch, l.epoch), revision = $5
         from unnest($2::uuid[], $3::bigint[], $4::bigint[]) as l (id, generation, epoch)
         where s.id = l.id and s.worker_id = $1 and s.gone_at is null",
        worker.as_uuid(),
        &ids,
        &generations,
        &epochs,
        i64::from(revision),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update server_release r set generation = greatest(r.generation, l.generation) + 1, epoch = greatest(r.epoch, l.epoch), revision = $5
         from unnest($2::uuid[], $3::bigint[], $4::bigint[]) as l (id, generation, epoch)
         where r.server_id = l.id and r.worker_id = $1 and r.gone_at is null",
        worker.as_uuid(),
        &ids,
        &generations,
        &epochs,
        i64::from(revision),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// A server that the host has of a worker, or that the worker is to let go of.
#[derive(Clone, Debug)]
pub struct HostSide {
    pub id: ServerId,
    pub name: Name,
    pub desired: DesiredState,
    /// It is another worker's now.
    pub moved: bool,
    pub phase: Option<Phase>,
}

/// What the host would have this worker do.
pub async fn worker_host_side(conn: &mut PgConnection, worker: WorkerId) -> sqlx::Result<Vec<HostSide>> {
    let rows = sqlx::query!(
        r#"select s.id as "id!", s.name as "name!", s.desired as "desired!", false as "moved!", s.status -> 'phase' as phase
           from server s where s.worker_id = $1 and s.gone_at is null
           union all
           select s.id, s.name, 'deleted', true, null from server_release r join server s on s.id = r.server_id
           where r.worker_id = $1 and r.gone_at is null
           order by 2, 1"#,
        worker.as_uuid()
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(HostSide {
                id: ServerId::from_uuid(row.id),
                name: row.name.parse().map_err(|_| BadRow::of("server", "name", &row.name))?,
                desired: desired_of(&row.desired)?,
                moved: row.moved,
                phase: row.phase.map(serde_json::from_value).transpose().map_err(|error| BadRow::of("server", "status", error))?,
            })
        })
        .collect()
}
