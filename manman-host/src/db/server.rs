//! Servers: what was wished, in which generation, and the worker's last word.

mod change;
mod list;
mod relocate;

use manman_common::spec::StopMode;
use manman_common::wire::CreateServer;
use manman_common::{DesiredState, GameId, Generation, Name, Phase, RunSpec, ServerId, ServerStatus, Timestamp, WorkerId, WorkerStatus};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

pub use change::{NewServer, Wish, revision_bump, server_change, server_insert, server_name_is_free};
pub use list::{ServerFilter, ServerKey, server_list};
pub use relocate::{Relocation, release_gone, server_keep, server_relocate, server_told};

use super::{BadRow, moment};

/// A server as it is stored, and what a view needs of its worker.
#[derive(Clone, Debug)]
pub struct Server {
    pub id: ServerId,
    pub name: Name,
    pub worker_id: WorkerId,
    pub worker_name: Name,
    pub worker_address: String,
    pub worker_status: WorkerStatus,
    pub worker_status_since: Timestamp,
    pub game_id: GameId,
    pub request: CreateServer,
    pub run: RunSpec,
    pub desired: DesiredState,
    pub stop_mode: StopMode,
    pub restart_seq: u64,
    pub purge: bool,
    pub generation: Generation,
    pub run_generation: Generation,
    /// Which assignment to a worker this is.
    pub epoch: u64,
    /// The generation in which the lease last changed.
    pub lease_generation: Generation,
    pub status: Option<ServerStatus>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub gone_at: Option<Timestamp>,
}

impl Server {
    /// The worker's last word on the phase.
    #[must_use]
    pub fn reported_phase(&self) -> Phase {
        self.status.as_ref().map_or(Phase::Pending, |status| status.phase)
    }
}

/// The columns, in the types of the database.
struct Row {
    id: Uuid,
    name: String,
    worker_id: Uuid,
    worker_name: String,
    worker_address: String,
    worker_status: String,
    worker_status_since: chrono::DateTime<chrono::Utc>,
    game_id: String,
    request: Json<CreateServer>,
    run: Json<RunSpec>,
    desired: String,
    stop_mode: String,
    restart_seq: i64,
    purge: bool,
    generation: i64,
    run_generation: i64,
    epoch: i64,
    lease_generation: i64,
    status: Option<Json<ServerStatus>>,
    created_at: chrono::DateTime<chrono::Utc>,
    updated_at: chrono::DateTime<chrono::Utc>,
    gone_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl TryFrom<Row> for Server {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        Ok(Self {
            id: ServerId::from_uuid(row.id),
            name: row.name.parse().map_err(|error| BadRow::of("server", "name", error))?,
            worker_id: WorkerId::from_uuid(row.worker_id),
            worker_name: row.worker_name.parse().map_err(|error| BadRow::of("worker", "name", error))?,
            worker_address: row.worker_address,
            worker_status: worker_status_of(&row.worker_status)?,
            worker_status_since: moment(row.worker_status_since),
            game_id: row.game_id.parse().map_err(|error| BadRow::of("server", "game_id", error))?,
            request: row.request.0,
            run: row.run.0,
            desired: desired_of(&row.desired)?,
            stop_mode: stop_mode_of(&row.stop_mode)?,
            restart_seq: u64::try_from(row.restart_seq).map_err(|error| BadRow::of("server", "restart_seq", error))?,
            purge: row.purge,
            generation: row.generation.try_into().map_err(|error| BadRow::of("server", "generation", error))?,
            run_generation: row.run_generation.try_into().map_err(|error| BadRow::of("server", "run_generation", error))?,
            epoch: u64::try_from(row.epoch).map_err(|error| BadRow::of("server", "epoch", error))?,
            lease_generation: row.lease_generation.try_into().map_err(|error| BadRow::of("server", "lease_generation", error))?,
            status: row.status.map(|status| status.0),
            created_at: moment(row.created_at),
            updated_at: moment(row.updated_at),
            gone_at: row.gone_at.map(moment),
        })
    }
}

/// `select` with this list gives a [`Row`]; a macro, since sqlx's own wants literals.
macro_rules! server_query {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            $crate::db::server::Row,
            r#"select s.id, s.name, s.worker_id, w.name as worker_name, w.address as worker_address, w.status as worker_status,
                      w.status_since as worker_status_since, s.game_id, s.request as "request: Json<CreateServer>", s.run as "run: Json<RunSpec>",
                      s.desired, s.stop_mode, s.restart_seq, s.purge, s.generation, s.run_generation, s.epoch, s.lease_generation,
                      s.status as "status: Json<ServerStatus>",
                      s.created_at, s.updated_at, s.gone_at
               from server s join worker w on w.id = s.worker_id "# + $rest
            $(, $argument)*
        )
    };
}
pub(crate) use server_query;

/// A server by id, until its worker has said that it is gone.
pub async fn server_get(conn: &mut PgConnection, id: ServerId) -> sqlx::Result<Option<Server>> {
    server_query!("where s.id = $1 and s.gone_at is null", id.as_uuid()).fetch_optional(conn).await?.map(Server::try_from).transpose()
}

/// A server by name, unless it is deleted.
pub async fn server_get_by_name(conn: &mut PgConnection, name: &str) -> sqlx::Result<Option<Server>> {
    server_query!("where lower(s.name) = lower($1) and s.deleted_at is null", name)
        .fetch_optional(conn)
        .await?
        .map(Server::try_from)
        .transpose()
}

/// The names that begin with this text, for a hint.
pub async fn server_names_like(conn: &mut PgConnection, prefix: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select name from server where deleted_at is null and (starts_with(lower(name), lower($1)) or starts_with(id::text, lower($1)))
         order by name limit 8",
        prefix
    )
    .fetch_all(conn)
    .await
}

pub(crate) fn desired_of(text: &str) -> sqlx::Result<DesiredState> {
    match text {
        "running" => Ok(DesiredState::Running),
        "stopped" => Ok(DesiredState::Stopped),
        "deleted" => Ok(DesiredState::Deleted),
        other => Err(BadRow::of("server", "desired", other)),
    }
}

pub(crate) const fn desired_text(desired: DesiredState) -> &'static str {
    match desired {
        DesiredState::Running => "running",
        DesiredState::Stopped => "stopped",
        DesiredState::Deleted => "deleted",
    }
}

fn stop_mode_of(text: &str) -> sqlx::Result<StopMode> {
    match text {
        "graceful" => Ok(StopMode::Graceful),
        "kill" => Ok(StopMode::Kill),
        other => Err(BadRow::of("server", "stop_mode", other)),
    }
}

const fn stop_mode_text(mode: StopMode) -> &'static str {
    match mode {
        StopMode::Graceful => "graceful",
        StopMode::Kill => "kill",
    }
}

pub(crate) fn worker_status_of(text: &str) -> sqlx::Result<WorkerStatus> {
    match text {
        "pending" => Ok(WorkerStatus::Pending),
        "alive" => Ok(WorkerStatus::Alive),
        "frozen" => Ok(WorkerStatus::Frozen),
        "shutdown" => Ok(WorkerStatus::Shutdown),
        "unknown" => Ok(WorkerStatus::Unknown),
        other => Err(BadRow::of("worker", "status", other)),
    }
}
