//! Services that register themselves, and who asks where they are.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A service's name as it stands in a URL: 1 to 63 of RFC 3986's unreserved characters, beginning
/// with a letter or digit. It is compared letter by letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, example = "mattccs.test1"))]
pub struct ServiceName(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceNameError {
    #[error("a service's name has 1 to {max} characters, this one has {0}", max = ServiceName::MAX)]
    Length(usize),
    #[error("a service's name begins with a letter or a digit, not with {0:?}")]
    Start(char),
    #[error("a service's name has letters, digits, `-`, `.`, `_` and `~` only, not {0:?}")]
    Character(char),
}

impl ServiceName {
    /// Longest name, in bytes.
    pub const MAX: usize = 63;

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(text: &str) -> Result<Self, ServiceNameError> {
        if text.is_empty() || text.len() > Self::MAX {
            return Err(ServiceNameError::Length(text.chars().count()));
        }
        let stranger = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')));
        match (stranger, text.chars().next()) {
            (Some(c), _) => Err(ServiceNameError::Character(c)),
            (None, Some(first)) if !first.is_ascii_alphanumeric() => Err(ServiceNameError::Start(first)),
            (None, _) => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(text: String) -> Result<Self, ServiceNameError> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> String {
        name.0
    }
}

impl From<crate::Name> for ServiceName {
    /// Every name of a server or worker can be a service's.
    fn from(name: crate::Name) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Longest time for which a service may say that it is there, in seconds.
pub const EXPIRE_MAX: u32 = 86_400;

/// PUT or POST /self-register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SelfRegister {
    pub name: ServiceName,
    /// Seconds until the record lapses unless it is registered again, at most 86400; 0 never, and
    /// then `GET /health` of the service is asked for its name. Written `expiry` as well.
    #[serde(alias = "expiry")]
    pub expire: u32,
    /// Where the service listens; without it, the port from which this request comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The answer to the first registration has it. With it the record moves to another port, or
    /// away from a protected name's first holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// PUT or POST /register, from this machine alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterService {
    pub name: ServiceName,
    /// As in /self-register; written `expire` as well.
    #[serde(alias = "expire")]
    pub expiry: u32,
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "192.168.1.20"))]
    pub ip: IpAddr,
    pub port: u16,
    /// Takes the name from whoever holds it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// What a registration has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Registration {
    /// The name was free.
    Added,
    /// The same service again: its time starts anew, as long as it was first given.
    Refreshed,
    /// The owner is elsewhere now.
    Moved,
    /// The name's holder had no expiry, or was made to go.
    Replaced,
    /// The record is gone, by its owner's own wish.
    Removed,
    /// Another one holds the name; nothing has changed.
    Ignored,
}

/// A record as its registration left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceRecord {
    pub result: Registration,
    pub ip: String,
    pub port: u16,
    /// Seconds, as recorded; 0 never lapses.
    pub expire: u32,
    /// Whole seconds that are left, rounded up.
    pub expires_in: Option<u32>,
    /// Only with a new record: shows later on that it is one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// DELETE /self-register/{name}.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaveRegistry {
    pub token: String,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Located {
    pub ip: String,
    pub port: u16,
}

/// What is known of a service's health: those with an expiry are never asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ServiceHealth {
    #[default]
    Unknown,
    Passing,
    /// It has not answered three times; it is not shown unless asked for.
    Critical,
}

/// A service with all that is known of it, as `?verbose=1` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Service {
    pub ip: String,
    pub port: u16,
    pub expire: u32,
    pub expires_in: Option<u32>,
    #[serde(default)]
    pub status: ServiceHealth,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
}

/// What happened to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ServiceChange {
    Added,
    Moved,
    Replaced,
    Removed,
    /// Its time was over.
    Expired,
    /// It answered with another name.
    Discarded,
    /// It did not answer three times.
    Critical,
    /// It answers again.
    Passing,
    /// It was critical for too long.
    Dropped,
}

impl ServiceChange {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Moved => "moved",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
            Self::Expired => "expired",
            Self::Discarded => "discarded",
            Self::Critical => "critical",
            Self::Passing => "passing",
            Self::Dropped => "dropped",
        }
    }
}

/// One message of the stream that `GET /discover` is with `Accept: text/event-stream`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceEvent {
    /// Grows with each change; `?index=` takes it.
    pub index: u64,
    pub change: ServiceChange,
    pub name: ServiceName,
    pub ip: String,
    pub port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_url_and_says_so_of_what_is_none() {
        for good in ["links", "mattccs.test1", "A~b_c-d", "0", &"x".repeat(63)] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", "a/b", "..", ".", "-a", "~a", "a b", "a%2fb", "a\n", "lіnks", "ｌinks", "a\u{202e}", "é", &"x".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "a\u{202e}b".parse::<ServiceName>().map_err(|error| error.to_string()),
            Err("a service's name has letters, digits, `-`, `.`, `_` and `~` only, not '\\u{202e}'".to_owned())
        );
    }

    #[test]
    fn both_words_for_the_expiry_are_read() {
        for body in [r#"{"name":"a","expire":60}"#, r#"{"name":"a","expiry":60}"#] {
            assert_eq!(serde_json::from_str::<SelfRegister>(body).expect("it reads").expire, 60);
        }
        for body in [r#"{"name":"a","expiry":60,"ip":"10.0.0.5","port":80}"#, r#"{"name":"a","expire":60,"ip":"::1","port":80}"#] {
            assert_eq!(serde_json::from_str::<RegisterService>(body).expect("it reads").expiry, 60);
        }
    }
}
