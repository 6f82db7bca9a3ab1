//! Everything that can go wrong with the private Postgres, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::package;

/// What was tried on what. The cause is the source, the remedy is [`PostgresError::hint`].
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error("found no usable PostgreSQL (looked at {})", looked.join(", "))]
    NotInstalled { looked: Vec<String> },
    #[error("`{}` holds no usable PostgreSQL: {reason}", dir.display())]
    BadBinaries { dir: PathBuf, reason: String },
    #[error(
        "the database in `{}` was made by PostgreSQL {recorded} and cannot be opened by {found}",
        cluster.display()
    )]
    WrongMajor { cluster: PathBuf, recorded: u32, found: String },
    #[error("the database in `{}` is in use by another host{}", home.display(), Holder(*holder))]
    Locked { home: PathBuf, holder: Option<u32> },
    #[error(
        "`{}` is a copy of `{}` and names the database of the original",
        data_dir.display(),
        original.display()
    )]
    CopiedDataDir { data_dir: PathBuf, original: PathBuf },
    #[error("`{}` names a database in `{}`, which is not there", record.display(), cluster.display())]
    ClusterGone { record: PathBuf, cluster: PathBuf },
    #[error("`{}` is neither empty nor a PostgreSQL database", path.display())]
    NotACluster { path: PathBuf },
    #[error("the password of the database is not in `{}`", path.display())]
    PasswordGone { path: PathBuf },
    #[error("the database in `{}` belongs to user id {owner}, who cannot run it here", cluster.display())]
    WrongOwner { cluster: PathBuf, owner: u32 },
    #[error("found no account to run PostgreSQL as, and it refuses to run as root")]
    NoAccount,
    #[error("the account `{account}` cannot reach `{}`", path.display())]
    Unreachable { account: String, path: PathBuf },
    #[error("`{}` is taken by somebody else", path.display())]
    SocketDirTaken { path: PathBuf },
    #[error("`{}` is not valid UTF-8 and cannot be part of a database address", path.display())]
    NotUtf8 { path: PathBuf },
    #[error("`{}` is not a valid record of where the database is", path.display())]
    BadRecord { path: PathBuf, source: Box<toml::de::Error> },
    #[error("initdb could not make a database in `{}` ({status}){}", home.display(), LogTail(output))]
    Initdb { home: PathBuf, status: ExitStatus, output: String },
    #[error("PostgreSQL ended while starting ({status}){}", LogTail(log))]
    EndedAtStart { status: ExitStatus, log: String },
    #[error("PostgreSQL did not answer within {seconds} s, last: {last}{}", LogTail(log))]
    NotReady { seconds: u64, last: String, log: String },
    #[error("PostgreSQL ended unasked ({status}){}", LogTail(log))]
    Died { status: ExitStatus, log: String },
    #[error("processes {pids:?} of an earlier host still use the database in `{}` and do not stop", cluster.display())]
    LeftoverStays { cluster: PathBuf, pids: Vec<i32> },
    #[error("PostgreSQL (pid {pid}) does not stop")]
    WontStop { pid: i32 },
    #[error("could not {doing} `{}`", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("could not {doing}")]
    Sql { doing: &'static str, source: Box<sqlx::Error> },
    #[error("could not {doing}: a thread of the host panicked")]
    Internal { doing: &'static str },
}

impl PostgresError {
    /// What a person can do about it, as one sentence; none where the cause says it all.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotInstalled { .. } => package::install_hint(),
            Self::BadBinaries { .. } => "name the directory that holds `postgres` and `initdb` with --pg-bin".to_owned(),
            Self::WrongMajor { recorded, .. } => format!(
                "install PostgreSQL {recorded} beside the other one (its binaries can be named \
                 with --pg-bin); to change the version, dump the database with the old one and \
                 restore it into a new data directory; nothing was changed"
            ),
            Self::Locked { .. } => "stop the other host, or give this one its own data directory with --data".into(),
            Self::CopiedDataDir { .. } => "copy the database with pg_dump instead: delete `postgres.toml` from the copy, \
                 and it gets an empty database of its own"
                .into(),
            Self::ClusterGone { record, .. } => format!(
                "bring the directory back (is its disk mounted?), or delete `{}` to begin with an \
                 empty database",
                record.display()
            ),
            Self::NotACluster { path } => {
                format!("move `{}` away, and it is made anew", path.display())
            }
            Self::PasswordGone { path } => format!(
                "bring the file back, or set a new password in PostgreSQL's single-user mode and \
                 write it to `{}`",
                path.display()
            ),
            Self::WrongOwner { owner, .. } => {
                format!("run the host as user id {owner}, who made the database, or as root")
            }
            Self::NoAccount => "create one (useradd --system manman), run the host as an ordinary user, or give \
                 it a database with --database-url"
                .into(),
            Self::Unreachable { account, path } => format!(
                "let `{account}` pass through the directories above `{}` (chmod o+x), or run the \
                 host as an ordinary user",
                path.display()
            ),
            Self::SocketDirTaken { path } => format!("remove `{}`, or use a data directory with a shorter path", path.display()),
            Self::NotUtf8 { .. } => "choose another data directory with --data".into(),
            Self::BadRecord { path, .. } => {
                format!("correct the line, or delete `{}` if the database lies below the data directory", path.display())
            }
            Self::LeftoverStays { pids, .. } => {
                format!("look at what {pids:?} wait for (a hanging disk?), then start again")
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "check who owns it: was the host run as another user before?".into()
            }
            Self::Initdb { .. }
            | Self::EndedAtStart { .. }
            | Self::NotReady { .. }
            | Self::Died { .. }
            | Self::WontStop { .. }
            | Self::Io { .. }
            | Self::Sql { .. }
            | Self::Internal { .. } => return None,
        };
        Some(hint)
    }

    /// For `map_err`: keeps what was tried and on which path beside the cause.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, " (pid {pid})"),
            None => Ok(()),
        }
    }
}

struct LogTail<'a>(&'a str);

impl fmt::Display for LogTail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "; it said last:\n{}", self.0)
    }
}
