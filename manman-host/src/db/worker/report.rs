//! What workers say of their servers. A worker is confined to its own here: every statement names
//! it beside the server.

use manman_common::wire::WorkerEvent;
use manman_common::{Name, ServerId, ServerStatus, Timestamp, WorkerId};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::BadRow;

/// A server that some worker still has, with its last word on it.
#[derive(Clone, Debug)]
pub struct HeldRow {
    pub id: ServerId,
    pub worker: WorkerId,
    pub status: Option<ServerStatus>,
}

/// Of all workers: what a host that starts remembers.
pub async fn report_all(conn: &mut PgConnection) -> sqlx::Result<Vec<HeldRow>> {
    let rows = sqlx::query!(r#"select id, worker_id, status as "status: Json<ServerStatus>" from server where gone_at is null"#)
        .fetch_all(conn)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| HeldRow {
            id: ServerId::from_uuid(row.id),
            worker: WorkerId::from_uuid(row.worker_id),
            status: row.status.map(|status| status.0),
        })
        .collect())
}

/// Which of these servers are this worker's.
pub async fn report_own(conn: &mut PgConnection, worker: WorkerId, servers: &[Uuid]) -> sqlx::Result<Vec<ServerId>> {
    let ids =
        sqlx::query_scalar!("select id from server where worker_id = $1 and id = any($2) and gone_at is null", worker.as_uuid(), servers,)
            .fetch_all(conn)
            .await?;
    Ok(ids.into_iter().map(ServerId::from_uuid).collect())
}

/// Stores statuses; one of an older generation than what is stored changes nothing.
pub async fn report_store(conn: &mut PgConnection, worker: WorkerId, statuses: &[&ServerStatus], now: Timestamp) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = statuses.iter().map(|status| status.id.as_uuid()).collect();
    let generations: Vec<i64> = statuses.iter().map(|status| status.generation.into()).collect();
    let bodies: Vec<Json<&ServerStatus>> = statuses.iter().map(|status| Json(*status)).collect();
    sqlx::query!(
        "update server s set status = r.status, status_at = $5
         from unnest($2::uuid[], $3::bigint[], $4::jsonb[]) as r (id, generation, status)
         where s.id = r.id and s.worker_id = $1 and s.gone_at is null
           and (s.status is null or (s.status ->> 'generation')::bigint <= r.generation)",
        worker.as_uuid(),
        &ids,
        &generations,
        &bodies as _,
        now.to_chrono(),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Notes that these servers are gone from the machine, where that was the wish, and frees their
/// ports; answers which they were.
pub async fn report_gone(
    conn: &mut PgConnection,
    worker: WorkerId,
    servers: &[Uuid],
    now: Timestamp,
) -> sqlx::Result<Vec<(ServerId, Name)>> {
    let gone = sqlx::query!(
        "update server set gone_at = $3 where worker_id = $1 and id = any($2) and desired = 'deleted' and gone_at is null
         returning id, name",
        worker.as_uuid(),
        servers,
        now.to_chrono(),
    )
    .fetch_all(&mut *conn)
    .await?;
    let ids: Vec<Uuid> = gone.iter().map(|row| row.id).collect();
    sqlx::query!("delete from server_port where server_id = any($1)", &ids).execute(conn).await?;
    gone.into_iter()
        .map(|row| Ok((ServerId::from_uuid(row.id), row.name.parse().map_err(|_| BadRow::of("server", "name", &row.name))?)))
        .collect()
}

/// Stores a worker's events, each once however often it comes, and answers the number up to which
/// the host now has them. Servers that are not the worker's, and never were, are left out of the events.
///
/// A worker whose database went back in time tells events again under other numbers, and new ones
/// under numbers that older events have: the moment, kind and words tell which is which.
pub async fn report_events(conn: &mut PgConnection, worker: WorkerId, actor: &str, events: &[WorkerEvent]) -> sqlx::Result<u64> {
    let mut seqs = Vec::with_capacity(events.len());
    let mut ats = Vec::with_capacity(events.len());
    let mut kinds = Vec::with_capacity(events.len());
    let mut servers = Vec::with_capacity(events.len());
    let mut messages = Vec::with_capacity(events.len());
    let mut data = Vec::with_capacity(events.len());
    for event in events {
        seqs.push(i64::try_from(event.seq).unwrap_or(i64::MAX));
        ats.push(event.at.to_chrono());
        kinds.push(event.kind.clone());
        servers.push(event.server_id.map(ServerId::as_uuid));
        messages.push(event.message.clone());
        data.push(event.data.clone());
    }
    sqlx::query!(
        "with told as (
            select e.*, (select s.id from server s where s.id = e.server and (s.worker_id = $1
                    or exists (select from server_release r where r.server_id = s.id and r.worker_id = $1))) as own
            from unnest($3::bigint[], $4::timestamptz[], $5::text[], $6::uuid[], $7::text[], $8::jsonb[])
                 as e (seq, at, kind, server, message, data)
         )
         insert into event (at, actor, kind, worker_id, server_id, message, data, worker_seq)
         select t.at, $2, t.kind, $1, t.own, t.message, t.data,
                case when exists (select from event x where x.worker_id = $1 and x.worker_seq = t.seq
                                  and (x.at, x.kind, x.message) <> (t.at, t.kind, t.message))
                     -- The number is taken by another event. No worker's own number is negative.
                     then -(extract(epoch from t.at) * 1000000)::bigint
                     else t.seq end
         from told t
         where not exists (select from event x where x.worker_id = $1 and x.at = t.at and x.worker_seq <> t.seq and x.kind = t.kind
                           and x.message = t.message and x.server_id is not distinct from t.own and x.data = t.data)
         order by t.seq
         on conflict on constraint event_worker_seq do nothing",
        worker.as_uuid(),
        actor,
        &seqs,
        &ats,
        &kinds,
        &servers as _,
        &messages,
        &data,
    )
    .execute(&mut *conn)
    .await?;
    let up_to = sqlx::query_scalar!(
        "update worker set event_seq = greatest(event_seq, $2) where id = $1 returning event_seq",
        worker.as_uuid(),
        seqs.iter().max().copied().unwrap_or(0),
    )
    .fetch_one(conn)
    .await?;
    u64::try_from(up_to).map_err(|_| BadRow::of("worker", "event_seq", up_to))
}
