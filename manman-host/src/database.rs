//! The database of a host: a private one of its own, or somebody's, and what is wrong with that.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::config::{Config, Database};
use crate::db::MIGRATIONS;
use crate::postgres::{Durability, EmbeddedPostgres, PostgresError, PostgresOptions};

/// A database that is migrated and answers.
#[derive(Debug)]
pub struct Opened {
    pub pool: PgPool,
    /// Ours to stop, where it is private.
    pub embedded: Option<EmbeddedPostgres>,
    /// `embedded 15.14`, `external 16.3`.
    pub words: String,
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
        }
    }
}

/// Enough for the handlers of a big fleet; each is a process of Postgres.
const CONNECTIONS_MAX: u32 = 16;
/// A handler that waits longer answers 503.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);
/// `server_version_num` of PostgreSQL 13.
const OLDEST: i32 = 130_000;

/// Starts or reaches the database and brings it up to date.
pub async fn open(config: &Config) -> Result<Opened, DatabaseError> {
    match &config.database {
        Database::External { url } => {
            let (pool, version) = connect(url).await?;
            Ok(Opened { pool, embedded: None, words: format!("external {version}") })
        }
        Database::Embedded { pg_bin } => {
            let data_dir = config.data.clone().ok_or(DatabaseError::NoData)?;
            let options = PostgresOptions { data_dir, pg_bin: pg_bin.clone(), durability: Durability::Durable };
            let embedded = EmbeddedPostgres::start(options).await?;
            match connect(&embedded.url()).await {
                Ok((pool, version)) => Ok(Opened { pool, words: format!("embedded {version}"), embedded: Some(embedded) }),
                Err(error) => {
                    // Why it can not be used matters more than how it ended.
                    let _ = embedded.stop().await;
                    Err(error)
                }
            }
        }
    }
}

/// Looks at a database without changing anything: its version, and how many migrations it lacks.
pub async fn look(url: &str) -> Result<(String, usize), DatabaseError> {
    let (pool, place) = reach(url).await?;
    let version = version(&pool, &place).await?;
    let applied: Vec<i64> =
        sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(&pool).await.unwrap_or_default();
    pool.close().await;
    if let Some(version) = applied.iter().find(|version| !MIGRATIONS.iter().any(|ours| ours.version == **version)) {
        return Err(DatabaseError::Newer { place, version: *version });
    }
    Ok((version, MIGRATIONS.iter().filter(|ours| !applied.contains(&ours.version)).count()))
}

async fn connect(url: &str) -> Result<(PgPool, String), DatabaseError> {
    let (pool, place) = reach(url).await?;
    let version = version(&pool, &place).await?;
    MIGRATIONS.run(&pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => DatabaseError::Newer { place: place.clone(), version },
        error => DatabaseError::Migrate { place: place.clone(), source: Box::new(error) },
    })?;
    Ok((pool, version))
}

async fn reach(url: &str) -> Result<(PgPool, String), DatabaseError> {
    // The parser takes any scheme for its own.
    match url.split_once("://") {
        Some(("postgres" | "postgresql", _)) | None => {}
        Some((scheme, _)) => return Err(DatabaseError::Scheme(scheme.chars().take(20).collect())),
    }
    let options = PgConnectOptions::from_str(url).map_err(DatabaseError::Url)?.application_name("manman-host");
    let place = place(&options);
    // The first connection is made by itself: the pool would try for long what can not succeed.
    let first = tokio::time::timeout(Duration::from_secs(10), <sqlx::PgConnection as sqlx::Connection>::connect(url));
    let connection = match first.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(refusal(place, error)),
        Err(_) => return Err(DatabaseError::Connect { place, source: sqlx::Error::PoolTimedOut }),
    };
    let _ = sqlx::Connection::close(connection).await;
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
