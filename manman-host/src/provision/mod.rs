//! Databases for waifus: one per name, made at the first call and healed by the next one.
//!
//! A call that breaks off anywhere leaves a row that says so; every step looks first at what is, so
//! the next call ends the work. Nobody but the role itself, and whoever made it, can connect.

mod host;
mod keep;
mod key;
mod saga;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use manman_common::Timestamp;
use manman_front_door::orchestrator::{Credentials, DatabaseView, Databases, ProvideError, Secret, SecretError, WaifuName, verify_secret};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::sync::Mutex;

use keep::{Change, Changed};

pub use host::{AskError, ask_for_database, connect_options, own_secret};
pub(crate) use key::secret_file as secret_text;
pub use key::{KeyError, MasterKey};

/// Calls are rare: each waifu asks at its start and keeps the answer.
const CONNECTIONS_MAX: u32 = 2;
/// The schema of the orchestrator's own tables.
const SCHEMA: &str = "orchestrator";
/// The name under which manman's own host asks.
pub const HOST_NAME: &str = "manman-host";

/// Makes databases in one cluster.
pub struct Provisioner {
    pool: PgPool,
    options: PgConnectOptions,
    key: MasterKey,
    /// Where waifus reach the cluster.
    host: String,
    port: u16,
    /// A database that exists already, and whose it is to be.
    adopted: Option<(WaifuName, String)>,
    version: i32,
    /// Bytes that each database may have.
    quota: Option<u64>,
    /// One database is made at a time; the others wait here and not with a connection.
    making: Mutex<()>,
    #[cfg(test)]
    fail_after: std::sync::Mutex<Option<&'static str>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error("could not {doing}")]
    Sql { doing: &'static str, source: sqlx::Error },
    #[error("could not prepare the orchestrator's own tables")]
    Migrate(#[source] Box<sqlx::migrate::MigrateError>),
    #[error("the role that makes databases lacks the right to: it needs CREATEDB and CREATEROLE")]
    Rights,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("there is no database of that name")]
    Unknown,
    #[error("this database is the host's own")]
    Own,
    #[error("a {what} `{name}` exists already, and was not made here")]
    Foreign { what: &'static str, name: String },
    #[error("broke off after {0}")]
    #[cfg(test)]
    BrokeOff(&'static str),
}

impl ProvisionError {
    fn sql(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { doing, source }
    }
}

/// One name's row.
#[derive(Debug, sqlx::FromRow)]
struct Row {
    database: String,
    role: String,
    secret_hash: String,
    key_id: Vec<u8>,
    generation: i64,
    ready: bool,
}

/// What a provisioner is told at its start.
#[derive(Debug)]
pub struct ProvisionOptions<'a> {
    /// Of a role that may create roles and databases, in the database for the orchestrator's own tables.
    pub options: PgConnectOptions,
    /// What the answers say of the cluster's place; by default what `options` say.
    pub address: Option<(String, u16)>,
    /// The file with the key from which passwords are derived.
    pub key: &'a Path,
    pub adopted: Option<(WaifuName, String)>,
    /// Bytes that each database may have.
    pub quota: Option<u64>,
}

impl Provisioner {
    /// Prepares the tables, and shuts the databases in which waifus have no business.
    pub async fn open(options: ProvisionOptions<'_>) -> Result<Self, ProvisionError> {
        let ProvisionOptions { options, address, key, adopted, quota } = options;
        let options = options.application_name("manman-orchestrator");
        let key = MasterKey::load_or_make(key)?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(Duration::from_secs(10))
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(options.clone());
        let (may, version): (bool, String) = sqlx::query_as(
            "select rolsuper or (rolcreatedb and rolcreaterole), current_setting('server_version_num') from pg_roles where rolname = current_user",
        )
        .fetch_one(&pool)
        .await
        .map_err(ProvisionError::sql("ask what the orchestrator's role may do"))?;
        if !may {
            return Err(ProvisionError::Rights);
        }
        let mut migrations = sqlx::migrate!("../migrations/orchestrator");
        migrations.create_schema(SCHEMA);
        migrations.dangerous_set_table_name("orchestrator._sqlx_migrations");
        migrations.run(&pool).await.map_err(|error| ProvisionError::Migrate(Box::new(error)))?;
        shut_own(&pool).await?;
        let (host, port) = address.unwrap_or_else(|| {
            let over_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
            (if over_socket { "127.0.0.1".to_owned() } else { options.get_host().to_owned() }, options.get_port())
        });
        Ok(Self {
            pool,
            options,
            key,
            host,
            port,
            adopted,
            quota,
            version: version.parse().unwrap_or(0),
            making: Mutex::new(()),
            #[cfg(test)]
            fail_after: std::sync::Mutex::new(None),
        })
    }

    /// The database of that name, made where there is none; none where the secret is another.
    pub async fn database(&self, name: &WaifuName, secret: &Secret) -> Result<Option<Credentials>, ProvisionError> {
        if let Some(row) = self.row(&self.pool, name).await? {
            if !verify_secret(secret, &row.secret_hash).await? {
                return Ok(None);
            }
            if row.ready && row.key_id == self.key.id() {
                return Ok(Some(self.credentials(name, &row)));
            }
        }
        let _one = self.making.lock().await;
        let mut connection = self.connect().await?;
        let made = self.make(&mut connection, name, secret).await;
        // With the connection goes the lock of its name.
        let _ = connection.close().await;
        made
    }

    async fn connect(&self) -> Result<PgConnection, ProvisionError> {
        PgConnection::connect_with(&self.options).await.map_err(ProvisionError::sql("reach the cluster to make a database in"))
    }

    fn credentials(&self, name: &WaifuName, row: &Row) -> Credentials {
        Credentials {
            database: row.database.clone(),
            user: row.role.clone(),
            password: self.key.password(name.as_str(), row.generation),
            host: self.host.clone(),
            port: self.port,
        }
    }

    async fn row(&self, executor: impl sqlx::PgExecutor<'_>, name: &WaifuName) -> Result<Option<Row>, ProvisionError> {
        sqlx::query_as("select database, role, secret_hash, key_id, generation, ready from orchestrator.waifu_database where name = $1")
            .bind(name.as_str())
            .fetch_optional(executor)
            .await
            .map_err(ProvisionError::sql("look for a database by its name"))
    }
}

/// Without this every role could connect to the databases that come with a cluster.
async fn shut_own(pool: &PgPool) -> Result<(), ProvisionError> {
    let ours: Vec<String> = sqlx::query_scalar(
        "select datname::text from pg_database where datname in (current_database(), 'postgres', 'template1', 'manman')
             and pg_has_role(datdba, 'USAGE')",
    )
    .fetch_all(pool)
    .await
    .map_err(ProvisionError::sql("look for databases to shut"))?;
    for database in ours {
        let statement = format!("revoke connect, temporary on database {} from public", saga::quoted(&database));
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(pool).await.map_err(ProvisionError::sql("shut a database to waifus"))?;
    }
    Ok(())
}

#[async_trait]
impl Databases for Provisioner {
    async fn provide(&self, name: &WaifuName, secret: &Secret) -> Result<Credentials, ProvideError> {
        match self.database(name, secret).await {
            Ok(Some(credentials)) => Ok(credentials),
            Ok(None) => Err(ProvideError::WrongSecret),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn rotate(&self, name: &WaifuName, secret: &Secret, fresh: Option<&Secret>) -> Result<Credentials, ProvideError> {
        match self.change(name, secret, Change::Rotate(fresh)).await {
            Ok(Some(Changed::Rotated(credentials))) => Ok(credentials),
            Ok(Some(Changed::Removed(_)) | None) => Err(ProvideError::WrongSecret),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn remove(&self, name: &WaifuName, secret: &Secret) -> Result<Timestamp, ProvideError> {
        match self.change(name, secret, Change::Remove).await {
            Ok(Some(Changed::Removed(until))) => Ok(until),
            Ok(Some(Changed::Rotated(_)) | None) => Err(ProvideError::WrongSecret),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn list(&self) -> Result<Vec<DatabaseView>, ProvideError> {
        self.views().await.map_err(unavailable)
    }

    async fn tidy(&self) -> Result<(), ProvideError> {
        self.look_after().await.map_err(unavailable)
    }

    async fn secret_hash(&self, name: &WaifuName) -> Result<Option<String>, ProvideError> {
        Ok(self.row(&self.pool, name).await.map_err(unavailable)?.map(|row| row.secret_hash))
    }
}

fn unavailable(error: ProvisionError) -> ProvideError {
    let public = match &error {
        ProvisionError::Unknown => return ProvideError::Unknown,
        ProvisionError::Own => return ProvideError::Own,
        ProvisionError::Foreign { .. } => error.to_string(),
        _ => "the orchestrator's log has the reason".to_owned(),
    };
    ProvideError::Unavailable { public, source: Box::new(error) }
}
