//! A place in a definition, by its keys, and where that stands in the file.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Location, Spanned};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// `variables.MAP.default`, `stop[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct At(Vec<Step>);

impl At {
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A YAML text as nothing but keys and places.
#[derive(Debug)]
pub(super) enum Outline {
    Leaf,
    List(Vec<Spanned<Outline>>),
    Map(Vec<(Spanned<String>, Spanned<Outline>)>),
}

impl Outline {
    /// Line and column of the deepest part of `at` that the text has, from 1.
    pub(super) fn find(&self, at: &At) -> (u64, u64) {
        let mut node = self;
        let mut place = (1, 1);
        for step in &at.0 {
            let (next, there) = match (node, step) {
                (Self::Map(entries), Step::Key(key)) => {
                    let Some((name, value)) = entries.iter().find(|(name, _)| name.value == *key) else { return place };
                    // What holds more is shown by its name, a single value by itself.
                    let there = if matches!(value.value, Self::Leaf) { &value.referenced } else { &name.referenced };
                    (&value.value, there)
                }
                (Self::List(items), Step::Index(index)) => {
                    let Some(item) = items.get(*index) else { return place };
                    (&item.value, &item.referenced)
                }
                (Self::Leaf | Self::List(_) | Self::Map(_), Step::Key(_) | Step::Index(_)) => return place,
            };
            place = line_and_column(there).unwrap_or(place);
            node = next;
        }
        place
    }
}

pub(super) fn line_and_column(location: &Location) -> Option<(u64, u64)> {
    (location.line() > 0).then(|| (location.line(), location.column().max(1)))
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Outline;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Outline, E> {
                Ok(Outline::Leaf)
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Outline, E> {
                Ok(Outline::Leaf)
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Outline, E> {
                Ok(Outline::Leaf)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Outline, E> {
                Ok(Outline::Leaf)
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<Outline, E> {
                Ok(Outline::Leaf)
            }

            fn visit_unit<E: de::Error>(self) -> Result<Outline, E> {
                Ok(Outline::Leaf)
            }

            fn visit_none<E: de::Error>(self) -> Result<Outline, E> {
                Ok(Outline::Leaf)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Outline, D::Error> {
                Outline::deserialize(deserializer)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Outline, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Outline::List(items))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Outline::Map(entries))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
