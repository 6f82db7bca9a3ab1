//! A person's values against what a definition says of them. Each refusal names its field.

use std::collections::BTreeMap;

use manman_common::Problem;
use manman_common::spec::{InputKind, InputSpec};
use regex::Regex;

/// Longest value of a variable, in bytes; an argument of a program may be 128 KiB.
pub const VALUE_MAX: usize = 8 * 1024;

/// The value that each variable has: the given one, else the default (already filled in).
pub fn resolve(
    specs: &BTreeMap<String, InputSpec>,
    given: &BTreeMap<String, String>,
    defaults: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problem> {
    if let Some(stranger) = given.keys().find(|name| !specs.contains_key(*name)) {
        let known: Vec<&str> = specs.keys().map(String::as_str).collect();
        let hint = if known.is_empty() { "it has none".to_owned() } else { format!("there are {}", known.join(", ")) };
        return Err(Problem::invalid(format!("variables.{stranger}"), "the game has no such variable").hint(hint));
    }
    specs
        .iter()
        .map(|(name, spec)| {
            let field = format!("variables.{name}");
            let value = given.get(name).or_else(|| defaults.get(name)).map_or("", String::as_str);
            check(spec, value).map(|value| (name.clone(), value)).map_err(|why| Problem::invalid(field, why))
        })
        .collect()
}

/// The value in the form that the game gets, or what is wrong with it.
pub fn check(spec: &InputSpec, value: &str) -> Result<String, String> {
    if value.is_empty() {
        if spec.required {
            return Err("a value is needed".to_owned());
        }
        // Empty is "not set", unless the definition asks for some length.
        if spec.kind != InputKind::Text || spec.min.is_none_or(|min| min <= 0) {
            return Ok(String::new());
        }
    }
    if value.len() > VALUE_MAX {
        return Err(format!("the value is longer than {VALUE_MAX} bytes"));
    }
    // The value is not repeated in what is wrong with it: it may be a secret.
    if value.chars().any(char::is_control) {
        return Err("the value has a control character, such as a line break".to_owned());
    }
    match spec.kind {
        InputKind::Text => check_text(spec, value).map(|()| value.to_owned()),
        InputKind::Integer => check_integer(spec, value).map(|number| number.to_string()),
        InputKind::Boolean => match value {
            "true" | "1" | "yes" | "on" => Ok("true".to_owned()),
            "false" | "0" | "no" | "off" => Ok("false".to_owned()),
            _ => Err("the value is neither `true` nor `false`".to_owned()),
        },
    }
}

fn check_text(spec: &InputSpec, value: &str) -> Result<(), String> {
    let length = i64::try_from(value.chars().count()).unwrap_or(i64::MAX);
    if spec.min.is_some_and(|min| length < min) {
        return Err(format!("the value has {length} characters, and at least {} are needed", spec.min.unwrap_or_default()));
    }
    if spec.max.is_some_and(|max| length > max) {
        return Err(format!("the value has {length} characters, and at most {} may be", spec.max.unwrap_or_default()));
    }
    check_options(spec, value)?;
    match &spec.pattern {
        Some(pattern) => match whole(pattern) {
            Ok(regex) if regex.is_match(value) => Ok(()),
            Ok(_) => Err(format!("the value does not match `{pattern}`")),
            Err(_) => Err(format!("the definition's pattern `{pattern}` is not a regular expression")),
        },
        None => Ok(()),
    }
}

fn check_integer(spec: &InputSpec, value: &str) -> Result<i64, String> {
    let number: i64 = value.trim().parse().map_err(|_| "the value is not a whole number".to_owned())?;
    if spec.min.is_some_and(|min| number < min) || spec.max.is_some_and(|max| number > max) {
        let range = match (spec.min, spec.max) {
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!("{min} and above"),
            (None, Some(max)) => format!("up to {max}"),
            (None, None) => "any".to_owned(),
        };
        return Err(format!("{number} is out of range: {range}"));
    }
    check_options(spec, &number.to_string())?;
    Ok(number)
}

fn check_options(spec: &InputSpec, value: &str) -> Result<(), String> {
    if spec.options.is_empty() || spec.options.contains(value) {
        return Ok(());
    }
    let options: Vec<&str> = spec.options.iter().map(String::as_str).collect();
    Err(format!("the value is none of {}", options.join(", ")))
}

/// The whole text must match, in linear time and bounded memory.
pub fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: InputKind) -> InputSpec {
        InputSpec { kind, ..InputSpec::default() }
    }

    #[test]
    fn each_refusal_says_what_would_be_right() {
        let integer = InputSpec { min: Some(1), max: Some(64), ..spec(InputKind::Integer) };
        assert_eq!(check(&integer, "08"), Ok("8".to_owned()));
        assert_eq!(check(&integer, "65"), Err("65 is out of range: 1 to 64".to_owned()));
        assert!(check(&integer, "many").is_err());
        assert_eq!(check(&spec(InputKind::Boolean), "on"), Ok("true".to_owned()));
        assert!(check(&spec(InputKind::Boolean), "maybe").is_err());

        let text = InputSpec { pattern: Some("[a-z]+|x y".to_owned()), max: Some(5), ..spec(InputKind::Text) };
        assert_eq!(check(&text, "abc"), Ok("abc".to_owned()));
        assert!(check(&text, "abc1").is_err(), "the whole text must match");
        assert!(check(&text, "abcdef").is_err());
        assert_eq!(check(&text, ""), Ok(String::new()));
        assert!(check(&InputSpec { required: true, ..text }, "").is_err());
        assert!(check(&spec(InputKind::Text), "a\nb").is_err());
    }

    #[test]
    fn a_stranger_is_named_with_those_that_are_known() {
        let specs = BTreeMap::from([("MAP".to_owned(), spec(InputKind::Text))]);
        let given = BTreeMap::from([("MAPP".to_owned(), "x".to_owned())]);
        let problem = resolve(&specs, &given, &BTreeMap::new()).expect_err("unknown variable");
        assert_eq!(problem.field.as_deref(), Some("variables.MAPP"));
        assert_eq!(problem.hint.as_deref(), Some("there are MAP"));
    }
}
