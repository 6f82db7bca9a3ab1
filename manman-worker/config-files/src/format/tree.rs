//! What json, yaml and toml share: dotted keys, and the type that a value takes.

use manman_common::spec::FileValue;

use crate::Cause;

/// Deepest nesting that is read or made.
pub(crate) const MAX_DEPTH: usize = 128;

/// The parts of a dotted key.
pub(crate) fn parts(key: &str) -> Result<Vec<&str>, Cause> {
    let parts: Vec<&str> = key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) || key.contains(['\n', '\r', '\0']) {
        return Err(Cause::Key("it must be words with dots between them"));
    }
    if parts.len() > MAX_DEPTH {
        return Err(Cause::Key("it has too many parts"));
    }
    Ok(parts)
}

/// A part of digits is the place in a list.
pub(crate) fn index(part: &str) -> Option<usize> {
    if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
}

/// What the file has at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum There {
    Nothing,
    Number,
    Truth,
    Text,
    List,
    Table,
    /// A date, for instance.
    Other,
}

/// What is to be written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Truth(bool),
    /// As json writes numbers.
    Number(String),
    Text(String),
}

/// A text takes the type of what is there; numbers and truth values keep their own.
pub(crate) fn typed(value: &FileValue, there: There) -> Result<Scalar, Cause> {
    let scalar = match (value, there) {
        (_, There::List) => return Err(Cause::Type { there: "a list", given: "a single one" }),
        (_, There::Table) => return Err(Cause::Type { there: "a group of keys", given: "a single one" }),
        (_, There::Other) => return Err(Cause::Type { there: "a date", given: "none" }),
        (FileValue::Truth(truth), _) => Scalar::Truth(*truth),
        (FileValue::Integer(number), _) => Scalar::Number(number.to_string()),
        (FileValue::Text(text), There::Number) if is_number(text.trim()) => Scalar::Number(text.trim().to_owned()),
        (FileValue::Text(_), There::Number) => return Err(Cause::Type { there: "a number", given: "none" }),
        (FileValue::Text(text), There::Truth) => match text.trim() {
            text if text.eq_ignore_ascii_case("true") || text == "1" => Scalar::Truth(true),
            text if text.eq_ignore_ascii_case("false") || text == "0" => Scalar::Truth(false),
            _ => return Err(Cause::Type { there: "true or false", given: "neither" }),
        },
        (FileValue::Text(text), There::Nothing | There::Text) => Scalar::Text(text.clone()),
    };
    Ok(scalar)
}

/// `-1.5e+3`, as json has it, and no longer than a number needs to be.
pub(crate) fn is_number(text: &str) -> bool {
    fn digits(text: &str) -> Option<&str> {
        let rest = text.trim_start_matches(|char: char| char.is_ascii_digit());
        (rest.len() < text.len()).then_some(rest)
    }
    fn parse(text: &str) -> Option<bool> {
        let text = text.strip_prefix('-').unwrap_or(text);
        let rest = digits(text)?;
        if text.starts_with('0') && text.len() - rest.len() > 1 {
            return None;
        }
        let rest = match rest.strip_prefix('.') {
            Some(rest) => digits(rest)?,
            None => rest,
        };
        let rest = match rest.strip_prefix(['e', 'E']) {
            Some(rest) => digits(rest.strip_prefix(['+', '-']).unwrap_or(rest))?,
            None => rest,
        };
        Some(rest.is_empty())
    }
    text.len() <= 40 && parse(text) == Some(true)
}

/// Whether two numbers as written are one, so that `1.0` is not rewritten as `1`.
pub(crate) fn same_number(a: &str, b: &str) -> bool {
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a.to_bits() == b.to_bits()),
    }
}

/// The line, from one, that a byte of the text is in.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_jsons() {
        for text in ["0", "-0", "10", "1.5", "-1e5", "1.25E-3"] {
            assert!(is_number(text), "{text}");
            assert!(serde_json::from_str::<f64>(text).is_ok());
        }
        for text in ["", "-", "01", "1.", ".5", "1e", "0x1", "1 ", "nan", "+1", "1_0", "\u{661}"] {
            assert!(!is_number(text), "{text}");
        }
    }

    #[test]
    fn a_text_takes_the_type_that_is_there() {
        let text = |text: &str| FileValue::Text(text.to_owned());
        assert_eq!(typed(&text("27015"), There::Number).unwrap(), Scalar::Number("27015".into()));
        assert_eq!(typed(&text("True"), There::Truth).unwrap(), Scalar::Truth(true));
        assert_eq!(typed(&text("27015"), There::Text).unwrap(), Scalar::Text("27015".into()));
        assert_eq!(typed(&text("27015"), There::Nothing).unwrap(), Scalar::Text("27015".into()));
        assert_eq!(typed(&FileValue::Integer(1), There::Text).unwrap(), Scalar::Number("1".into()));
        assert!(typed(&text("many"), There::Number).is_err());
        assert!(typed(&text("yes"), There::Truth).is_err());
        assert!(typed(&FileValue::Truth(true), There::Table).is_err());
    }

    #[test]
    fn keys_have_parts() {
        assert_eq!(parts("a.0.b").unwrap(), ["a", "0", "b"]);
        for key in ["", ".", "a.", "a..b", "a\nb"] {
            assert!(parts(key).is_err(), "{key:?}");
        }
        assert_eq!((index("10"), index("x1"), index("99999999999999999999999")), (Some(10), None, None));
    }
}
