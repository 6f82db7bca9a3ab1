//! From the engine's errors to a driver's: what was tried, and whether trying again can help.

use std::error::Error as StdError;

use bollard::errors::Error;

use crate::driver::{DriverError, DriverErrorKind};

/// The same again may do better.
pub(super) fn retry(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> DriverError {
    DriverError { kind: DriverErrorKind::Retry, what: what.into(), hint: None, source: Some(source.into()) }
}

pub(super) fn retry_because(what: impl Into<String>) -> DriverError {
    DriverError { kind: DriverErrorKind::Retry, what: what.into(), hint: None, source: None }
}

/// Only another wish or a person can help.
pub(super) fn refused(what: impl Into<String>, hint: Option<&str>) -> DriverError {
    DriverError { kind: DriverErrorKind::Final, what: what.into(), hint: hint.map(str::to_owned), source: None }
}

pub(super) fn gone(what: impl Into<String>) -> DriverError {
    DriverError { kind: DriverErrorKind::Gone, what: what.into(), hint: None, source: None }
}

/// An error about a container: one that is not there is `Gone`, all else is worth another try.
pub(super) fn of_container(what: impl Into<String>, error: Error) -> DriverError {
    let kind = if status(&error) == Some(404) { DriverErrorKind::Gone } else { DriverErrorKind::Retry };
    DriverError { kind, what: what.into(), hint: None, source: Some(error.into()) }
}

pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine itself said, where it said something.
pub(super) fn message(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        other => other.to_string(),
    }
}

/// The error and its causes on one line.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
