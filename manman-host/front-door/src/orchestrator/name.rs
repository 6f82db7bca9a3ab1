//! The name of a waifu: one DNS label, since with Docker it is a hostname.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest label of DNS, in bytes.
const NAME_MAX: usize = 63;

/// `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`; capital letters are read as small ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(value_type = String, example = "links")]
#[serde(try_from = "String", into = "String")]
pub struct WaifuName(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name has 1 to {NAME_MAX} characters, this one has {0}")]
    Length(usize),
    #[error("a name is one label of DNS: letters, digits and `-` within, not `{0}`")]
    Character(char),
}

impl WaifuName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WaifuName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > NAME_MAX {
            return Err(NameError::Length(text.chars().count()));
        }
        if let Some(stranger) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-')) {
            return Err(NameError::Character(stranger));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Character('-'));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for WaifuName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<WaifuName> for String {
    fn from(name: WaifuName) -> String {
        name.0
    }
}

impl fmt::Display for WaifuName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w02_a_name_is_a_label_of_dns() {
        assert_eq!("Links".parse::<WaifuName>().expect("a name").as_str(), "links");
        for good in ["a", "a-b", "0", &"x".repeat(63)] {
            assert!(good.parse::<WaifuName>().is_ok(), "{good}");
        }
        for bad in ["", "a/b", "..", "__internal", "a_b", "-a", "a-", "a.b", "a b", "ä", "\u{441}at", &"x".repeat(64)] {
            assert!(bad.parse::<WaifuName>().is_err(), "{bad}");
        }
    }
}
