//! Browsers' sessions, and the links that begin one: rows of the table of tokens.

use manman_common::wire::{Role, Scope};
use manman_common::{AccountId, ServerId, Timestamp, TokenId};
use sqlx::PgConnection;

use super::account::account_get_for_session;
use super::token::{scope_of, scope_text};
use super::{BadRow, moment};

/// Whose rights a session has, and with what it ends.
#[derive(Clone, Debug)]
pub struct Grant {
    pub role: Role,
    /// The account's name, or the label of the token that it comes from.
    pub label: String,
    pub server_id: Option<ServerId>,
    pub account_id: Option<AccountId>,
    pub parent_id: Option<TokenId>,
    /// It does not outlive its parent.
    pub until: Option<Timestamp>,
}

/// A session to be.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub id: TokenId,
    pub secret_hash: [u8; 32],
    pub grant: Grant,
    pub user_agent: Option<String>,
    pub peer: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Sessions of one account, and of one token; whoever opens more ends the oldest.
const SESSIONS_MAX: i64 = 50;
/// Login links that wait to be followed, likewise.
const LINKS_MAX: i64 = 20;

/// Begins a session; answers which others had to end for it.
pub async fn session_insert(conn: &mut PgConnection, session: &NewSession) -> sqlx::Result<Vec<TokenId>> {
    let NewSession { grant, .. } = session;
    sqlx::query!(
        "insert into token (id, secret_hash, scope, label, server_id, account_id, parent_id, user_agent, peer, session, created_at, expires_at, last_used_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, true, $10, $11, $10)",
        session.id.as_uuid(),
        session.secret_hash.as_slice(),
        grant.role.as_str(),
        grant.label,
        grant.server_id.map(ServerId::as_uuid),
        grant.account_id.map(AccountId::as_uuid),
        grant.parent_id.map(TokenId::as_uuid),
        session.user_agent,
        session.peer,
        session.created_at.to_chrono(),
        session.expires_at.to_chrono(),
    )
    .execute(&mut *conn)
    .await?;
    if let Some(account) = grant.account_id {
        sqlx::query!("update account set last_seen_at = $2 where id = $1", account.as_uuid(), session.created_at.to_chrono())
            .execute(&mut *conn)
            .await?;
    }
    sweep(conn, session.created_at).await?;
    let ended = sqlx::query_scalar!(
        "update token set revoked_at = $3
         where id in (select id from token
                      where session and revoked_at is null and account_id is not distinct from $1 and parent_id is not distinct from $2
                      order by id desc offset $4)
         returning id",
        grant.account_id.map(AccountId::as_uuid),
        grant.parent_id.map(TokenId::as_uuid),
        session.created_at.to_chrono(),
        SESSIONS_MAX,
    )
    .fetch_all(conn)
    .await?;
    Ok(ended.into_iter().map(TokenId::from_uuid).collect())
}

