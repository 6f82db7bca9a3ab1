//! What is wrong with a definition, and where: so said that a person finds it in the file.

use std::fmt;

use serde::Serialize;

use super::at::{At, Outline, line_and_column};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The key's path; absent where the text can not be read that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub why: String,
    /// From 1.
    pub line: u64,
    /// In characters, from 1.
    pub column: u64,
    /// The line itself.
    pub excerpt: String,
}

/// Widest excerpt, in characters; a longer line is cut around the place.
const EXCERPT_MAX: usize = 100;

impl Fault {
    fn new(text: &str, field: Option<String>, why: String, (line, column): (u64, u64)) -> Self {
        let at = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        let excerpt = text.lines().nth(at).unwrap_or_default().to_owned();
        Self { field, why, line, column, excerpt }
    }

    pub(super) fn of_parser(text: &str, error: &serde_saphyr::Error) -> Self {
        use serde_saphyr::MessageFormatter as _;
        let place = error.location().and_then(|location| line_and_column(&location)).unwrap_or((1, 1));
        let inner = error.without_snippet();
        Self::new(text, None, serde_saphyr::UserMessageFormatter.format_message(inner).into_owned(), place)
    }

    pub(super) fn of_field(text: &str, outline: Option<&Outline>, at: &At, why: String) -> Self {
        let place = outline.map_or((1, 1), |outline| outline.find(at));
        Self::new(text, Some(at.to_string()), why, place)
    }

    /// The line with a caret below the place, as compilers show it.
    #[must_use]
    pub fn picture(&self) -> String {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let column = usize::try_from(self.column.saturating_sub(1)).unwrap_or(0);
        let from = column.saturating_sub(EXCERPT_MAX * 2 / 3);
        let shown: String = self.excerpt.chars().skip(from).take(EXCERPT_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (before, after) = (if from > 0 { "…" } else { "" }, if self.excerpt.chars().count() > from + EXCERPT_MAX { "…" } else { "" });
        let caret = " ".repeat(column - from + before.chars().count());
        format!("{margin} |\n{number} | {before}{shown}{after}\n{margin} | {caret}^\n")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        match &self.field {
            Some(field) => write!(f, "`{field}`: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// All that was found in one file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_first() {
            None => f.write_str("nothing is wrong"),
            Some((first, [])) => write!(f, "{first}"),
            Some((first, rest)) => write!(f, "{first} (and {} more)", rest.len()),
        }
    }
}

impl std::error::Error for Faults {}
