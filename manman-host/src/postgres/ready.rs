//! Waits until Postgres really answers, and sees to it that our database is there.

use std::fmt::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tokio::time::{Instant, sleep, timeout};

use super::log::LogFile;
use super::postmaster::Postmaster;
use super::{PostgresError, settings};

/// The name of the role and of its database.
pub(super) const USER: &str = "manman";

/// Recovery after a power cut replays at most 128 MiB; a slow disk needs a part of this.
const PATIENCE: Duration = Duration::from_secs(120);

/// A warm start takes some 30 ms: looking this often costs it little.
const POLL: Duration = Duration::from_millis(5);

/// SQLSTATE `invalid_catalog_name`: the server is up, our database is not made yet.
const NO_SUCH_DATABASE: &str = "3D000";
/// SQLSTATE `cannot_connect_now`: it is starting, or recovering.
const NOT_YET: &str = "57P03";

/// Over the socket in that directory. Port and TLS mode are said, or sqlx takes them from the
/// environment.
pub(super) fn url(socket_dir: &Path, password: &str, tcp: Option<u16>) -> String {
    let host = encode(socket_dir.as_os_str().as_encoded_bytes());
    let password = encode(password.as_bytes());
    let port = tcp.unwrap_or(settings::PORT);
    format!("postgres://{USER}:{password}@{host}:{port}/{USER}?sslmode=disable")
}

pub(super) async fn wait(url: &str, postmaster: &Postmaster, log: &LogFile) -> Result<(), PostgresError> {
    let sql = |doing| move |source| PostgresError::Sql { doing, source: Box::new(source) };
    let options = PgConnectOptions::from_str(url).map_err(sql("read our own database address"))?;
    let answer = Box::pin(answer(&options));
    let answered = tokio::select! {
        status = postmaster.ended() => {
            return Err(PostgresError::EndedAtStart { status, log: log.tail() });
        }
        answered = answer => answered,
    };
    match answered {
        Ok(connection) => {
            // A polite goodbye; if it fails, the server notices the closed socket.
            let _ = connection.close().await;
            Ok(())
        }
        Err(Silence::Failed(error)) if is(&error, NO_SUCH_DATABASE) => {
            Box::pin(create_database(&options)).await.map_err(sql("create the database `manman`"))
        }
        Err(Silence::Failed(error)) => Err(sql("log in to PostgreSQL")(error)),
        Err(Silence::TimedOut { last }) => Err(PostgresError::NotReady { seconds: PATIENCE.as_secs(), last, log: log.tail() }),
    }
}

enum Silence {
    /// It answered, and the answer was no.
    Failed(sqlx::Error),
    TimedOut {
        last: String,
    },
}

async fn answer(options: &PgConnectOptions) -> Result<PgConnection, Silence> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = "nothing".to_owned();
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match timeout(left, PgConnection::connect_with(options)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                if matches!(error, sqlx::Error::Database(_)) && !is(&error, NOT_YET) {
                    return Err(Silence::Failed(error));
                }
                last = error.to_string();
            }
            Err(_) => "no answer to a connection".clone_into(&mut last),
        }
        sleep(POLL).await;
    }
    Err(Silence::TimedOut { last })
}

async fn create_database(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(&options.clone().database("postgres")).await?;
    connection.execute("CREATE DATABASE manman").await?;
    connection.close().await
}

fn is(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(|it| it.code()).is_some_and(|it| it == code)
}

/// Percent-encodes everything but letters and digits, as an address wants it.
fn encode(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(*byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    encoded
}
