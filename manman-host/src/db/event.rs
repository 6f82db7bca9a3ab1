//! Events: what happened, in the order of their numbers. Nothing here changes or removes one.

use manman_common::wire::Event;
use manman_common::{CommandId, ServerId, Timestamp, WorkerId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::moment;

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

/// Records an event in the transaction of the change itself. After the commit, tell
/// [`Fleet::event_recorded`](crate::fleet::Fleet::event_recorded).
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

struct Row {
    id: i64,
    at: chrono::DateTime<chrono::Utc>,
    actor: String,
    kind: String,
    worker_id: Option<Uuid>,
    server_id: Option<Uuid>,
    message: String,
    data: serde_json::Value,
}

impl From<Row> for Event {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            at: moment(row.at),
            actor: row.actor,
            kind: row.kind,
            worker_id: row.worker_id.map(WorkerId::from_uuid),
            server_id: row.server_id.map(ServerId::from_uuid),
            message: row.message,
            data: row.data,
        }
    }
}

/// Which events; what is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub server: Option<ServerId>,
    pub worker: Option<WorkerId>,
    /// A kind, or its beginning with a dot at the end: `server.` is all of servers.
    pub kind: Option<String>,
}

impl EventFilter {
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.server.is_none_or(|server| event.server_id == Some(server))
            && self.worker.is_none_or(|worker| event.worker_id == Some(worker))
            && self.kind.as_deref().is_none_or(|kind| event.kind == kind || kind.ends_with('.') && event.kind.starts_with(kind))
    }
}

/// The newest events before `before`, newest first.
pub async fn event_page(conn: &mut PgConnection, filter: &EventFilter, before: Option<i64>, limit: i64) -> sqlx::Result<Vec<Event>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, at, actor, kind, worker_id, server_id, message, data from event
         where ($1::bigint is null or id < $1) and ($2::uuid is null or server_id = $2) and ($3::uuid is null or worker_id = $3)
           and ($4::text is null or kind = $4 or (right($4, 1) = '.' and starts_with(kind, $4)))
         order by id desc limit $5",
        before,
        filter.server.map(ServerId::as_uuid),
        filter.worker.map(WorkerId::as_uuid),
        filter.kind,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Event::from).collect())
}

/// The events after `after`, oldest first.
pub async fn event_after(conn: &mut PgConnection, filter: &EventFilter, after: i64, limit: i64) -> sqlx::Result<Vec<Event>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, at, actor, kind, worker_id, server_id, message, data from event
         where id > $1 and ($2::uuid is null or server_id = $2) and ($3::uuid is null or worker_id = $3)
           and ($4::text is null or kind = $4 or (right($4, 1) = '.' and starts_with(kind, $4)))
         order by id limit $5",
        after,
        filter.server.map(ServerId::as_uuid),
        filter.worker.map(WorkerId::as_uuid),
        filter.kind,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Event::from).collect())
}

/// What its worker said of the end of an action.
pub async fn event_of_action(conn: &mut PgConnection, server: ServerId, action: CommandId) -> sqlx::Result<Option<serde_json::Value>> {
    sqlx::query_scalar!(
        "select data from event where server_id = $1 and kind = 'server.action' and data->>'action_id' = $2 order by id desc limit 1",
        server.as_uuid(),
        action.to_string(),
    )
    .fetch_optional(conn)
    .await
}

/// The number of the newest event, 0 where there is none.
pub async fn event_newest(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select coalesce(max(id), 0) as "newest!" from event"#).fetch_one(conn).await
}
