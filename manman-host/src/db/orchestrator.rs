//! The document of the orchestrator.

use sqlx::PgConnection;

pub async fn orchestrator_state(conn: &mut PgConnection) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar("select document from orchestrator_state").fetch_optional(conn).await
}

pub async fn orchestrator_state_save(conn: &mut PgConnection, document: &[u8]) -> sqlx::Result<()> {
    let query = "insert into orchestrator_state (document) values ($1)
                 on conflict (only_row) do update set document = excluded.document, saved_at = now()";
    sqlx::query(query).bind(document).execute(conn).await.map(drop)
}
