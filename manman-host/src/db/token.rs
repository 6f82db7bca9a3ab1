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

/// A token as lists show it.
#[derive(Clone, Debug)]
pub struct ListedToken {
    pub token: KnownToken,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

/// Tokens that are valid and were handed to somebody; browsers' sessions and login links are not.
pub async fn token_list(conn: &mut PgConnection, after: Option<TokenId>, limit: u32, now: Timestamp) -> sqlx::Result<Vec<ListedToken>> {
    let rows = sqlx::query!(
        "select id, scope, label, worker_id, server_id, expires_at, created_at, last_used_at from token
         where scope <> 'login' and not session and revoked_at is null and (expires_at is null or expires_at > $1)
           and ($2::uuid is null or id > $2)
         order by id limit $3",
        now.to_chrono(),
        after.map(TokenId::as_uuid),
        i64::from(limit),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let token = KnownToken {
                id: TokenId::from_uuid(row.id),
                scope: scope_of(&row.scope)?,
                label: row.label,
                worker_id: row.worker_id.map(WorkerId::from_uuid),
                server_id: row.server_id.map(ServerId::from_uuid),
                expires_at: row.expires_at.map(moment),
            };
            Ok(ListedToken { token, created_at: moment(row.created_at), last_used_at: row.last_used_at.map(moment) })
        })
        .collect()
}

/// Revokes a token; answers its scope and label, or `None` if there is none (any more).
pub async fn token_revoke(conn: &mut PgConnection, id: TokenId, now: Timestamp) -> sqlx::Result<Option<(Scope, String)>> {
    let row = sqlx::query!(
        "update token set revoked_at = $2 where id = $1 and scope <> 'login' and revoked_at is null returning scope, label",
        id.as_uuid(),
        now.to_chrono()
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((scope_of(&row.scope)?, row.label))).transpose()
}

/// A link that signs a browser in once, with these rights.
#[derive(Clone, Debug)]
pub struct Login {
    pub grants: Scope,
    pub label: String,
    pub server_id: Option<ServerId>,
}

pub async fn login_insert(
    conn: &mut PgConnection,
    id: TokenId,
    secret_hash: &[u8; 32],
    login: &Login,
    now: Timestamp,
    expires_at: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into token (id, secret_hash, scope, grants, label, server_id, created_at, expires_at)
         values ($1, $2, 'login', $3, $4, $5, $6, $7)",
        id.as_uuid(),
        secret_hash,
        scope_text(login.grants),
        login.label,
        login.server_id.map(ServerId::as_uuid),
        now.to_chrono(),
        expires_at.to_chrono(),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Uses a login link up; `None` if it is unknown, used or too old.
pub async fn login_redeem(conn: &mut PgConnection, secret_hash: &[u8; 32], now: Timestamp) -> sqlx::Result<Option<Login>> {
    let row = sqlx::query!(
        r#"update token set revoked_at = $2, last_used_at = $2
           where secret_hash = $1 and scope = 'login' and revoked_at is null and expires_at > $2
           returning grants as "grants!", label, server_id"#,
        secret_hash,
        now.to_chrono()
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok(Login { grants: scope_of(&row.grants)?, label: row.label, server_id: row.server_id.map(ServerId::from_uuid) }))
        .transpose()
}

/// Whether the token is a browser's session.
pub async fn token_is_session(conn: &mut PgConnection, id: TokenId) -> sqlx::Result<bool> {
    Ok(sqlx::query_scalar!("select session from token where id = $1", id.as_uuid()).fetch_optional(conn).await?.unwrap_or(false))
}

/// Whether anybody has ever been given everything: if not, this is the first start.
pub async fn token_admin_exists(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from token where scope = 'admin') as "exists!""#).fetch_one(conn).await
}
