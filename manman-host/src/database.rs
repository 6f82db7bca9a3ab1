//! The database of a host: a private one of its own, or somebody's, and what is wrong with that.

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use manman_front_door::orchestrator::Credentials;
use sqlx::PgPool;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::config::{Config, Database};
use crate::db::MIGRATIONS;
use crate::postgres::{Durability, EmbeddedPostgres, PostgresError, PostgresOptions};
use crate::provision::{
    AskError, HOST_NAME, KeyError, ProvisionError, ProvisionOptions, Provisioner, ask_for_database, connect_options, own_secret,
};

/// A database that is migrated and answers.
pub struct Opened {
    pub pool: PgPool,
    /// Ours to stop, where it is private.
    pub embedded: Option<EmbeddedPostgres>,
    /// `embedded 15.14`, `external 16.3`.
    pub words: String,
    /// Who makes databases for waifus, where there is a cluster for that.
    pub provisioner: Option<Arc<Provisioner>>,
}

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("the database's address is not a URL that can be used")]
    Url(#[source] sqlx::Error),
    #[error("the database's address begins with `{0}://`, and only PostgreSQL can be used")]
    Scheme(String),
    #[error("could not reach the database at {place}")]
    Connect { place: String, source: sqlx::Error },
    #[error("the database at {place} refuses us: {why}")]
    Refused { place: String, why: String, code: String },
    #[error("the database at {place} is PostgreSQL {found}, and 13 is the oldest that can be used")]
    TooOld { place: String, found: String },
    #[error("the database at {place} was written by a newer manman: it knows migration {version}, which this one does not")]
    Newer { place: String, version: i64 },
    #[error("could not bring the database at {place} up to date")]
    Migrate { place: String, source: Box<MigrateError> },
    #[error("could not ask the database at {place}")]
    Query { place: String, source: sqlx::Error },
    #[error("a private database needs a data directory to live in")]
    NoData,
    #[error(transparent)]
    Embedded(#[from] PostgresError),
    #[error("could not prepare the making of databases")]
    Provision(#[from] ProvisionError),
    #[error("could not give the host a database of its own")]
    Own(#[source] ProvisionError),
    #[error("the host's own secret is not that of its database")]
    OwnSecret,
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Secret(#[from] KeyError),
}

impl DatabaseError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Url(_) | Self::Scheme(_) => Some("it looks like postgres://USER:PASSWORD@HOST:5432/DATABASE".to_owned()),
            Self::Connect { .. } => Some("is PostgreSQL running there, and does it listen on that address?".to_owned()),
            Self::Refused { code, .. } => match code.as_str() {
                "28P01" | "28000" => Some("check the user and the password in the database's URL".to_owned()),
                "3D000" => Some("make the database first: `createdb NAME`".to_owned()),
                "53300" => Some("raise max_connections there, or let fewer programs use it".to_owned()),
                _ => None,
            },
            Self::TooOld { .. } => Some("use a newer server, or none: without a URL the host runs one of its own".to_owned()),
            Self::Newer { .. } => Some("run the newer version, or restore the backup made before it".to_owned()),
            Self::Migrate { .. } | Self::Query { .. } => Some("the user needs the right to create tables in that database".to_owned()),
            Self::NoData => Some("name one with --data".to_owned()),
            Self::Embedded(error) => error.hint(),
            Self::Provision(ProvisionError::Rights) => Some("as superuser: `alter role NAME createdb createrole`".to_owned()),
            Self::Provision(_) | Self::Own(_) => None,
            Self::OwnSecret => Some("put back `host/orchestrator-secret` from the backup of the data directory".to_owned()),
            Self::Ask(AskError::Ask { .. }) => Some("is the orchestrator up, and is its inner listener reachable from here?".to_owned()),
            Self::Ask(_) | Self::Secret(_) => None,
        }
    }
}

/// Enough for the handlers of a big fleet; each is a process of Postgres.
const CONNECTIONS_MAX: u32 = 16;
/// A handler that waits longer answers 503.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);
/// The orchestrator's own, in the private cluster.
const OWN_DATABASE: &str = "orchestrator";
/// Below the data directory: what the passwords of databases are derived from.
const KEY_FILE: &str = "host/database-key";
/// `server_version_num` of PostgreSQL 13.
const OLDEST: i32 = 130_000;

/// Starts or reaches the database and brings it up to date.
pub async fn open(config: &Config) -> Result<Opened, DatabaseError> {
    match &config.database {
        Database::External { url } => {
            let (pool, version) = connect(options(url)?).await?;
            let provisioner = provisioner_of(config).await?;
            Ok(Opened { pool, embedded: None, words: format!("external {version}"), provisioner })
        }
        Database::Asked { orchestrator } => {
            let data = config.data.as_deref().ok_or(DatabaseError::NoData)?;
            let credentials = ask_for_database(orchestrator, data).await?;
            let (pool, version) = connect(connect_options(&credentials)).await?;
            let provisioner = provisioner_of(config).await?;
            Ok(Opened { pool, embedded: None, words: format!("external {version}"), provisioner })
        }
        Database::Embedded { pg_bin } => {
            let data = config.data.as_deref().ok_or(DatabaseError::NoData)?;
            let (embedded, provisioner) = start_embedded(data, pg_bin.as_deref(), config.front_door.database_quota).await?;
            match open_embedded(data, &provisioner).await {
                Ok((pool, version)) => {
                    let words = format!("embedded {version}");
                    Ok(Opened { pool, words, embedded: Some(embedded), provisioner: Some(Arc::new(provisioner)) })
                }
                Err(error) => {
                    // Why it can not be used matters more than how it ended.
                    let _ = embedded.stop().await;
                    Err(error)
                }
            }
        }
    }
}

/// The private cluster, which belongs to the orchestrator, and who makes databases in it.
pub async fn start_embedded(
    data: &Path,
    pg_bin: Option<&Path>,
    quota: Option<u64>,
) -> Result<(EmbeddedPostgres, Provisioner), DatabaseError> {
    let options =
        PostgresOptions { data_dir: data.to_owned(), pg_bin: pg_bin.map(Path::to_owned), durability: Durability::Durable, tcp: true };
    let embedded = Box::pin(EmbeddedPostgres::start(options)).await?;
    match embedded_provisioner(data, &embedded, quota).await {
        Ok(provisioner) => Ok((embedded, provisioner)),
        Err(error) => {
            let _ = embedded.stop().await;
            Err(error)
        }
    }
}

/// The orchestrator's own tables lie beside everybody's databases, in one of their own. The database
/// `manman`, which a cluster has had from its beginning, is the host's.
async fn embedded_provisioner(data: &Path, embedded: &EmbeddedPostgres, quota: Option<u64>) -> Result<Provisioner, DatabaseError> {
    let superuser = options(&embedded.url())?;
    let sql = |doing| move |source| ProvisionError::Sql { doing, source };
    let mut connection = PgConnection::connect_with(&superuser).await.map_err(sql("reach the private cluster"))?;
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(OWN_DATABASE)
        .fetch_one(&mut connection)
        .await
        .map_err(sql("look for the orchestrator's own database"))?;
    if !exists {
        let statement = format!("create database {OWN_DATABASE}");
        connection.execute(AssertSqlSafe(statement)).await.map_err(sql("make the orchestrator's own database"))?;
    }
    connection.close().await.map_err(sql("leave the private cluster"))?;
    let adopted = HOST_NAME.parse().ok().map(|name| (name, "manman".to_owned()));
    let options = ProvisionOptions {
        options: superuser.database(OWN_DATABASE),
        address: embedded.tcp().map(|port| ("127.0.0.1".to_owned(), port)),
        key: &data.join(KEY_FILE),
        adopted,
        quota,
    };
    Ok(Provisioner::open(options).await?)
}

/// The host asks for its database as everybody does, and so is no superuser of the cluster.
async fn open_embedded(data: &Path, provisioner: &Provisioner) -> Result<(PgPool, String), DatabaseError> {
    let name = HOST_NAME.parse().map_err(|_| DatabaseError::OwnSecret)?;
    let credentials: Option<Credentials> = provisioner.database(&name, &own_secret(data)?).await.map_err(DatabaseError::Own)?;
    connect(connect_options(&credentials.ok_or(DatabaseError::OwnSecret)?)).await
}

/// Where a role is named that makes databases for waifus.
async fn provisioner_of(config: &Config) -> Result<Option<Arc<Provisioner>>, DatabaseError> {
    let (Some(url), Some(data)) = (&config.front_door.provision_url, &config.data) else { return Ok(None) };
    Ok(Some(Arc::new(open_provisioner(url, config.front_door.database_address.clone(), config.front_door.database_quota, data).await?)))
}

/// Makes databases in somebody's cluster, as that role.
pub async fn open_provisioner(
    url: &str,
    address: Option<(String, u16)>,
    quota: Option<u64>,
    data: &Path,
) -> Result<Provisioner, DatabaseError> {
    let options = options(url)?;
    Ok(Provisioner::open(ProvisionOptions { options, address, key: &data.join(KEY_FILE), adopted: None, quota }).await?)
}

/// Looks at a database without changing anything: its version, and how many migrations it lacks.
pub async fn look(url: &str) -> Result<(String, usize), DatabaseError> {
    let (pool, place) = reach(options(url)?).await?;
    let version = version(&pool, &place).await?;
    let applied: Vec<i64> =
        sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(&pool).await.unwrap_or_default();
    pool.close().await;
    if let Some(version) = applied.iter().find(|version| !MIGRATIONS.iter().any(|ours| ours.version == **version)) {
        return Err(DatabaseError::Newer { place, version: *version });
    }
    Ok((version, MIGRATIONS.iter().filter(|ours| !applied.contains(&ours.version)).count()))
}

async fn connect(options: PgConnectOptions) -> Result<(PgPool, String), DatabaseError> {
    let (pool, place) = reach(options).await?;
    let version = version(&pool, &place).await?;
    MIGRATIONS.run(&pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => DatabaseError::Newer { place: place.clone(), version },
        error => DatabaseError::Migrate { place: place.clone(), source: Box::new(error) },
    })?;
    Ok((pool, version))
}

