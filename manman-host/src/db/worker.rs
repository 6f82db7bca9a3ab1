//! Workers: who they are, their sessions, and what they are to do.

pub mod report;
pub mod spec;
pub mod trust;

use std::collections::BTreeMap;

use manman_common::session::{Machine, Quarantine};
use manman_common::wire::{Capabilities, MachineUsage, ProcessIdentity};
use manman_common::{Name, Revision, SessionEpoch, Timestamp, WorkerId, WorkerStatus};
use manman_link::admission::TokenHash;
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
    pub trust: TrustFacts,
}

/// What the host knows of a worker's memory.
#[derive(Clone, Debug, Default)]
pub struct TrustFacts {
    pub resume: Option<TokenHash>,
    pub resume_before: Option<TokenHash>,
    /// The session with which `resume` was handed over.
    pub resume_epoch: SessionEpoch,
    pub machine: Option<Machine>,
    /// The data directory of the newest session.
    pub home: Option<String>,
    pub state_seq: u64,
    pub quarantine: Option<Quarantine>,
    /// Found on the data directory of the session before.
    pub quarantine_at_home: bool,
    /// The timeline that the worker goes with.
    pub timeline: Option<Uuid>,
    /// The host's at which it was told to follow without reserve.
    pub rebased_timeline: Option<Uuid>,
    /// A person has said that this machine is off.
    pub fenced: bool,
    /// The newest of what was moved away and is not gone yet.
    pub must_let_go: Option<Revision>,
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
    resume_hash: Option<Vec<u8>>,
    resume_before_hash: Option<Vec<u8>>,
    resume_epoch: i64,
    machine: Option<Json<Machine>>,
    home: Option<String>,
    state_seq: i64,
    quarantine: Option<String>,
    quarantine_at_home: bool,
    timeline: Option<Uuid>,
    rebased_timeline: Option<Uuid>,
    fenced: bool,
    must_let_go: Option<i64>,
}

