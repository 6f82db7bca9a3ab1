use std::net::SocketAddr;
use std::path::PathBuf;

use crate::identity::IdentityError;
use crate::store::StoreError;

/// Why a worker could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the worker's API can not listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("{} can not be written", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the reconcile loop has ended by itself")]
    LoopEnded,
    #[error("a part of the worker broke")]
    LoopBroke {
        #[source]
        source: tokio::task::JoinError,
    },
}

impl RunError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Identity(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Listen { .. } => Some("choose another address with --listen; port 0 takes a free one"),
            Self::File { .. } => Some("see that the data directory belongs to the user that runs the worker"),
            Self::LoopEnded | Self::LoopBroke { .. } => Some("this is a bug; games go on, and the worker can be started again"),
        }
    }
}
