//! What becomes of databases after they were made: another password, a quota, an end.

use std::time::Duration;

use manman_common::Timestamp;
use manman_common::failpoint::reach;
use manman_front_door::orchestrator::{Credentials, DatabaseView, Secret, WaifuName, hash_secret, verify_secret};
use sqlx::{Connection as _, PgConnection};

use super::saga::{lock, quoted, run};
use super::{ProvisionError, Provisioner, Row};
use crate::db::moment;

/// Long enough to notice that it was a mistake.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// One that was over its quota is under it again only when it is well below.
const RELIEF_PERCENT: u64 = 90;

/// A database as it is looked after.
#[derive(Debug, sqlx::FromRow)]
struct Kept {
    name: String,
    database: String,
    role: String,
    over_quota: bool,
    created_at: chrono::DateTime<chrono::Utc>,
    removed_at: Option<chrono::DateTime<chrono::Utc>>,
    exists: bool,
    /// In seconds, by the cluster's own clock.
    removed_for: Option<f64>,
}

/// What is asked for under a name whose secret was shown.
pub(super) enum Change<'a> {
    Rotate(Option<&'a Secret>),
    Remove,
}

/// What has come of it; none where the secret is another.
pub(super) enum Changed {
    Rotated(Credentials),
    Removed(Timestamp),
}

impl Provisioner {
    pub(super) async fn change(&self, name: &WaifuName, secret: &Secret, change: Change<'_>) -> Result<Option<Changed>, ProvisionError> {
        let _one = self.making.lock().await;
        let mut connection = self.connect().await?;
        let changed = self.change_locked(&mut connection, name, secret, change).await;
        // With the connection goes the lock of its name.
        let _ = connection.close().await;
        changed
    }

    async fn change_locked(
        &self,
        connection: &mut PgConnection,
        name: &WaifuName,
        secret: &Secret,
        change: Change<'_>,
    ) -> Result<Option<Changed>, ProvisionError> {
        lock(connection, name).await?;
        let row = self.row(&mut *connection, name).await?.ok_or(ProvisionError::Unknown)?;
        if !verify_secret(secret, &row.secret_hash).await? {
            return Ok(None);
        }
        if self.adopted.as_ref().is_some_and(|(of, _)| of == name) {
            return Err(ProvisionError::Own);
        }
        match change {
            Change::Rotate(fresh) => self.rotate_row(connection, name, row, secret, fresh).await,
            Change::Remove => self.remove_row(connection, name, &row).await.map(Some),
        }
    }

    /// The row says first what is to be: whatever breaks off after that is made good by the next call
    /// with the secret that holds from then on.
    async fn rotate_row(
        &self,
        connection: &mut PgConnection,
        name: &WaifuName,
        row: Row,
        secret: &Secret,
        fresh: Option<&Secret>,
    ) -> Result<Option<Changed>, ProvisionError> {
        let hash = match fresh {
            Some(fresh) => hash_secret(fresh).await?,
            None => row.secret_hash,
        };
        sqlx::query(
            "update orchestrator.waifu_database set generation = generation + 1, key_id = $2, secret_hash = $3, ready = false where name = $1",
        )
        .bind(name.as_str())
        .bind(self.key.id())
        .bind(hash)
        .execute(&mut *connection)
        .await
        .map_err(ProvisionError::sql("note another password"))?;
        reach("provision.rotate");
        let made = self.make_locked(connection, name, fresh.unwrap_or(secret)).await?;
        Ok(made.map(Changed::Rotated))
    }

    async fn remove_row(&self, connection: &mut PgConnection, name: &WaifuName, row: &Row) -> Result<Changed, ProvisionError> {
        let removed_at: chrono::DateTime<chrono::Utc> = sqlx::query_scalar(
            "update orchestrator.waifu_database set removed_at = coalesce(removed_at, now()), ready = false where name = $1 returning removed_at",
        )
        .bind(name.as_str())
        .fetch_one(&mut *connection)
        .await
        .map_err(ProvisionError::sql("note that a database is given back"))?;
        reach("provision.remove");
        shut(connection, &row.role).await?;
        tracing::info!(waifu.name = %name, database = row.database, "a database is given back; it is dropped in seven days");
        Ok(Changed::Removed(moment(removed_at).plus(KEPT)))
    }

    pub(super) async fn views(&self) -> Result<Vec<DatabaseView>, ProvisionError> {
        let mut views = Vec::new();
        for kept in self.kept().await? {
            views.push(DatabaseView {
                size: if kept.exists { self.size(&kept.database).await.ok() } else { None },
                quota: self.quota,
                over_quota: kept.over_quota,
                created_at: moment(kept.created_at),
                dropped_at: kept.removed_at.map(|at| moment(at).plus(KEPT)),
                name: kept.name,
                database: kept.database,
            });
        }
        Ok(views)
    }

