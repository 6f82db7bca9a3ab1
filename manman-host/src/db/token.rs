//! Tokens: only hashes of their secrets are here. Sessions and login links are rows of the same table.

use manman_common::wire::Scope;
use manman_common::{AccountId, ServerId, Timestamp, TokenId, WorkerId};
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
    /// A browser's session rather than a token handed to somebody.
    pub session: bool,
    /// Whose it is.
    pub account_id: Option<AccountId>,
    /// The token that a session was made from.
    pub parent_id: Option<TokenId>,
    /// With a session: the account's name as it is now.
    pub account_name: Option<String>,
}

/// The token of this secret, unless it was revoked or has expired, or its account is disabled.
pub async fn token_find(conn: &mut PgConnection, secret_hash: &[u8; 32], now: Timestamp) -> sqlx::Result<Option<KnownToken>> {
    let row = sqlx::query!(
        r#"update token set last_used_at = $2
         where secret_hash = $1 and scope <> 'login' and revoked_at is null and (expires_at is null or expires_at > $2)
           and (account_id is null
                or exists (select from account where account.id = token.account_id and disabled_at is null and deleted_at is null))
         returning id, scope, label, worker_id, server_id, expires_at, session, account_id, parent_id,
           (select account.name from account where account.id = token.account_id and token.session) as account_name"#,
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
            session: row.session,
            account_id: row.account_id.map(AccountId::from_uuid),
            parent_id: row.parent_id.map(TokenId::from_uuid),
            account_name: row.account_name,
        })
    })
    .transpose()
}