/// Rows that have said nothing for a month are of no use to anybody.
async fn sweep(conn: &mut PgConnection, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from token
         where (session or scope = 'login') and (revoked_at < $1::timestamptz - interval '30 days' or expires_at < $1::timestamptz - interval '30 days')",
        now.to_chrono(),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Makes a link that begins a session with these rights, once.
pub async fn login_insert(
    conn: &mut PgConnection,
    id: TokenId,
    secret_hash: &[u8; 32],
    grant: &Grant,
    now: Timestamp,
    expires_at: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into token (id, secret_hash, scope, grants, label, server_id, account_id, parent_id, created_at, expires_at)
         values ($1, $2, 'login', $3, $4, $5, $6, $7, $8, $9)",
        id.as_uuid(),
        secret_hash,
        grant.role.as_str(),
        grant.label,
        grant.server_id.map(ServerId::as_uuid),
        grant.account_id.map(AccountId::as_uuid),
        grant.parent_id.map(TokenId::as_uuid),
        now.to_chrono(),
        expires_at.to_chrono(),
    )
    .execute(&mut *conn)
    .await?;
    // Links live for minutes; nobody asks for one that is older.
    sqlx::query!(
        "delete from token
         where scope = 'login' and (expires_at < $3 or id in
             (select id from token
              where scope = 'login' and account_id is not distinct from $1 and parent_id is not distinct from $2
              order by id desc offset $4))",
        grant.account_id.map(AccountId::as_uuid),
        grant.parent_id.map(TokenId::as_uuid),
        now.to_chrono(),
        LINKS_MAX,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Uses a login link up; `None` if it is unknown, used or too old, or its account or token has
/// ended. Until the end of the transaction neither of the two can end.
pub async fn login_redeem(conn: &mut PgConnection, secret_hash: &[u8; 32], now: Timestamp) -> sqlx::Result<Option<Grant>> {
    let row = sqlx::query!(
        r#"update token set revoked_at = $2, last_used_at = $2
           where secret_hash = $1 and scope = 'login' and revoked_at is null and expires_at > $2
           returning grants as "grants!", label, server_id, account_id, parent_id"#,
        secret_hash,
        now.to_chrono()
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if let Some(account) = row.account_id {
        return grant_of_account(conn, AccountId::from_uuid(account)).await;
    }
    match row.parent_id {
        Some(parent) => grant_of_token(conn, TokenId::from_uuid(parent), now).await,
        None => Ok(Some(Grant {
            role: role_of(&row.grants)?,
            label: row.label,
            server_id: row.server_id.map(ServerId::from_uuid),
            account_id: None,
            parent_id: None,
            until: None,
        })),
    }
}

/// What a session of this account may do; `None` if the account is disabled or gone. Until the end
/// of the transaction it can not be.
pub async fn grant_of_account(conn: &mut PgConnection, id: AccountId) -> sqlx::Result<Option<Grant>> {
    Ok(account_get_for_session(conn, id).await?.map(|account| Grant {
        role: account.role,
        label: account.name.to_string(),
        server_id: account.server_id,
        account_id: Some(account.id),
        parent_id: None,
        until: None,
    }))
}

/// What a session made from this token may do; `None` if the token is revoked or expired. Until
/// the end of the transaction it can not be revoked.
pub async fn grant_of_token(conn: &mut PgConnection, id: TokenId, now: Timestamp) -> sqlx::Result<Option<Grant>> {
    let row = sqlx::query!(
        "select scope, label, server_id, expires_at from token
         where id = $1 and not session and scope <> 'login' and revoked_at is null and (expires_at is null or expires_at > $2)
         for share",
        id.as_uuid(),
        now.to_chrono(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    // Machines' tokens begin no session.
    let Some(role) = Role::of(scope_of(&row.scope)?) else { return Ok(None) };
    Ok(Some(Grant {
        role,
        label: row.label,
        server_id: row.server_id.map(ServerId::from_uuid),
        account_id: None,
        parent_id: Some(id),
        until: row.expires_at.map(moment),
    }))
}

/// A session as lists show it.
#[derive(Clone, Debug)]
pub struct ListedSession {
    pub id: TokenId,
    pub name: String,
    pub role: Role,
    pub account_id: Option<AccountId>,
    pub parent_id: Option<TokenId>,
    pub user_agent: Option<String>,
    pub peer: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
}

/// Whose sessions.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionFilter {
    pub account: Option<AccountId>,
    pub parent: Option<TokenId>,
    pub id: Option<TokenId>,
}

/// Valid sessions in the order in which they began; an empty filter matches all.
pub async fn session_page(
    conn: &mut PgConnection,
    filter: SessionFilter,
    after: Option<TokenId>,
    limit: i64,
    now: Timestamp,
) -> sqlx::Result<Vec<ListedSession>> {
    let rows = sqlx::query!(
        r#"select token.id, coalesce(account.name, token.label) as "name!", token.scope, token.account_id, token.parent_id,
             token.user_agent, token.peer, token.created_at, token.last_used_at, token.expires_at
           from token left join account on account.id = token.account_id
           where token.session and token.revoked_at is null and (token.expires_at is null or token.expires_at > $1)
             and ($2::uuid is null or token.account_id = $2) and ($3::uuid is null or token.parent_id = $3)
             and ($4::uuid is null or token.id = $4) and ($5::uuid is null or token.id > $5)
           order by token.id limit $6"#,
        now.to_chrono(),
        filter.account.map(AccountId::as_uuid),
        filter.parent.map(TokenId::as_uuid),
        filter.id.map(TokenId::as_uuid),
        after.map(TokenId::as_uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ListedSession {
                id: TokenId::from_uuid(row.id),
                name: row.name,
                role: role_of(&row.scope)?,
                account_id: row.account_id.map(AccountId::from_uuid),
                parent_id: row.parent_id.map(TokenId::from_uuid),
                user_agent: row.user_agent,
                peer: row.peer,
                created_at: moment(row.created_at),
                last_used_at: row.last_used_at.map(moment),
                expires_at: row.expires_at.map(moment),
            })
        })
        .collect()
}

fn role_of(scope: &str) -> sqlx::Result<Role> {
    let scope: Scope = scope_of(scope)?;
    Role::of(scope).ok_or_else(|| BadRow::of("token", "scope", scope_text(scope)))
}
