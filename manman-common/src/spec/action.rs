//! What a game has prepared for a person to do, and the values that a person gives.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Something that a game or a person has prepared to be done with a server, with typed inputs.
///
/// It is one of a console line, a script and a [built-in](Builtin): see [`ActionSpec::does`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActionSpec {
    pub label: String,
    /// The console line, with `{{inputs.NAME}}` where an input goes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub console: String,
    /// A program and its arguments; inputs are in its environment and never among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// A script's text, run by what its `#!` names, else by `/bin/sh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Builtin>,
    #[serde(default)]
    pub inputs: BTreeMap<String, InputSpec>,
    /// A regular expression over a reply or a log line after it: seen, the action is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    #[serde(default)]
    pub disabled: bool,
    /// How long a script may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Whoever asks a person for it asks twice: it can not be undone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub confirm: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it in so")]
const fn is_false(truth: &bool) -> bool {
    !*truth
}

/// What an action comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does<'a> {
    Console(&'a str),
    Argv(&'a [String]),
    Script(&'a str),
    Builtin(Builtin),
}

impl ActionSpec {
    #[must_use]
    pub fn does(&self) -> Does<'_> {
        match (self.builtin, &self.script, self.argv.as_slice()) {
            (Some(builtin), _, _) => Does::Builtin(builtin),
            (None, Some(script), _) => Does::Script(script),
            (None, None, [_, ..]) => Does::Argv(&self.argv),
            (None, None, []) => Does::Console(&self.console),
        }
    }

    /// Whether it is a line for the game's console, which needs a running game.
    #[must_use]
    pub fn is_console(&self) -> bool {
        matches!(self.does(), Does::Console(_))
    }
}

/// What a worker can do with every server. An action of the game's own by the same name takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Builtin {
    /// Saves the game if it runs, and keeps its save paths in an archive.
    Backup,
    /// Lists the archives.
    Backups,
    /// Brings an archive back; what was there is kept beside it.
    Restore,
    /// Stops the game, brings its newest build, starts it again.
    Update,
}

impl Builtin {
    pub const ALL: [Self; 4] = [Self::Backup, Self::Backups, Self::Restore, Self::Update];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Backups => "backups",
            Self::Restore => "restore",
            Self::Update => "update",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|builtin| builtin.name() == name)
    }

    #[must_use]
    pub fn spec(self) -> ActionSpec {
        let text = |label: &str| InputSpec { label: label.to_owned(), ..InputSpec::default() };
        let (label, inputs, confirm): (_, Vec<(&str, InputSpec)>, _) = match self {
            Self::Backup => ("Back up", vec![("note", InputSpec { max: Some(200), ..text("A word about it") })], false),
            Self::Backups => ("List the backups", Vec::new(), false),
            Self::Restore => {
                let backup = InputSpec { required: true, pattern: Some("[A-Za-z0-9][A-Za-z0-9._-]{0,127}".to_owned()), ..text("Backup") };
                let stop = InputSpec { kind: InputKind::Boolean, default: Some("false".to_owned()), ..text("Stop the game for it") };
                ("Restore a backup", vec![("backup", backup), ("stop", stop)], true)
            }
            Self::Update => ("Update now", Vec::new(), true),
        };
        let inputs = inputs.into_iter().map(|(name, spec)| (name.to_owned(), spec)).collect();
        ActionSpec { label: label.to_owned(), builtin: Some(self), inputs, confirm, ..ActionSpec::default() }
    }
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
