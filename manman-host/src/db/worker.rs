//! Workers: who they are, their sessions, and what they are to do.

pub mod report;
pub mod spec;

use std::collections::BTreeMap;

use manman_common::wire::{Capabilities, MachineUsage, ProcessIdentity};
use manman_common::{Name, Revision, SessionEpoch, Timestamp, WorkerId, WorkerStatus};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{BadRow, moment};

/// Whether a worker may run anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It asks to join; a person has not accepted it yet.
    Pending,
    Accepted,
    /// A tombstone.
    Deleted,
}

impl Admission {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Deleted => "deleted",
        }
    }
}

#[derive(Clone, Debug)]
pub struct WorkerRow {
    pub id: WorkerId,
    pub name: Name,
    pub admission: Admission,
    pub status: WorkerStatus,
    pub status_since: Timestamp,
    pub frozen: bool,
    pub address: String,
    pub api_url: Option<String>,
    pub api_token: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub capabilities: Capabilities,
    pub process: Option<ProcessIdentity>,
    pub session_epoch: SessionEpoch,
    pub desired_revision: Revision,
    pub observed_revision: Revision,
    pub usage: Option<MachineUsage>,
    pub event_seq: u64,
    pub created_at: Timestamp,
    /// Servers that are not deleted.
    pub servers: u32,
}

struct Row {
    id: Uuid,
    name: String,
    state: String,
    status: String,
    status_since: chrono::DateTime<chrono::Utc>,
    frozen: bool,
    address: String,
    api_url: Option<String>,
    api_token: Option<String>,
    labels: Json<BTreeMap<String, String>>,
    capabilities: Json<Capabilities>,
    process: Option<Json<ProcessIdentity>>,
    session_epoch: i64,
    desired_revision: i64,
    observed_revision: i64,
    usage: Option<Json<MachineUsage>>,
    event_seq: i64,
    created_at: chrono::DateTime<chrono::Utc>,
    servers: i64,
}

impl TryFrom<Row> for WorkerRow {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let bad = |column: &'static str, why: String| BadRow::of("worker", column, why);
        Ok(Self {
            id: WorkerId::from_uuid(row.id),
            name: row.name.parse().map_err(|why: manman_common::name::NameError| bad("name", why.to_string()))?,
            admission: match row.state.as_str() {
                "pending" => Admission::Pending,
                "accepted" => Admission::Accepted,
                "deleted" => Admission::Deleted,
                other => return Err(bad("state", other.to_owned())),
            },
            status: status_of(&row.status)?,
            status_since: moment(row.status_since),
            frozen: row.frozen,
            address: row.address,
            api_url: row.api_url,
            api_token: row.api_token,
            labels: row.labels.0,
            capabilities: row.capabilities.0,
            process: row.process.map(|process| process.0),
            session_epoch: row.session_epoch.try_into().map_err(|_| bad("session_epoch", row.session_epoch.to_string()))?,
            desired_revision: row.desired_revision.try_into().map_err(|_| bad("desired_revision", row.desired_revision.to_string()))?,
            observed_revision: row.observed_revision.try_into().map_err(|_| bad("observed_revision", row.observed_revision.to_string()))?,
            usage: row.usage.map(|usage| usage.0),
            event_seq: row.event_seq.try_into().map_err(|_| bad("event_seq", row.event_seq.to_string()))?,
            created_at: moment(row.created_at),
            servers: u32::try_from(row.servers).unwrap_or(u32::MAX),
        })
    }
}

fn status_of(text: &str) -> sqlx::Result<WorkerStatus> {
    match text {
        "pending" => Ok(WorkerStatus::Pending),
        "alive" => Ok(WorkerStatus::Alive),
        "frozen" => Ok(WorkerStatus::Frozen),
        "shutdown" => Ok(WorkerStatus::Shutdown),
        "unknown" => Ok(WorkerStatus::Unknown),
        other => Err(BadRow::of("worker", "status", other)),
    }
}

