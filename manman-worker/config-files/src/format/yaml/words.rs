//! Single words of yaml: what a plain one means, and how a text is written.

use crate::format::tree::{self, There};

/// What a plain scalar is to the readers of games: those of yaml 1.1 know more truth values.
pub(super) fn meaning(plain: &str) -> There {
    match plain.to_ascii_lowercase().as_str() {
        "" | "~" | "null" => There::Nothing,
        "true" | "false" | "yes" | "no" | "on" | "off" => There::Truth,
        lower => {
            let bare = lower.strip_prefix(['+', '-']).unwrap_or(lower).trim_end_matches('.');
            let hex =
                bare.strip_prefix("0x").is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let known = tree::is_number(bare) || matches!(bare, ".inf" | ".nan") || hex;
            let odd = bare.starts_with(|char: char| char.is_ascii_digit() || char == '.')
                && bare.bytes().all(|byte| byte.is_ascii_digit() || b"_.eo+-".contains(&byte));
            if known || (odd && bare.parse::<f64>().is_ok()) { There::Number } else { There::Text }
        }
    }
}

pub(super) fn truth(plain: &str) -> Option<bool> {
    match plain.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Whether a text may stand without quotes for every reader there is; narrow on purpose.
pub(super) fn is_safe(text: &str) -> bool {
    text.starts_with(|char: char| char.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
        && meaning(text) == There::Text
        && !matches!(text, "y" | "Y" | "n" | "N")
}

pub(super) fn is_printable(text: &str) -> bool {
    !text.chars().any(must_escape)
}

const fn must_escape(char: char) -> bool {
    matches!(char, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// In double quotes, with escapes for all that could end a line.
pub(super) fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if must_escape(char) { out.push_str(&format!("\\u{:04X}", u32::from(char))) } else { out.push(char) }
    }
    out
}
