//! Postgres: functions `noun_verb(conn, ..)`, one file per noun, and the only users of sqlx.

pub mod account;
pub mod event;
pub mod host;
pub mod idempotency;
pub mod orchestrator;
pub mod port;
pub mod registry;
pub mod restart;
pub mod server;
pub mod session;
pub mod status;
pub mod token;
pub mod worker;

use manman_common::Timestamp;
use sqlx::migrate::Migrator;

pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// A row that says what no row of ours can say: written by another program, or by a bug.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}` of table `{table}` holds what it can not hold: {why}")]
pub struct BadRow {
    pub table: &'static str,
    pub column: &'static str,
    pub why: String,
}

impl BadRow {
    pub(crate) fn of(table: &'static str, column: &'static str, why: impl std::fmt::Display) -> sqlx::Error {
        sqlx::Error::Decode(Box::new(Self { table, column, why: why.to_string() }))
    }
}

/// The name of the unique constraint that an error is about.
pub fn violated(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|error| error.constraint())
}

/// Postgres keeps microseconds, as [`Timestamp`] does.
pub(crate) fn moment(at: chrono::DateTime<chrono::Utc>) -> Timestamp {
    at.into()
}