/// Selects whole rows; the condition comes after it and speaks of the worker as `w`.
macro_rules! select_workers {
    ($condition:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"select w.id, w.name, w.state, w.status, w.status_since, w.frozen, w.address, w.api_url, w.api_token,
                      w.labels as "labels: _", w.capabilities as "capabilities: _", w.process as "process: _",
                      w.session_epoch, w.desired_revision, w.observed_revision, w.usage as "usage: _", w.event_seq, w.created_at,
                      (select count(*) from server s where s.worker_id = w.id and s.deleted_at is null) as "servers!"
               from worker w "# + $condition
            $(, $argument)*
        )
    };
}

/// All that are not tombstones.
pub async fn worker_all(conn: &mut PgConnection) -> sqlx::Result<Vec<WorkerRow>> {
    select_workers!("where w.state <> 'deleted'").fetch_all(conn).await?.into_iter().map(WorkerRow::try_from).collect()
}

/// The worker of this id, tombstone or not.
pub async fn worker_find(conn: &mut PgConnection, id: WorkerId) -> sqlx::Result<Option<WorkerRow>> {
    select_workers!("where w.id = $1", id.as_uuid()).fetch_optional(conn).await?.map(WorkerRow::try_from).transpose()
}

/// Those of this name: the accepted one first, then whoever asks to join under it.
pub async fn worker_named(conn: &mut PgConnection, name: &str) -> sqlx::Result<Vec<WorkerRow>> {
    select_workers!("where lower(w.name) = lower($1) and w.state <> 'deleted' order by w.state = 'accepted' desc, w.id", name)
        .fetch_all(conn)
        .await?
        .into_iter()
        .map(WorkerRow::try_from)
        .collect()
}

/// A page in the order of ids, after `after`.
pub async fn worker_page(
    conn: &mut PgConnection,
    after: Option<WorkerId>,
    status: Option<WorkerStatus>,
    limit: i64,
) -> sqlx::Result<Vec<WorkerRow>> {
    select_workers!(
        "where w.state <> 'deleted' and ($1::uuid is null or w.id > $1) and ($2::text is null or w.status = $2) order by w.id limit $3",
        after.map(WorkerId::as_uuid),
        status.map(WorkerStatus::as_str),
        limit,
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(WorkerRow::try_from)
    .collect()
}

pub async fn worker_pending_count(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from worker where state = 'pending'"#).fetch_one(conn).await
}

/// What a registration says of a worker and its session.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    pub address: String,
    pub api_url: Option<String>,
    pub api_token: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub capabilities: Capabilities,
    pub process: Option<ProcessIdentity>,
}

