//! What a worker's servers should be, as it is sent down the link.

use manman_common::spec::StopMode;
use manman_common::{DesiredState, Generation, Revision, RunSpec, ServerId, ServerSpec, WorkerId};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::BadRow;

struct Row {
    id: Uuid,
    name: String,
    generation: i64,
    desired: String,
    stop_mode: String,
    restart_seq: i64,
    purge: bool,
    epoch: i64,
    lease_seconds: Option<i32>,
    run: Json<RunSpec>,
    #[expect(dead_code, reason = "what the rows are ordered by")]
    at: i64,
}

impl TryFrom<Row> for ServerSpec {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let bad = |column: &'static str, why: &str| BadRow::of("server", column, why);
        Ok(Self {
            id: ServerId::from_uuid(row.id),
            name: row.name.parse().map_err(|_| bad("name", &row.name))?,
            generation: Generation::try_from(row.generation).map_err(|_| bad("generation", &row.generation.to_string()))?,
            desired: match row.desired.as_str() {
                "running" => DesiredState::Running,
                "stopped" => DesiredState::Stopped,
                "deleted" => DesiredState::Deleted,
                other => return Err(bad("desired", other)),
            },
            stop_mode: match row.stop_mode.as_str() {
                "graceful" => StopMode::Graceful,
                "kill" => StopMode::Kill,
                other => return Err(bad("stop_mode", other)),
            },
            restart_seq: u64::try_from(row.restart_seq).map_err(|_| bad("restart_seq", &row.restart_seq.to_string()))?,
            purge: row.purge,
            epoch: u64::try_from(row.epoch).map_err(|_| bad("epoch", &row.epoch.to_string()))?,
            lease_seconds: row
                .lease_seconds
                .map(u32::try_from)
                .transpose()
                .map_err(|_| bad("lease_seconds", &format!("{:?}", row.lease_seconds)))?,
            run: row.run.0,
        })
    }
}

/// Selects specs: a worker's own servers, and then those that it must let go of, which it is told to
/// delete without their data. The conditions speak of the server as `s` and of the release as `r`;
/// the worker is `$1`.
macro_rules! select_specs {
    ($own:literal, $released:literal, $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"select s.id as "id!", s.name as "name!", s.generation as "generation!", s.desired as "desired!", s.stop_mode as "stop_mode!",
                      s.restart_seq as "restart_seq!", s.purge as "purge!", s.epoch as "epoch!", s.lease_seconds, s.run as "run!: _",
                      s.revision as "at!"
               from server s where s.worker_id = $1 and s.gone_at is null "# + $own + r#"
               union all
               select s.id, s.name, r.generation, 'deleted', 'graceful', s.restart_seq, false, r.epoch, null, s.run, r.revision
               from server_release r join server s on s.id = r.server_id
               where r.worker_id = $1 and r.gone_at is null "# + $released + r#"
               order by 11, 1"#,
            $($argument),+
        )
    };
}

/// The specs that changed after one revision, up to another; those that are gone from their worker
/// are left out.
pub async fn spec_changed_between(
    conn: &mut PgConnection,
    worker: WorkerId,
    after: Revision,
    up_to: Revision,
) -> sqlx::Result<Vec<ServerSpec>> {
    select_specs!(
        "and s.revision > $2 and s.revision <= $3",
        "and r.revision > $2 and r.revision <= $3",
        worker.as_uuid(),
        i64::from(after),
        i64::from(up_to),
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(ServerSpec::try_from)
    .collect()
}

/// All of a worker's specs.
pub async fn spec_all(conn: &mut PgConnection, worker: WorkerId) -> sqlx::Result<Vec<ServerSpec>> {
    select_specs!("", "", worker.as_uuid()).fetch_all(conn).await?.into_iter().map(ServerSpec::try_from).collect()
}

/// Those of a worker's specs that it has asked for; ids of others' servers bring nothing.
pub async fn spec_pick(conn: &mut PgConnection, worker: WorkerId, servers: &[ServerId]) -> sqlx::Result<Vec<ServerSpec>> {
    let ids: Vec<Uuid> = servers.iter().map(|server| server.as_uuid()).collect();
    select_specs!("and s.id = any($2)", "and r.server_id = any($2)", worker.as_uuid(), &ids)
        .fetch_all(conn)
        .await?
        .into_iter()
        .map(ServerSpec::try_from)
        .collect()
}
