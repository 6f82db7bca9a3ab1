//! The steps of making a database. Each looks at what is before it does anything.

use manman_front_door::orchestrator::{Credentials, Secret, WaifuName, hash_secret, verify_secret};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::key::scram_verifier;
use super::{ProvisionError, Provisioner, Row};

/// Longest identifier of PostgreSQL, in bytes.
const IDENTIFIER_MAX: usize = 63;
/// Of one waifu at once.
const ROLE_CONNECTIONS: u32 = 20;
/// Since PostgreSQL 16 a membership says what it is good for.
const MEMBERSHIP_SINCE: i32 = 160_000;

impl Provisioner {
    /// Goes through all steps under the lock of that name.
    pub(super) async fn make(
        &self,
        connection: &mut PgConnection,
        name: &WaifuName,
        secret: &Secret,
    ) -> Result<Option<Credentials>, ProvisionError> {
        lock(connection, name).await?;
        self.make_locked(connection, name, secret).await
    }

    pub(super) async fn make_locked(
        &self,
        connection: &mut PgConnection,
        name: &WaifuName,
        secret: &Secret,
    ) -> Result<Option<Credentials>, ProvisionError> {
        // Somebody else may have been first.
        let mut row = match self.row(&mut *connection, name).await? {
            Some(row) if !verify_secret(secret, &row.secret_hash).await? => return Ok(None),
            Some(row) => row,
            None => self.begin(connection, name, secret).await?,
        };
        if row.key_id != self.key.id() {
            tracing::warn!(waifu.name = %name, "the key of the passwords is another one: the database gets a new password");
            row.generation += 1;
            row.ready = false;
            row.key_id = self.key.id().to_vec();
            sqlx::query("update orchestrator.waifu_database set generation = $2, key_id = $3, ready = false where name = $1")
                .bind(name.as_str())
                .bind(row.generation)
                .bind(&row.key_id)
                .execute(&mut *connection)
                .await
                .map_err(ProvisionError::sql("note a new password"))?;
        }
        if !row.ready {
            self.role(connection, name, &row).await?;
            self.broken("role")?;
            self.grant(connection, &row).await?;
            self.broken("grant")?;
            self.create(connection, name, &row).await?;
            self.broken("database")?;
            let revoke = format!("revoke connect, temporary on database {} from public", quoted(&row.database));
            run(connection, revoke, "shut a database to others").await?;
            self.broken("revoke")?;
            sqlx::query("update orchestrator.waifu_database set ready = true, removed_at = null where name = $1")
                .bind(name.as_str())
                .execute(&mut *connection)
                .await
                .map_err(ProvisionError::sql("note that a database is ready"))?;
            tracing::info!(waifu.name = %name, database = row.database, "a database is ready");
        }
        Ok(Some(self.credentials(name, &row)))
    }

    /// Writes down what is to be, so that whatever exists from now on under that name is ours.
    async fn begin(&self, connection: &mut PgConnection, name: &WaifuName, secret: &Secret) -> Result<Row, ProvisionError> {
        let role = identifier(name.as_str());
        let adopted = self.adopted.as_ref().filter(|(of, _)| of == name).map(|(_, database)| database.clone());
        let foreign_role: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
            .bind(&role)
            .fetch_one(&mut *connection)
            .await
            .map_err(ProvisionError::sql("look for a role"))?;
        if foreign_role {
            return Err(ProvisionError::Foreign { what: "role", name: role });
        }
        if adopted.is_none() && exists(connection, &role).await? {
            return Err(ProvisionError::Foreign { what: "database", name: role });
        }
        let row = Row {
            database: adopted.unwrap_or_else(|| role.clone()),
            role,
            secret_hash: hash_secret(secret).await?,
            key_id: self.key.id().to_vec(),
            generation: 1,
            ready: false,
        };
        sqlx::query("insert into orchestrator.waifu_database (name, database, role, secret_hash, key_id) values ($1, $2, $3, $4, $5)")
            .bind(name.as_str())
            .bind(&row.database)
            .bind(&row.role)
            .bind(&row.secret_hash)
            .bind(&row.key_id)
            .execute(&mut *connection)
            .await
            .map_err(ProvisionError::sql("note a database that is to be made"))?;
        self.broken("begin")?;
        Ok(row)
    }

    async fn role(&self, connection: &mut PgConnection, name: &WaifuName, row: &Row) -> Result<(), ProvisionError> {
        let there: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
            .bind(&row.role)
            .fetch_one(&mut *connection)
            .await
            .map_err(ProvisionError::sql("look for a role"))?;
        // What it may not do is said once: only a superuser may say it again.
        let (verb, rights) = if there { ("alter", "") } else { ("create", "nosuperuser nocreatedb nocreaterole") };
        let verifier = scram_verifier(&self.key.password(name.as_str(), row.generation));
        // Base64 and `$` need no escape within a literal.
        let statement =
            format!("{verb} role {} login {rights} connection limit {ROLE_CONNECTIONS} password '{verifier}'", quoted(&row.role));
        run(connection, statement, "make a role").await
    }

    /// Whoever is no superuser gives a database to a role only as a member of it.
    async fn grant(&self, connection: &mut PgConnection, row: &Row) -> Result<(), ProvisionError> {
        let superuser: bool = sqlx::query_scalar("select rolsuper from pg_roles where rolname = current_user")
            .fetch_one(&mut *connection)
            .await
            .map_err(ProvisionError::sql("ask whether we are superuser"))?;
        if superuser {
            return Ok(());
        }
        let options = if self.version >= MEMBERSHIP_SINCE { " with set true, inherit true" } else { "" };
        run(connection, format!("grant {} to current_user{options}", quoted(&row.role)), "become a member of a role").await
    }