/// Notes that the token was used, and so its account seen.
pub async fn token_touch(conn: &mut PgConnection, id: TokenId, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query!(
        "with used as (update token set last_used_at = $2 where id = $1 returning account_id, session)
         update account set last_seen_at = $2 from used where account.id = used.account_id and used.session",
        id.as_uuid(),
        now.to_chrono(),
    )
    .execute(conn)
    .await
    .map(drop)
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
    pub account_id: Option<AccountId>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

impl NewToken {
    /// A token of nobody's for everything that its scope allows, for ever.
    #[must_use]
    pub const fn new(id: TokenId, secret_hash: [u8; 32], scope: Scope, created_at: Timestamp) -> Self {
        Self {
            id,
            secret_hash,
            scope,
            label: String::new(),
            worker_id: None,
            server_id: None,
            account_id: None,
            created_at,
            expires_at: None,
        }
    }
}

pub async fn token_insert(conn: &mut PgConnection, token: &NewToken) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into token (id, secret_hash, scope, label, worker_id, server_id, account_id, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        token.id.as_uuid(),
        token.secret_hash.as_slice(),
        scope_text(token.scope),
        token.label,
        token.worker_id.map(WorkerId::as_uuid),
        token.server_id.map(ServerId::as_uuid),
        token.account_id.map(AccountId::as_uuid),
        token.created_at.to_chrono(),
        token.expires_at.map(Timestamp::to_chrono),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// How many tokens are valid that were handed to somebody. Whoever adds one waits for whoever is
/// adding another, until the end of the transaction: so the number can be a limit.
pub async fn token_count_locked(conn: &mut PgConnection, now: Timestamp) -> sqlx::Result<i64> {
    /// Any number that no other lock of ours has.
    const LOCK: i64 = 0x746f_6b65_6e00_0000;
    sqlx::query_scalar!(r#"select 1 as "one!" from (select pg_advisory_xact_lock($1)) as held"#, LOCK).fetch_one(&mut *conn).await?;
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from token
           where scope in ('admin', 'operator', 'viewer', 'join') and not session and revoked_at is null
             and (expires_at is null or expires_at > $1)"#,
        now.to_chrono(),
    )
    .fetch_one(conn)
    .await
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
    pub id: TokenId,
    pub scope: Scope,
    pub label: String,
    pub worker_id: Option<WorkerId>,
    pub server_id: Option<ServerId>,
    pub account_id: Option<AccountId>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

/// Tokens that are valid and were handed to somebody; browsers' sessions and login links are not.
pub async fn token_list(conn: &mut PgConnection, after: Option<TokenId>, limit: i64, now: Timestamp) -> sqlx::Result<Vec<ListedToken>> {
    let rows = sqlx::query!(
        "select id, scope, label, worker_id, server_id, account_id, expires_at, created_at, last_used_at from token
         where scope <> 'login' and not session and revoked_at is null and (expires_at is null or expires_at > $1)
           and ($2::uuid is null or id > $2)
         order by id limit $3",
        now.to_chrono(),
        after.map(TokenId::as_uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ListedToken {
                id: TokenId::from_uuid(row.id),
                scope: scope_of(&row.scope)?,
                label: row.label,
                worker_id: row.worker_id.map(WorkerId::from_uuid),
                server_id: row.server_id.map(ServerId::from_uuid),
                account_id: row.account_id.map(AccountId::from_uuid),
                created_at: moment(row.created_at),
                expires_at: row.expires_at.map(moment),
                last_used_at: row.last_used_at.map(moment),
            })
        })
        .collect()
}

/// A token that has just been revoked.
#[derive(Clone, Debug)]
pub struct RevokedToken {
    pub scope: Scope,
    pub label: String,
    /// It, and the sessions and login links that were made from it.
    pub ids: Vec<TokenId>,
}

/// Revokes a token or a session, and what was made from it; `None` if there is none (any more).
pub async fn token_revoke(conn: &mut PgConnection, id: TokenId, session: bool, now: Timestamp) -> sqlx::Result<Option<RevokedToken>> {
    let row = sqlx::query!(
        "update token set revoked_at = $2 where id = $1 and session = $3 and scope <> 'login' and revoked_at is null
         returning scope, label",
        id.as_uuid(),
        now.to_chrono(),
        session,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    // A statement of its own: it sees the session of whoever held the token until just now.
    let children = sqlx::query_scalar!(
        "update token set revoked_at = $2 where parent_id = $1 and revoked_at is null returning id",
        id.as_uuid(),
        now.to_chrono(),
    )
    .fetch_all(conn)
    .await?;
    let ids = std::iter::once(id).chain(children.into_iter().map(TokenId::from_uuid)).collect();
    Ok(Some(RevokedToken { scope: scope_of(&row.scope)?, label: row.label, ids }))
}

/// What of an account ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Everything that anybody holds of it.
    All,
    /// Its sessions and login links, but not this one session; its tokens stay.
    SessionsBut(Option<TokenId>),
}

/// Revokes what there is of an account, whose row the transaction must hold.
pub async fn token_revoke_of_account(
    conn: &mut PgConnection,
    account: AccountId,
    ends: Ends,
    now: Timestamp,
) -> sqlx::Result<Vec<TokenId>> {
    let (all, but) = match ends {
        Ends::All => (true, None),
        Ends::SessionsBut(but) => (false, but),
    };
    let own = sqlx::query_scalar!(
        "update token set revoked_at = $2
         where account_id = $1 and revoked_at is null and ($3 or session or scope = 'login') and ($4::uuid is null or id <> $4)
         returning id",
        account.as_uuid(),
        now.to_chrono(),
        all,
        but.map(TokenId::as_uuid),
    )
    .fetch_all(&mut *conn)
    .await?;
    let children = sqlx::query_scalar!(
        "update token set revoked_at = $2 where parent_id = any($1) and revoked_at is null returning id",
        &own,
        now.to_chrono(),
    )
    .fetch_all(conn)
    .await?;
    Ok(own.into_iter().chain(children).map(TokenId::from_uuid).collect())
}

/// Whether anybody has ever been given everything: if not, this is the first start.
pub async fn token_admin_exists(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from token where scope = 'admin') as "exists!""#).fetch_one(conn).await
}