impl TryFrom<Row> for WorkerRow {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let bad = |column: &'static str, why: String| BadRow::of("worker", column, why);
        let hash =
            |column, hash: Option<Vec<u8>>| hash.map(|hash| hash.try_into().map_err(|_| bad(column, "no SHA-256".to_owned()))).transpose();
        Ok(Self {
            trust: TrustFacts {
                resume: hash("resume_hash", row.resume_hash)?,
                resume_before: hash("resume_before_hash", row.resume_before_hash)?,
                resume_epoch: row.resume_epoch.try_into().map_err(|_| bad("resume_epoch", row.resume_epoch.to_string()))?,
                machine: row.machine.map(|machine| machine.0),
                home: row.home,
                state_seq: row.state_seq.try_into().map_err(|_| bad("state_seq", row.state_seq.to_string()))?,
                quarantine: row.quarantine.as_deref().map(quarantine_of).transpose()?,
                quarantine_at_home: row.quarantine_at_home,
                timeline: row.timeline,
                rebased_timeline: row.rebased_timeline,
                fenced: row.fenced,
                must_let_go: row.must_let_go.map(Revision::try_from).transpose().map_err(|_| bad("revision", "below 0".to_owned()))?,
            },
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

fn quarantine_of(text: &str) -> sqlx::Result<Quarantine> {
    match text {
        "old_token" => Ok(Quarantine::OldToken),
        "state_behind" => Ok(Quarantine::StateBehind),
        "rival" => Ok(Quarantine::Rival),
        "other_machine" => Ok(Quarantine::OtherMachine),
        other => Err(BadRow::of("worker", "quarantine", other)),
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
                      (select count(*) from server s where s.worker_id = w.id and s.deleted_at is null) as "servers!",
                      w.resume_hash, w.resume_before_hash, w.resume_epoch, w.machine as "machine: _", w.home, w.state_seq, w.quarantine, w.quarantine_at_home, w.timeline,
                      w.rebased_timeline, w.fenced_at is not null as "fenced!",
                      (select max(r.revision) from server_release r where r.worker_id = w.id and r.gone_at is null) as must_let_go
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

/// What the next session of a worker begins with, as the rules of [`manman_link::admission`] say.
#[derive(Clone, Debug)]
pub struct NextSession {
    /// That of the session which was looked at; another may have begun meanwhile.
    pub after: SessionEpoch,
    pub epoch: SessionEpoch,
    pub desired_revision: Revision,
    pub state_seq: u64,
    /// None for whoever showed no memory: what was handed over before stays good.
    pub resume: Option<NextResume>,
    pub quarantine: Option<Quarantine>,
    pub quarantine_at_home: bool,
    pub timeline: Option<Uuid>,
    /// None keeps what is known.
    pub machine: Option<Machine>,
}

#[derive(Clone, Copy, Debug)]
pub struct NextResume {
    pub token: TokenHash,
    /// What the worker goes on showing if the token does not reach it.
    pub before: TokenHash,
}

/// Begins a session; `false` where another has begun meanwhile. Labels that a person has given stay
/// where the worker does not name them, and whoever is here again is not fenced any more.
pub async fn worker_begin_session(conn: &mut PgConnection, id: WorkerId, next: &NextSession, facts: &SessionFacts) -> sqlx::Result<bool> {
    sqlx::query!(
        "update worker set session_epoch = $3, address = $4, api_url = $5, api_token = $6, labels = labels || $7, capabilities = $8,
                           process = $9, desired_revision = greatest(desired_revision, $10), state_seq = $11,
                           resume_hash = coalesce($12, resume_hash),
                           resume_before_hash = coalesce($13, resume_before_hash),
                           resume_epoch = case when $12::bytea is null then resume_epoch else $3 end,
                           quarantine = $14, quarantine_at_home = $15, timeline = $16, machine = coalesce($17, machine),
                           home = coalesce($18, home), fenced_at = null
         where id = $1 and session_epoch = $2 and state <> 'deleted'",
        id.as_uuid(),
        i64::from(next.after),
        i64::from(next.epoch),
        facts.address,
        facts.api_url,
        facts.api_token,
        Json(&facts.labels) as _,
        Json(&facts.capabilities) as _,
        facts.process.as_ref().map(Json) as _,
        i64::from(next.desired_revision),
        i64::try_from(next.state_seq).unwrap_or(i64::MAX),
        next.resume.as_ref().map(|resume| &resume.token[..]),
        next.resume.as_ref().map(|resume| &resume.before[..]),
        next.quarantine.map(Quarantine::as_str),
        next.quarantine_at_home,
        next.timeline,
        next.machine.as_ref().map(Json) as _,
        facts.process.as_ref().map(|process| &process.home),
    )
    .execute(conn)
    .await
    .map(|done| done.rows_affected() == 1)
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
    sqlx::query!("delete from server_release where worker_id = $1", id.as_uuid()).execute(&mut *conn).await?;
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
    /// The session that they are of: a number of an older one says nothing of the newer.
    pub session_epoch: SessionEpoch,
    pub state_seq: u64,
}

/// Locks the workers in the order of their ids, as a move from one to another does.
pub async fn worker_store_beats(conn: &mut PgConnection, beats: &[BeatFacts]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = beats.iter().map(|beat| beat.id.as_uuid()).collect();
    let revisions: Vec<i64> = beats.iter().map(|beat| beat.observed_revision.into()).collect();
    let usages: Vec<Option<serde_json::Value>> =
        beats.iter().map(|beat| beat.usage.and_then(|usage| serde_json::to_value(usage).ok())).collect();
    let epochs: Vec<i64> = beats.iter().map(|beat| beat.session_epoch.into()).collect();
    let state_seqs: Vec<i64> = beats.iter().map(|beat| i64::try_from(beat.state_seq).unwrap_or(i64::MAX)).collect();
    sqlx::query!(
        "with beat as (
             select * from unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::bigint[], $5::bigint[]) as b (id, revision, usage, epoch, state_seq)
         ), held as (select w.id from worker w join beat using (id) order by w.id for no key update of w)
         update worker w set observed_revision = b.revision, usage = coalesce(b.usage, w.usage),
                             state_seq = case when w.session_epoch = b.epoch then greatest(w.state_seq, b.state_seq) else w.state_seq end
         from beat b join held using (id) where w.id = b.id",
        &ids,
        &revisions,
        &usages as _,
        &epochs,
        &state_seqs,
    )
    .execute(conn)
    .await
    .map(drop)
}

pub async fn worker_desired_revision(conn: &mut PgConnection, id: WorkerId) -> sqlx::Result<Option<Revision>> {
    let revision = sqlx::query_scalar!("select desired_revision from worker where id = $1", id.as_uuid()).fetch_optional(conn).await?;
    revision.map(|revision| revision.try_into().map_err(|_| BadRow::of("worker", "desired_revision", revision))).transpose()
}
