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
    run: Json<RunSpec>,
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
            epoch: 1,
            lease_seconds: None,
            run: row.run.0,
        })
    }
}

/// The specs that changed after one revision, up to another; those that are gone from their worker
/// are left out.
pub async fn spec_changed_between(
    conn: &mut PgConnection,
    worker: WorkerId,
    after: Revision,
    up_to: Revision,
) -> sqlx::Result<Vec<ServerSpec>> {
    sqlx::query_as!(
        Row,
        r#"select id, name, generation, desired, stop_mode, restart_seq, purge, run as "run: _" from server
           where worker_id = $1 and revision > $2 and revision <= $3 and gone_at is null order by revision, id"#,
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
    sqlx::query_as!(
        Row,
        r#"select id, name, generation, desired, stop_mode, restart_seq, purge, run as "run: _" from server
           where worker_id = $1 and gone_at is null order by id"#,
        worker.as_uuid(),
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(ServerSpec::try_from)
    .collect()
}

/// Those of a worker's specs that it has asked for; ids of others' servers bring nothing.
pub async fn spec_pick(conn: &mut PgConnection, worker: WorkerId, servers: &[ServerId]) -> sqlx::Result<Vec<ServerSpec>> {
    let ids: Vec<Uuid> = servers.iter().map(|server| server.as_uuid()).collect();
    sqlx::query_as!(
        Row,
        r#"select id, name, generation, desired, stop_mode, restart_seq, purge, run as "run: _" from server
           where worker_id = $1 and id = any($2) and gone_at is null order by id"#,
        worker.as_uuid(),
        &ids,
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(ServerSpec::try_from)
    .collect()
}
