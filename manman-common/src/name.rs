//! Names of servers and workers: short, printable, and safe as one segment of a URL.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name given by a person: 1 to 63 of `a-z A-Z 0-9 - _ .`, beginning with a letter or digit.
///
/// A name is compared without regard to case by the host, so that `OA` and `oa` can not both exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Longest name, in bytes: a DNS label's length, so that a name can become one.
pub const NAME_MAX: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name has 1 to {NAME_MAX} characters, this one has {0}")]
    Length(usize),
    #[error("a name begins with a letter or a digit, not with `{0}`")]
    Start(char),
    #[error("a name has letters, digits, `-`, `_` and `.` only, not `{0}`")]
    Character(char),
}

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > NAME_MAX {
            return Err(NameError::Length(text.chars().count()));
        }
        if let Some(first) = text.chars().next().filter(|c| !c.is_ascii_alphanumeric()) {
            return Err(NameError::Start(first));
        }
        let stranger = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
        match stranger {
            Some(c) => Err(NameError::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_url_segment() {
        for good in ["oa", "Attic-2", "a", "my_server.eu", &"x".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-oa", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
