//! Accounts: who people are, and what they may do.

use manman_common::wire::{AccountView, Role};
use manman_common::{AccountId, Name, ServerId, Timestamp};
use sqlx::PgConnection;
use uuid::Uuid;

use super::token::scope_of;
use super::{BadRow, moment};

/// An account that is not deleted.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: AccountId,
    pub name: Name,
    pub role: Role,
    pub server_id: Option<ServerId>,
    pub password_hash: Option<String>,
    pub disabled: bool,
    pub created_at: Timestamp,
    pub last_seen_at: Option<Timestamp>,
}

impl Account {
    #[must_use]
    pub fn view(&self) -> AccountView {
        AccountView {
            id: self.id,
            name: self.name.clone(),
            role: self.role,
            server_id: self.server_id,
            has_password: self.password_hash.is_some(),
            disabled: self.disabled,
            created_at: self.created_at,
            last_seen_at: self.last_seen_at,
        }
    }
}

struct Row {
    id: Uuid,
    name: String,
    role: String,
    server_id: Option<Uuid>,
    password_hash: Option<String>,
    created_at: chrono::DateTime<chrono::Utc>,
    last_seen_at: Option<chrono::DateTime<chrono::Utc>>,
    disabled_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl TryFrom<Row> for Account {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        Ok(Self {
            id: AccountId::from_uuid(row.id),
            name: row.name.parse().map_err(|error| BadRow::of("account", "name", error))?,
            role: Role::of(scope_of(&row.role)?).ok_or_else(|| BadRow::of("account", "role", &row.role))?,
            server_id: row.server_id.map(ServerId::from_uuid),
            password_hash: row.password_hash,
            disabled: row.disabled_at.is_some(),
            created_at: moment(row.created_at),
            last_seen_at: row.last_seen_at.map(moment),
        })
    }
}

pub async fn account_insert(conn: &mut PgConnection, account: &Account) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into account (id, name, role, server_id, password_hash, created_at) values ($1, $2, $3, $4, $5, $6)",
        account.id.as_uuid(),
        account.name.as_str(),
        account.role.as_str(),
        account.server_id.map(ServerId::as_uuid),
        account.password_hash,
        account.created_at.to_chrono(),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// How many there are. Whoever adds one waits for whoever is adding another, until the end of the
/// transaction: so the number can be a limit.
pub async fn account_count_locked(conn: &mut PgConnection) -> sqlx::Result<i64> {
    /// Any number that no other lock of ours has.
    const LOCK: i64 = 0x6163_636f_756e_7400;
    sqlx::query_scalar!(r#"select 1 as "one!" from (select pg_advisory_xact_lock($1)) as held"#, LOCK).fetch_one(&mut *conn).await?;
    sqlx::query_scalar!(r#"select count(*) as "count!" from account where deleted_at is null"#).fetch_one(conn).await
}

pub async fn account_get(conn: &mut PgConnection, id: AccountId) -> sqlx::Result<Option<Account>> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, role, server_id, password_hash, created_at, last_seen_at, disabled_at from account
         where id = $1 and deleted_at is null",
        id.as_uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(Account::try_from).transpose()
}

pub async fn account_get_by_name(conn: &mut PgConnection, name: &str) -> sqlx::Result<Option<Account>> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, role, server_id, password_hash, created_at, last_seen_at, disabled_at from account
         where lower(name) = lower($1) and deleted_at is null",
        name,
    )
    .fetch_optional(conn)
    .await?;
    row.map(Account::try_from).transpose()
}

/// The account, which nobody else changes until the end of the transaction.
pub async fn account_get_for_update(conn: &mut PgConnection, id: AccountId) -> sqlx::Result<Option<Account>> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, role, server_id, password_hash, created_at, last_seen_at, disabled_at from account
         where id = $1 and deleted_at is null for update",
        id.as_uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(Account::try_from).transpose()
}

/// The same for a session that begins: two may begin at once, and whoever takes the account's
/// rights away waits for them and then sees them.
pub async fn account_get_for_session(conn: &mut PgConnection, id: AccountId) -> sqlx::Result<Option<Account>> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, role, server_id, password_hash, created_at, last_seen_at, disabled_at from account
         where id = $1 and deleted_at is null and disabled_at is null for share",
        id.as_uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(Account::try_from).transpose()
}

/// Accounts in the order in which they were made.
pub async fn account_page(conn: &mut PgConnection, after: Option<AccountId>, limit: i64) -> sqlx::Result<Vec<Account>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, name, role, server_id, password_hash, created_at, last_seen_at, disabled_at from account
         where deleted_at is null and ($1::uuid is null or id > $1)
         order by id limit $2",
        after.map(AccountId::as_uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Account::try_from).collect()
}

/// Writes everything about it that can change.
pub async fn account_change(conn: &mut PgConnection, account: &Account, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query!(
        "update account set name = $2, role = $3, server_id = $4, password_hash = $5,
             disabled_at = case when $6 then coalesce(disabled_at, $7) end
         where id = $1",
        account.id.as_uuid(),
        account.name.as_str(),
        account.role.as_str(),
        account.server_id.map(ServerId::as_uuid),
        account.password_hash,
        account.disabled,
        now.to_chrono(),
    )
    .execute(conn)
    .await
    .map(drop)
}

pub async fn account_delete(conn: &mut PgConnection, id: AccountId, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query!("update account set deleted_at = $2, password_hash = null where id = $1", id.as_uuid(), now.to_chrono())
        .execute(conn)
        .await
        .map(drop)
}