    async fn create(&self, connection: &mut PgConnection, name: &WaifuName, row: &Row) -> Result<(), ProvisionError> {
        if !exists(connection, &row.database).await? {
            let statement = format!("create database {} owner {} template template0", quoted(&row.database), quoted(&row.role));
            return run(connection, statement, "make a database").await;
        }
        let owner: String = sqlx::query_scalar("select pg_get_userbyid(datdba)::text from pg_database where datname = $1")
            .bind(&row.database)
            .fetch_one(&mut *connection)
            .await
            .map_err(ProvisionError::sql("ask whose a database is"))?;
        if self.adopted.as_ref().is_some_and(|(of, database)| of == name && *database == row.database) {
            let statement = format!("alter database {} owner to {}", quoted(&row.database), quoted(&row.role));
            run(connection, statement, "hand over a database").await?;
            return self.hand_over_contents(row).await;
        }
        if owner == row.role { Ok(()) } else { Err(ProvisionError::Foreign { what: "database", name: row.database.clone() }) }
    }

    /// What an older manman made in its database belongs to whoever ran the cluster; the host needs it
    /// to be its own, to change it with its next version.
    async fn hand_over_contents(&self, row: &Row) -> Result<(), ProvisionError> {
        let error = || ProvisionError::sql("hand over what is in a database");
        let options = self.options.clone().database(&row.database);
        let mut inside = PgConnection::connect_with(&options).await.map_err(error())?;
        let statements: Vec<String> = sqlx::query_scalar(
            "select format('alter %s %I.%I owner to %I',
                    case c.relkind when 'S' then 'sequence' when 'v' then 'view' when 'm' then 'materialized view' else 'table' end,
                    n.nspname, c.relname, $1)
               from pg_class c join pg_namespace n on n.oid = c.relnamespace
              where n.nspname = 'public' and c.relkind in ('r', 'p', 'v', 'm', 'S') and pg_get_userbyid(c.relowner) <> $1
                and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i', 'e'))
             union all
             select format('alter routine %s owner to %I', p.oid::regprocedure, $1)
               from pg_proc p join pg_namespace n on n.oid = p.pronamespace
              where n.nspname = 'public' and pg_get_userbyid(p.proowner) <> $1
             union all
             select format('alter type %I.%I owner to %I', n.nspname, t.typname, $1)
               from pg_type t join pg_namespace n on n.oid = t.typnamespace
              where n.nspname = 'public' and t.typtype in ('d', 'e') and pg_get_userbyid(t.typowner) <> $1",
        )
        .bind(&row.role)
        .fetch_all(&mut inside)
        .await
        .map_err(error())?;
        for statement in statements {
            run(&mut inside, statement, "hand over what is in a database").await?;
        }
        inside.close().await.map_err(error())
    }

    /// Where a test wants it to, the work breaks off here, or the process is killed.
    #[cfg(test)]
    fn broken(&self, step: &'static str) -> Result<(), ProvisionError> {
        let mut wanted = self.fail_after.lock().expect("not poisoned");
        if *wanted == Some(step) {
            *wanted = None;
            return Err(ProvisionError::BrokeOff(step));
        }
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests break off here")]
    fn broken(&self, step: &'static str) -> Result<(), ProvisionError> {
        manman_common::failpoint::reach(&format!("provision.{step}"));
        Ok(())
    }
}

async fn exists(connection: &mut PgConnection, database: &str) -> Result<bool, ProvisionError> {
    sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(database)
        .fetch_one(connection)
        .await
        .map_err(ProvisionError::sql("look for a database"))
}

pub(super) async fn run(connection: &mut PgConnection, statement: String, doing: &'static str) -> Result<(), ProvisionError> {
    // A statement that was made up, by itself: it may be one that no transaction takes.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop).map_err(ProvisionError::sql(doing))
}

/// Waits for the turn of a name; it ends with the connection.
pub(super) async fn lock(connection: &mut PgConnection, name: &WaifuName) -> Result<(), ProvisionError> {
    sqlx::query("select pg_advisory_lock(hashtextextended('manman database ' || $1, 0))")
        .bind(name.as_str())
        .execute(connection)
        .await
        .map(drop)
        .map_err(ProvisionError::sql("wait for the turn of a name"))
}

/// `w_` and the name, with `_` for `-`, which no name has; a long one ends in a hash of all of it.
fn identifier(name: &str) -> String {
    use sha2::{Digest as _, Sha256};
    use std::fmt::Write as _;

    let plain = format!("w_{}", name.replace('-', "_"));
    if plain.len() <= IDENTIFIER_MAX {
        return plain;
    }
    let mut short = plain[..IDENTIFIER_MAX - 17].to_owned();
    short.push('_');
    for byte in &Sha256::digest(name.as_bytes())[..8] {
        let _ = write!(short, "{byte:02x}");
    }
    short
}

pub(super) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod identifier_tests {
    use super::*;

    #[test]
    fn w08_every_name_has_an_identifier_of_its_own() {
        assert_eq!(identifier("my-links"), "w_my_links");
        let (one, other) = (identifier(&"x".repeat(62)), identifier(&"x".repeat(63)));
        assert!(one.len() == 63 && other.len() == 63 && one != other, "{one} {other}");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
