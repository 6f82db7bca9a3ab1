//! What can go wrong between us and a host.

use crate::Problem;
use crate::client::EndpointError;

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The host answered, and said no.
    #[error("{0}")]
    Refused(Box<Problem>),
    #[error("the host at {url} can not be reached")]
    Unreachable {
        url: String,
        #[source]
        source: Source,
    },
    /// Something answered that is no host of ours, or a proxy in front of one.
    #[error("{url} answered with status {status}: {body}")]
    Status { url: String, status: u16, body: String },
    #[error("the host at {url} answered with something that is not understood")]
    Answer {
        url: String,
        #[source]
        source: Source,
    },
    #[error("the WebSocket to {url} was refused")]
    Socket {
        url: String,
        #[source]
        source: Source,
    },
    #[error("the token has characters that no token has")]
    Token,
    #[error("the HTTP client can not be set up")]
    Setup {
        #[source]
        source: Source,
    },
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

impl ClientError {
    /// The host's own words, where it had any.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::Unreachable { .. }
            | Self::Status { .. }
            | Self::Answer { .. }
            | Self::Socket { .. }
            | Self::Token
            | Self::Setup { .. }
            | Self::Endpoint(_) => None,
        }
    }

    /// Whether nobody answered at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