    /// One after the other; what fails for one is tried again the next time, and keeps nobody else.
    pub(super) async fn look_after(&self) -> Result<(), ProvisionError> {
        for kept in self.kept().await? {
            let done = match kept.removed_for {
                Some(seconds) if seconds >= KEPT.as_secs_f64() => self.drop_for_good(&kept).await,
                Some(_) => self.shut_again(&kept).await,
                None => self.hold_to_quota(&kept).await,
            };
            if let Err(error) = done {
                tracing::warn!(
                    waifu.name = kept.name,
                    error = crate::chain(&error),
                    "a database could not be looked after; it is tried again"
                );
            }
        }
        Ok(())
    }

    async fn kept(&self) -> Result<Vec<Kept>, ProvisionError> {
        sqlx::query_as(
            "select w.name, w.database, w.role, w.over_quota, w.created_at, w.removed_at, d.datname is not null as exists,
                    extract(epoch from now() - w.removed_at)::float8 as removed_for
               from orchestrator.waifu_database w left join pg_database d on d.datname = w.database
              order by w.name",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(ProvisionError::sql("look at the databases"))
    }

    async fn size(&self, database: &str) -> Result<u64, ProvisionError> {
        let size: i64 = sqlx::query_scalar("select pg_database_size($1::name)")
            .bind(database)
            .fetch_one(&self.pool)
            .await
            .map_err(ProvisionError::sql("ask how large a database is"))?;
        Ok(u64::try_from(size).unwrap_or(0))
    }

    /// Under the lock of its name, in which nobody can ask for it back.
    async fn drop_for_good(&self, kept: &Kept) -> Result<(), ProvisionError> {
        let Ok(name) = kept.name.parse::<WaifuName>() else { return Ok(()) };
        let mut connection = self.connect().await?;
        lock(&mut connection, &name).await?;
        let still: bool = sqlx::query_scalar("select exists (select from orchestrator.waifu_database where name = $1 and removed_at = $2)")
            .bind(&kept.name)
            .bind(kept.removed_at)
            .fetch_one(&mut connection)
            .await
            .map_err(ProvisionError::sql("look whether a database is still given back"))?;
        if still {
            run(&mut connection, format!("drop database if exists {} with (force)", quoted(&kept.database)), "drop a database").await?;
            reach("provision.drop");
            run(&mut connection, format!("drop role if exists {}", quoted(&kept.role)), "drop a role").await?;
            sqlx::query("delete from orchestrator.waifu_database where name = $1")
                .bind(&kept.name)
                .execute(&mut connection)
                .await
                .map_err(ProvisionError::sql("forget a database"))?;
            tracing::info!(waifu.name = kept.name, database = kept.database, "a database that was given back is dropped");
        }
        let _ = connection.close().await;
        Ok(())
    }

    /// Giving back may have broken off before the role was shut.
    async fn shut_again(&self, kept: &Kept) -> Result<(), ProvisionError> {
        let open: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1 and rolcanlogin)")
            .bind(&kept.role)
            .fetch_one(&self.pool)
            .await
            .map_err(ProvisionError::sql("look at a role"))?;
        if !open {
            return Ok(());
        }
        let mut connection = self.connect().await?;
        shut(&mut connection, &kept.role).await?;
        let _ = connection.close().await;
        Ok(())
    }

    async fn hold_to_quota(&self, kept: &Kept) -> Result<(), ProvisionError> {
        let over = match self.quota {
            Some(quota) if kept.exists => {
                let size = self.size(&kept.database).await?;
                if kept.over_quota { size > quota / 100 * RELIEF_PERCENT } else { size > quota }
            }
            _ => false,
        };
        if over == kept.over_quota || self.adopted.as_ref().is_some_and(|(of, _)| of.as_str() == kept.name) {
            return Ok(());
        }
        let mut connection = self.connect().await?;
        let (role, database) = (quoted(&kept.role), quoted(&kept.database));
        let statement = if over {
            format!("alter role {role} in database {database} set default_transaction_read_only = on")
        } else {
            format!("alter role {role} in database {database} reset default_transaction_read_only")
        };
        run(&mut connection, statement, "hold a database to its quota").await?;
        // What is open has the old setting.
        hang_up(&mut connection, &kept.role).await?;
        sqlx::query("update orchestrator.waifu_database set over_quota = $2 where name = $1")
            .bind(&kept.name)
            .bind(over)
            .execute(&mut connection)
            .await
            .map_err(ProvisionError::sql("note that a database is over its quota"))?;
        let _ = connection.close().await;
        if over {
            tracing::warn!(waifu.name = kept.name, quota = self.quota, "a database is over its quota: new transactions in it only read");
        } else {
            tracing::info!(waifu.name = kept.name, "a database is within its quota again");
        }
        Ok(())
    }
}

/// Nobody logs in as that role, and who is in is out.
async fn shut(connection: &mut PgConnection, role: &str) -> Result<(), ProvisionError> {
    run(connection, format!("alter role {} nologin", quoted(role)), "shut a role").await?;
    hang_up(connection, role).await
}

async fn hang_up(connection: &mut PgConnection, role: &str) -> Result<(), ProvisionError> {
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1")
        .bind(role)
        .execute(connection)
        .await
        .map(drop)
        .map_err(ProvisionError::sql("end the connections of a role"))
}
