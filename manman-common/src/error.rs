//! Errors as they cross the wire: RFC 9457 problem details, with the field at fault and a hint.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, for programs; each kind has one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Kind {
    /// 400: a value is wrong; `field` names it.
    Invalid,
    /// 401: no token, or one that is not known here.
    Unauthenticated,
    /// 403: the token may not do this.
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 409: it does not fit what is; `detail` says what.
    Conflict,
    /// 409: a port is taken.
    PortTaken,
    /// 409: the worker or server is not alive enough for this.
    NotAlive,
    /// 409: a generation that is not newer.
    StaleGeneration,
    /// 410: the worker's session is over; `reason` says why.
    Gone,
    /// 412: somebody else has changed it since.
    PreconditionFailed,
    /// 413
    TooLarge,
    /// 415
    UnsupportedMediaType,
    /// 429
    TooManyRequests,
    /// 500: a bug of ours.
    Internal,
    /// 502: the worker answered, and not with sense.
    BadGateway,
    /// 503: try again.
    Unavailable,
    /// 504: the worker did not answer in time.
    Timeout,
}

impl Kind {
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::PortTaken | Self::NotAlive | Self::StaleGeneration => 409,
            Self::Gone => 410,
            Self::PreconditionFailed => 412,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::TooManyRequests => 429,
            Self::Internal => 500,
            Self::BadGateway => 502,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }

    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Invalid => "The request is not valid",
            Self::Unauthenticated => "Who are you?",
            Self::Forbidden => "Not allowed",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Conflict => "It does not fit the present state",
            Self::PortTaken => "The port is taken",
            Self::NotAlive => "Not alive",
            Self::StaleGeneration => "The generation is not newer",
            Self::Gone => "The session is over",
            Self::PreconditionFailed => "It has changed since",
            Self::TooLarge => "Too large",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::TooManyRequests => "Too many requests",
            Self::Internal => "Internal error",
            Self::BadGateway => "The worker's answer makes no sense",
            Self::Unavailable => "Not available at the moment",
            Self::Timeout => "The worker did not answer in time",
        }
    }
}

/// A problem as `application/problem+json` carries it. Only public words are ever put into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// The kind, as in `not-found`.
    #[serde(rename = "type")]
    pub kind: Kind,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// The part of the request at fault, such as `ports[0].port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// With `gone`: `revoked`, `superseded` or `tombstoned`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<GoneReason>,
    /// Seconds after which trying again makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// The request's id, as in the host's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// Why a worker's session is over, and so what the worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GoneReason {
    /// Register again.
    Revoked,
    /// Another session has taken over: stay quiet, keep the games, say so to the person.
    Superseded,
    /// Forget this host.
    Tombstoned,
}

impl Problem {
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            field: None,
            hint: None,
            reason: None,
            retry_after: None,
            instance: None,
        }
    }

    /// A wrong value in the request.
    #[must_use]
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, detail).field(field)
    }

    #[must_use]
    pub fn not_found(what: &str, name: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what} `{name}`"))
    }

    #[must_use]
    pub fn gone(reason: GoneReason, detail: impl Into<String>) -> Self {
        Self { reason: Some(reason), ..Self::new(Kind::Gone, detail) }
    }

    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "`{field}`: {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}

impl std::error::Error for Problem {}
/// An error and its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Libraries' errors often say their cause themselves.
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