/// Its first session has the epoch 1.
pub async fn worker_insert(
    conn: &mut PgConnection,
    id: WorkerId,
    name: &Name,
    admission: Admission,
    facts: &SessionFacts,
    now: Timestamp,
) -> sqlx::Result<()> {
    let (status, accepted_at) = match admission {
        Admission::Accepted => (WorkerStatus::Alive, Some(now)),
        Admission::Pending | Admission::Deleted => (WorkerStatus::Pending, None),
    };
    sqlx::query!(
        "insert into worker (id, name, state, status, status_since, address, api_url, api_token, labels, capabilities, process,
                             session_epoch, created_at, accepted_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1, $5, $12)",
        id.as_uuid(),
        name.as_str(),
        admission.as_str(),
        status.as_str(),
        now.to_chrono(),
        facts.address,
        facts.api_url,
        facts.api_token,
        Json(&facts.labels) as _,
        Json(&facts.capabilities) as _,
        facts.process.as_ref().map(Json) as _,
        accepted_at.map(Timestamp::to_chrono),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Begins the session after `epoch`, unless another has begun meanwhile. Labels that a person has
/// given stay where the worker does not name them.
pub async fn worker_begin_session(
    conn: &mut PgConnection,
    id: WorkerId,
    epoch: SessionEpoch,
    facts: &SessionFacts,
) -> sqlx::Result<Option<SessionEpoch>> {
    let row = sqlx::query_scalar!(
        "update worker set session_epoch = session_epoch + 1, address = $3, api_url = $4, api_token = $5, labels = labels || $6,
                           capabilities = $7, process = $8
         where id = $1 and session_epoch = $2 and state <> 'deleted' returning session_epoch",
        id.as_uuid(),
        i64::from(epoch),
        facts.address,
        facts.api_url,
        facts.api_token,
        Json(&facts.labels) as _,
        Json(&facts.capabilities) as _,
        facts.process.as_ref().map(Json) as _,
    )
    .fetch_optional(conn)
    .await?;
    row.map(|epoch| epoch.try_into().map_err(|_| BadRow::of("worker", "session_epoch", epoch))).transpose()
}

/// Ends the session: whoever speaks with its epoch afterwards is told to register again.
pub async fn worker_revoke_session(conn: &mut PgConnection, id: WorkerId, epoch: SessionEpoch) -> sqlx::Result<bool> {
    sqlx::query!(
        "update worker set session_epoch = session_epoch + 1, process = null where id = $1 and session_epoch = $2",
        id.as_uuid(),
        i64::from(epoch),
    )
    .execute(conn)
    .await
    .map(|done| done.rows_affected() == 1)
}

pub async fn worker_set_status(
    conn: &mut PgConnection,
    id: WorkerId,
    status: WorkerStatus,
    frozen: bool,
    since: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update worker set status = $2, frozen = $3, status_since = case when status = $2 then status_since else $4 end where id = $1",
        id.as_uuid(),
        status.as_str(),
        frozen,
        since.to_chrono(),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Lets a pending worker in; `false` where it is not pending any more. The name's unique index
/// speaks up where another of that name is in already.
pub async fn worker_accept(conn: &mut PgConnection, id: WorkerId, status: WorkerStatus, now: Timestamp) -> sqlx::Result<bool> {
    sqlx::query!(
        "update worker set state = 'accepted', accepted_at = $2, status = $3, status_since = $2 where id = $1 and state = 'pending'",
        id.as_uuid(),
        now.to_chrono(),
        status.as_str(),
    )
    .execute(conn)
    .await
    .map(|done| done.rows_affected() == 1)
}

pub async fn worker_set_name_and_labels(
    conn: &mut PgConnection,
    id: WorkerId,
    name: &Name,
    labels: &BTreeMap<String, String>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update worker set name = $2, labels = $3 where id = $1 and state <> 'deleted'",
        id.as_uuid(),
        name.as_str(),
        Json(labels) as _,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Makes a tombstone of a worker, of its servers and of their hold on ports; answers which servers.
pub async fn worker_delete(conn: &mut PgConnection, id: WorkerId, now: Timestamp) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query!(
        "update worker set state = 'deleted', status = 'shutdown', status_since = $2, deleted_at = $2, process = null, api_token = null
         where id = $1 and state <> 'deleted'",
        id.as_uuid(),
        now.to_chrono(),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("delete from server_port where worker_id = $1", id.as_uuid()).execute(&mut *conn).await?;
    sqlx::query_scalar!(
        "update server set desired = 'deleted', deleted_at = coalesce(deleted_at, $2), gone_at = $2
         where worker_id = $1 and gone_at is null returning id",
        id.as_uuid(),
        now.to_chrono(),
    )
    .fetch_all(conn)
    .await
}

/// What a beat says that nobody waits for; written in batches.
#[derive(Clone, Debug)]
pub struct BeatFacts {
    pub id: WorkerId,
    pub observed_revision: Revision,
    pub usage: Option<MachineUsage>,
}

pub async fn worker_store_beats(conn: &mut PgConnection, beats: &[BeatFacts]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = beats.iter().map(|beat| beat.id.as_uuid()).collect();
    let revisions: Vec<i64> = beats.iter().map(|beat| beat.observed_revision.into()).collect();
    let usages: Vec<Option<serde_json::Value>> =
        beats.iter().map(|beat| beat.usage.and_then(|usage| serde_json::to_value(usage).ok())).collect();
    sqlx::query!(
        "update worker w set observed_revision = b.revision, usage = coalesce(b.usage, w.usage)
         from unnest($1::uuid[], $2::bigint[], $3::jsonb[]) as b (id, revision, usage) where w.id = b.id",
        &ids,
        &revisions,
        &usages as _,
    )
    .execute(conn)
    .await
    .map(drop)
}

pub async fn worker_desired_revision(conn: &mut PgConnection, id: WorkerId) -> sqlx::Result<Option<Revision>> {
    let revision = sqlx::query_scalar!("select desired_revision from worker where id = $1", id.as_uuid()).fetch_optional(conn).await?;
    revision.map(|revision| revision.try_into().map_err(|_| BadRow::of("worker", "desired_revision", revision))).transpose()
}
