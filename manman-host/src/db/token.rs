//! Tokens: only hashes of their secrets are here.

use manman_common::wire::Scope;
use manman_common::{ServerId, Timestamp, TokenId, WorkerId};
use sqlx::PgConnection;

use super::{BadRow, moment};

/// What a valid secret stands for.
#[derive(Clone, Debug)]
pub struct KnownToken {
    pub id: TokenId,
    pub scope: Scope,
    pub label: String,
    pub worker_id: Option<WorkerId>,
    pub server_id: Option<ServerId>,
    pub expires_at: Option<Timestamp>,
}

/// The token of this secret, unless it was revoked or has expired.
pub async fn token_find(conn: &mut PgConnection, secret_hash: &[u8; 32], now: Timestamp) -> sqlx::Result<Option<KnownToken>> {
    let row = sqlx::query!(
        "update token set last_used_at = $2
         where secret_hash = $1 and scope <> 'login' and revoked_at is null and (expires_at is null or expires_at > $2)
         returning id, scope, label, worker_id, server_id, expires_at",
        secret_hash,
        now.to_chrono(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(KnownToken {
            id: TokenId::from_uuid(row.id),
            scope: scope_of(&row.scope)?,
            label: row.label,
            worker_id: row.worker_id.map(WorkerId::from_uuid),
            server_id: row.server_id.map(ServerId::from_uuid),
            expires_at: row.expires_at.map(moment),
        })
    })
    .transpose()
}

pub(crate) fn scope_of(text: &str) -> sqlx::Result<Scope> {
    match text {
        "admin" => Ok(Scope::Admin),
        "operator" => Ok(Scope::Operator),
        "viewer" => Ok(Scope::Viewer),
        "worker" => Ok(Scope::Worker),
        "join" => Ok(Scope::Join),
        other => Err(BadRow::of("token", "scope", other)),
    }
}

pub(crate) const fn scope_text(scope: Scope) -> &'static str {
    match scope {
        Scope::Admin => "admin",
        Scope::Operator => "operator",
        Scope::Viewer => "viewer",
        Scope::Worker => "worker",
        Scope::Join => "join",
    }
}

/// A token to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub id: TokenId,
    pub secret_hash: [u8; 32],
    pub scope: Scope,
    pub label: String,
    pub worker_id: Option<WorkerId>,
    pub server_id: Option<ServerId>,
    /// A browser's session, which lists do not show.
    pub session: bool,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

pub async fn token_insert(conn: &mut PgConnection, token: &NewToken) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into token (id, secret_hash, scope, label, worker_id, server_id, session, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        token.id.as_uuid(),
        token.secret_hash.as_slice(),
        scope_text(token.scope),
        token.label,
        token.worker_id.map(WorkerId::as_uuid),
        token.server_id.map(ServerId::as_uuid),
        token.session,
        token.created_at.to_chrono(),
        token.expires_at.map(Timestamp::to_chrono),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Revokes every token of a worker; answers which, so that their sockets are closed.
pub async fn token_revoke_of_worker(conn: &mut PgConnection, worker: WorkerId, now: Timestamp) -> sqlx::Result<Vec<TokenId>> {
    let ids = sqlx::query_scalar!(
        "update token set revoked_at = $2 where worker_id = $1 and revoked_at is null returning id",
        worker.as_uuid(),
        now.to_chrono(),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(TokenId::from_uuid).collect())
}
