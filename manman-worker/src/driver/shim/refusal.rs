//! Why a shim did not start its game, in words for a person.

use manman_shim::exit_code;
use manman_shim::record::Exit;

use crate::driver::{DriverError, DriverErrorKind};

/// From the record of a start that came to nothing.
pub(crate) fn of(exit: &Exit) -> DriverError {
    let reason = exit.reason.as_deref().unwrap_or("its shim did not say why");
    match exit.refused {
        Some(exit_code::LOCKED) => in_use(reason),
        Some(exit_code::EPOCH) => error(
            DriverErrorKind::Final,
            reason,
            Some("it runs on another worker now; this copy of its data is kept, and `manman server move` brings the server back"),
        ),
        Some(exit_code::STOPPED) => error(
            DriverErrorKind::Retry,
            reason,
            Some("this worker's database may be an old one: `manman server start` starts it, with the host there and the worker trusted"),
        ),
        Some(exit_code::LEASE) => error(DriverErrorKind::Retry, reason, Some("it starts as soon as the host is heard from")),
        Some(_) => error(DriverErrorKind::Retry, reason, None),
        None if reason.starts_with("exec ") && reason.contains("loader") => {
            error(DriverErrorKind::Final, reason, Some("on Debian and Ubuntu `apt-get install lib32gcc-s1` brings what 32-bit games need"))
        }
        None if reason.starts_with("exec ") => {
            error(DriverErrorKind::Final, reason, Some("look at `start.argv` of its definition: the first word is a file of the install"))
        }
        None => error(DriverErrorKind::Retry, reason, None),
    }
}

/// Its data is held by something that still runs.
pub(crate) fn in_use(reason: &str) -> DriverError {
    error(DriverErrorKind::Retry, reason, Some("it is tried again; what still runs there has to end first"))
}

fn error(kind: DriverErrorKind, reason: &str, hint: Option<&str>) -> DriverError {
    // A world that has gone is no game that is broken.
    let what = if reason.starts_with("this world ") { reason.to_owned() } else { format!("the game can not be started: {reason}") };
    DriverError { kind, what, hint: hint.map(str::to_owned), source: None }
}
