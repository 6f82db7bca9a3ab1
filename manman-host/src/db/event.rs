//! PLACEHOLDER, to be taken over by H2: events as they are written. `event_insert` is what the
//! server and token routes call, in the transaction of the change itself.

use manman_common::{ServerId, Timestamp, WorkerId};
use sqlx::PgConnection;

/// What happened, before it has a number.
#[derive(Clone, Debug, Default)]
pub struct NewEvent {
    /// `admin`, a token's label, `worker attic`, `host`.
    pub actor: String,
    /// `server.created`, `worker.kill_attempt`, …
    pub kind: &'static str,
    pub worker_id: Option<WorkerId>,
    pub server_id: Option<ServerId>,
    /// A sentence for people.
    pub message: String,
    pub data: serde_json::Value,
}

pub async fn event_insert(conn: &mut PgConnection, at: Timestamp, event: &NewEvent) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        "insert into event (at, actor, kind, worker_id, server_id, message, data) values ($1, $2, $3, $4, $5, $6, $7) returning id",
        at.to_chrono(),
        event.actor,
        event.kind,
        event.worker_id.map(WorkerId::as_uuid),
        event.server_id.map(ServerId::as_uuid),
        event.message,
        event.data,
    )
    .fetch_one(conn)
    .await
}
