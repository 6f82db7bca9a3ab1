use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not open the worker's database `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("could not {what} `{}`", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the worker's database `{}` has version {found}, and this program knows versions up to {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    /// Nothing of the transaction is kept; the same again works once there is room.
    #[error("the disk is full: could not {what}")]
    Full {
        what: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("could not {what} in the worker's database")]
    Sql {
        what: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("could not write down {what}")]
    Json {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("could not start the store's thread")]
    Thread {
        #[source]
        source: std::io::Error,
    },
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn sql(what: &'static str, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full { what, source },
            _ => Self::Sql { what, source },
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Full { .. } => Some("make room on the disk of the data directory; it is tried again by itself"),
            Self::Newer { .. } => Some("start the newer manman again, or give this one another data directory"),
            Self::Open { .. } | Self::File { .. } => Some("see that the data directory belongs to the user that runs the worker"),
            Self::Sql { .. } | Self::Json { .. } | Self::Thread { .. } | Self::Closed => None,
        }
    }
}
