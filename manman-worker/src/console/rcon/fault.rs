//! What can go wrong at a console over the network, in words that hold no password.

use std::io;

use manman_common::{Kind, Problem};

/// What a game's console did, or could not be brought to.
#[derive(Debug, thiserror::Error)]
#[error("the game's {console} on port {port} {fault}")]
pub(crate) struct RemoteError {
    pub(super) console: &'static str,
    pub(super) port: u16,
    #[source]
    pub(crate) fault: Fault,
}

/// Each reads on from "the game's console on port N".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("can not be reached")]
    Unreachable(#[source] io::Error),
    #[error("refuses the password that it was given")]
    Refused,
    #[error("ended the connection at the login")]
    TurnedAway,
    #[error("asks for a password, and none is known here")]
    NoSecret,
    #[error("has no password set, and so takes no lines")]
    NoSecretThere,
    #[error("can not be given its password: {0}")]
    BadSecret(&'static str),
    #[error("did not answer the login in time")]
    NoLogin,
    #[error("answered with what it should not: {0}")]
    Garbled(String),
    #[error("takes lines of at most {max} bytes, and this one has {bytes}")]
    TooLong { bytes: usize, max: usize },
    #[error("broke off after it was given the line; whether it was carried out is not known")]
    Lost(#[source] io::Error),
    #[error("did not answer the line in time; whether it was carried out is not known")]
    Silent,
    #[error("is busy with other lines")]
    Busy,
}

impl Fault {
    /// Whether the line may have reached the game.
    pub(crate) const fn was_sent(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Silent => true,
            Self::Unreachable(_)
            | Self::Refused
            | Self::TurnedAway
            | Self::NoSecret
            | Self::NoSecretThere
            | Self::BadSecret(_)
            | Self::NoLogin
            | Self::Garbled(_)
            | Self::TooLong { .. }
            | Self::Busy => false,
        }
    }

    /// Whether asking again would only add to the game's count of wrong passwords.
    pub(crate) const fn is_about_password(&self) -> bool {
        match self {
            Self::Refused | Self::TurnedAway | Self::NoSecret | Self::NoSecretThere | Self::BadSecret(_) => true,
            Self::Unreachable(_) | Self::NoLogin | Self::Garbled(_) | Self::TooLong { .. } | Self::Lost(_) | Self::Silent | Self::Busy => {
                false
            }
        }
    }
}

impl RemoteError {
    pub(crate) fn problem(&self) -> Problem {
        let detail = match std::error::Error::source(&self.fault) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        };
        let (kind, hint) = match &self.fault {
            Fault::Unreachable(_) => (Kind::Unavailable, Some("a game that is still starting may not listen yet")),
            Fault::Refused => (Kind::Conflict, Some("if the password was changed, the game takes the new one with its next start")),
            Fault::TurnedAway => {
                (Kind::Conflict, Some("the password is wrong, or the game has had too many wrong ones and refuses for a while"))
            }
            Fault::NoSecret | Fault::NoSecretThere => (Kind::Conflict, Some("set the console's password, and restart the server")),
            Fault::BadSecret(_) => (Kind::Conflict, Some("choose another password, and restart the server")),
            Fault::NoLogin | Fault::Busy => (Kind::Unavailable, Some("try again")),
            Fault::Garbled(_) => {
                (Kind::BadGateway, Some("something else may listen on this port, or the definition names the wrong console"))
            }
            Fault::TooLong { .. } => return Problem::invalid("command", detail),
            Fault::Lost(_) | Fault::Silent => (Kind::Timeout, None),
        };
        let problem = Problem::new(kind, detail);
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}
