//! What can go wrong between a wish for a game and its files, each with a name and a way on.

use std::time::Duration;

/// A failure in words for a person. `what` says what was tried on what; the cause is its source.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SteamError {
    pub failure: Failure,
    pub what: String,
    /// What a person can do about it.
    pub hint: Option<String>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Whether the same again may do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteamErrorKind {
    /// Steam is away, the disk is full, the download stood still.
    Retry,
    /// Only another wish or a person can help.
    Final,
}

/// The failures that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The account, or the public, may not have this app.
    NoSubscription,
    /// No account has been signed in on this machine.
    NoAccount,
    /// Name or password are not what Steam knows.
    InvalidPassword,
    /// The login that SteamCMD kept is no longer good.
    LoginExpired,
    /// Steam asks for a code that only a person has.
    GuardNeeded,
    /// Steam refuses logins of this address for a while.
    RateLimit,
    DiskFull,
    /// There is no such app, no such branch, or none for this platform.
    MissingConfiguration,
    InvalidPlatform,
    /// SteamCMD gave up with an app state that says no more than that.
    AppState(u32),
    NoConnection,
    /// Nothing moved for as long as the limit says.
    Inactive,
    /// SteamCMD ended without a word on how it went.
    Unexplained,
    /// SteamCMD itself is not there, or does not run here.
    Tool,
    /// A 32 bit program finds no loader on this machine.
    Loader32,
    /// The machine has nothing to run Windows games with.
    NoProton,
    /// What was installed lacks what the game's definition expects.
    Incomplete,
    /// A path leads out of the data directory.
    Outside,
    /// Another SteamCMD holds the lock.
    Busy,
    Io,
}

/// Steam forgets about too many logins after about half an hour.
pub(crate) const RATE_LIMIT_PAUSE: Duration = Duration::from_mins(30);

impl SteamError {
    #[must_use]
    pub const fn kind(&self) -> SteamErrorKind {
        match self.failure {
            Failure::RateLimit
            | Failure::DiskFull
            | Failure::AppState(_)
            | Failure::NoConnection
            | Failure::Inactive
            | Failure::Unexplained
            | Failure::Busy
            | Failure::Io => SteamErrorKind::Retry,
            Failure::NoSubscription
            | Failure::NoAccount
            | Failure::InvalidPassword
            | Failure::LoginExpired
            | Failure::GuardNeeded
            | Failure::MissingConfiguration
            | Failure::InvalidPlatform
            | Failure::Tool
            | Failure::Loader32
            | Failure::NoProton
            | Failure::Incomplete
            | Failure::Outside => SteamErrorKind::Final,
        }
    }

    /// How long another try is pointless, where that is known.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.failure {
            Failure::RateLimit => Some(RATE_LIMIT_PAUSE),
            _ => None,
        }
    }

    pub(crate) fn new(failure: Failure, what: impl Into<String>) -> Self {
        Self { failure, what: what.into(), hint: None, source: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// A file operation; a full disk is known by its code, whatever was being written.
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        let error = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::new(Failure::DiskFull, what).hint(DISK_HINT),
            _ => Self::new(Failure::Io, what),
        };
        error.caused_by(source)
    }
}

pub(crate) const DISK_HINT: &str = "free some space, or move the worker's data to a larger disk; what was half downloaded has been removed";