fn options(url: &str) -> Result<PgConnectOptions, DatabaseError> {
    // The parser takes any scheme for its own.
    match url.split_once("://") {
        Some(("postgres" | "postgresql", _)) | None => {}
        Some((scheme, _)) => return Err(DatabaseError::Scheme(scheme.chars().take(20).collect())),
    }
    PgConnectOptions::from_str(url).map_err(DatabaseError::Url)
}

async fn reach(options: PgConnectOptions) -> Result<(PgPool, String), DatabaseError> {
    let options = options.application_name("manman-host");
    let place = place(&options);
    // The first connection is made by itself: the pool would try for long what can not succeed.
    let first = tokio::time::timeout(Duration::from_secs(10), PgConnection::connect_with(&options));
    let connection = match first.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(refusal(place, error)),
        Err(_) => return Err(DatabaseError::Connect { place, source: sqlx::Error::PoolTimedOut }),
    };
    let _ = connection.close().await;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_WITHIN)
        .idle_timeout(Duration::from_secs(60))
        .connect_lazy_with(options);
    Ok((pool, place))
}

fn refusal(place: String, error: sqlx::Error) -> DatabaseError {
    match error.as_database_error() {
        Some(refused) => DatabaseError::Refused {
            place,
            why: refused.message().to_owned(),
            code: refused.code().map(std::borrow::Cow::into_owned).unwrap_or_default(),
        },
        None => DatabaseError::Connect { place, source: error },
    }
}

/// Where it is, without the password.
fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("its default database");
    match options.get_socket() {
        Some(socket) => format!("`{}` ({database})", socket.display()),
        None => format!("`{}:{}` ({database})", options.get_host(), options.get_port()),
    }
}

async fn version(pool: &PgPool, place: &str) -> Result<String, DatabaseError> {
    let error = |source| DatabaseError::Query { place: place.to_owned(), source };
    let (version, number): (String, String) =
        sqlx::query_as("select current_setting('server_version'), current_setting('server_version_num')")
            .fetch_one(pool)
            .await
            .map_err(error)?;
    // Debian writes `15.14 (Debian 15.14-0+deb12u1)`.
    let version = version.split_whitespace().next().unwrap_or_default().to_owned();
    if number.parse().is_ok_and(|number: i32| number < OLDEST) {
        return Err(DatabaseError::TooOld { place: place.to_owned(), found: version });
    }
    Ok(version)
}
