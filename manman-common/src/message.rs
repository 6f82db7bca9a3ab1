//! The envelope of a message to a server, and the types of message there are.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{CommandId, Timestamp};

/// `{type, id, ts, body}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Envelope {
    #[serde(rename = "type")]
    pub kind: MessageType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<Timestamp>,
    #[serde(default)]
    pub body: serde_json::Value,
}

/// What a message asks for. Written as a name, read as a name or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// 1: how is it?
    Health,
    /// 2
    Start,
    /// 3
    Stop,
    /// 4
    Kill,
    /// 200 is a raw console line, 201 and on are the game's actions, in the order of their names.
    Command(u16),
}

/// The first number of the commands.
pub const COMMAND_BASE: u16 = 200;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a type of message; there are HEALTH (1), START (2), STOP (3), KILL (4) and COMMAND (200 and above)")]
pub struct MessageTypeError(String);

impl MessageType {
    pub fn from_number(number: u64) -> Result<Self, MessageTypeError> {
        match number {
            1 => Ok(Self::Health),
            2 => Ok(Self::Start),
            3 => Ok(Self::Stop),
            4 => Ok(Self::Kill),
            number => u16::try_from(number)
                .ok()
                .and_then(|number| number.checked_sub(COMMAND_BASE))
                .map(Self::Command)
                .ok_or_else(|| MessageTypeError(number.to_string())),
        }
    }

    pub fn from_name(name: &str) -> Result<Self, MessageTypeError> {
        match name {
            "HEALTH" => Ok(Self::Health),
            "START" => Ok(Self::Start),
            "STOP" => Ok(Self::Stop),
            "KILL" => Ok(Self::Kill),
            "COMMAND" => Ok(Self::Command(0)),
            other => other
                .strip_prefix("COMMAND_")
                .and_then(|index| index.parse().ok())
                .filter(|index| *index <= u16::MAX - COMMAND_BASE)
                .map(Self::Command)
                .ok_or_else(|| MessageTypeError(other.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Health => f.write_str("HEALTH"),
            Self::Start => f.write_str("START"),
            Self::Stop => f.write_str("STOP"),
            Self::Kill => f.write_str("KILL"),
            Self::Command(0) => f.write_str("COMMAND"),
            Self::Command(index) => write!(f, "COMMAND_{index}"),
        }
    }
}

impl Serialize for MessageType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrNumber;

        impl Visitor<'_> for NameOrNumber {
            type Value = MessageType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message type's name or number")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<MessageType, E> {
                MessageType::from_number(number).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<MessageType, E> {
                MessageType::from_name(name).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(NameOrNumber)
    }
}

/// The first character of a line that a console must never be given: a line break would be a
/// second command, and other control characters move cursors and ring bells.
#[must_use]
pub fn forbidden_character(line: &str) -> Option<char> {
    line.chars().find(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_a_number() {
        let read = |json: &str| serde_json::from_str::<MessageType>(json);
        assert_eq!(read("1").expect("health"), MessageType::Health);
        assert_eq!(read("\"KILL\"").expect("kill"), MessageType::Kill);
        assert_eq!(read("200").expect("a line"), MessageType::Command(0));
        assert_eq!(read("201").expect("an action"), MessageType::Command(1));
        assert_eq!(read("\"COMMAND_1\"").expect("an action"), MessageType::Command(1));
        for bad in ["0", "5", "199", "70000", "-1", "\"kill\"", "\"COMMAND_x\"", "\"COMMAND_65535\"", "null"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for kind in [MessageType::Health, MessageType::Stop, MessageType::Command(0), MessageType::Command(7)] {
            let text = serde_json::to_string(&kind).expect("it is written");
            assert_eq!(read(&text).expect("and read"), kind);
        }
    }

    #[test]
    fn no_second_command_in_a_line() {
        assert_eq!(forbidden_character("say hi \u{1f600} ä"), None);
        assert_eq!(forbidden_character("say hi\nquit"), Some('\n'));
        assert_eq!(forbidden_character("\u{1b}[2J"), Some('\u{1b}'));
        assert_eq!(forbidden_character("a\u{2028}b"), Some('\u{2028}'));
    }
}
