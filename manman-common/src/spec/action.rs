//! What a game has prepared for a person to do, and the values that a person gives.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A command that a game has prepared, with typed inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActionSpec {
    pub label: String,
    /// The console line, with `{{inputs.NAME}}` where an input goes.
    pub console: String,
    #[serde(default)]
    pub inputs: BTreeMap<String, InputSpec>,
    /// A regular expression over a reply or a log line after it: seen, the action is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    #[serde(default)]
    pub disabled: bool,
}

/// A value that a person gives, and what it must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InputSpec {
    pub label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(rename = "type")]
    pub kind: InputKind,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "scalar_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub default: Option<String>,
    pub required: bool,
    /// Never shown in a list, a log or an event.
    pub secret: bool,
    /// On a secret that the game takes only where others of the machine can read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed: Option<Exposed>,
    /// Least value of a number, least length of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// Greatest value of a number, greatest length of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// A regular expression that the whole text must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub options: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum InputKind {
    #[default]
    Text,
    Integer,
    Boolean,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Exposed {
    /// In the arguments of the game's process.
    Argv,
}

/// Reads a default written as text, number or truth value; all are text to a game.
fn scalar_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Integer(i64),
        Truth(bool),
    }
    Ok(Option::<Scalar>::deserialize(deserializer)?.map(|scalar| match scalar {
        Scalar::Text(text) => text,
        Scalar::Integer(number) => number.to_string(),
        Scalar::Truth(truth) => truth.to_string(),
    }))
}
