//! The small values of a definition that people write in words: times, sizes, numbers or texts.

use std::fmt;
use std::time::Duration;

use manman_common::wire::Proven;
use serde::{Deserialize, Deserializer, de};

pub(super) fn proven<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Proven>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Run(Proven),
        Word(String),
    }
    match Said::deserialize(deserializer)? {
        Said::Run(proven) => Ok(Some(proven)),
        Said::Word(word) if word == "untested" => Ok(None),
        Said::Word(word) => Err(de::Error::custom(format!("`{word}` is neither `untested` nor a build, a date and how it was proven"))),
    }
}

pub(super) fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Either;
    impl de::Visitor<'_> for Either {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a port's number, or an expression such as \"{{ports.game}} + 1\"")
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }
    deserializer.deserialize_any(Either)
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = number_or_text(deserializer)?;
    parse_duration(&text).map_err(de::Error::custom)
}

pub(super) fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads `90s`, `2m`, `1h`, `500ms`, or seconds without a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let refuse = || format!("`{text}` is not a time such as `90s`, `2m` or `1h`");
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs).ok_or_else(refuse);
    match unit.trim() {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => seconds(1),
        "m" | "min" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => Err(refuse()),
    }
}

pub(super) fn optional_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = number_or_text(deserializer)?;
    parse_size(&text).map(Some).map_err(de::Error::custom)
}

/// Reads `512MiB`, `4GiB`, `1500MB`, or bytes without a unit.
fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let refuse = || format!("`{text}` is not a size such as `512MiB` or `4GiB`");
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(refuse()),
    };
    number.checked_mul(factor).ok_or_else(refuse)
}

/// What a key of a configuration file is set to, as the definition has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    Truth(bool),
    Integer(i64),
    /// A template.
    Text(String),
}

/// A mapping that keeps the file's order.
pub(super) fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, SetValue)>, D::Error> {
    struct InOrder;
    impl<'de> de::Visitor<'de> for InOrder {
        type Value = Vec<(String, SetValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("keys with what each is set to")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries: Vec<(String, SetValue)> = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, SetValue>()? {
                if entries.iter().any(|(known, _)| *known == key) {
                    return Err(de::Error::custom(format!("the key `{key}` comes twice")));
                }
                entries.push((key, value));
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(InOrder)
}

impl<'de> Deserialize<'de> for SetValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl de::Visitor<'_> for Scalar {
            type Value = SetValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number, true or false")
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<SetValue, E> {
                Ok(SetValue::Truth(truth))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SetValue, E> {
                Ok(SetValue::Integer(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SetValue, E> {
                i64::try_from(number).map(SetValue::Integer).map_err(|_| E::custom(format!("{number} is too great a number")))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SetValue, E> {
                Ok(SetValue::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}
