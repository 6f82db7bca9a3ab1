//! A person's values against what a definition says of them. Each refusal names its field.

use std::collections::BTreeMap;

use manman_common::Problem;
use manman_common::spec::{InputKind, InputSpec};
use regex::Regex;

use super::template::{TemplateError, Word, Words, expand, words};

/// Longest value of a variable, in bytes; an argument of a program may be 128 KiB.
pub const VALUE_MAX: usize = 8 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// The refusal is the caller's to read.
    #[error("{0}")]
    Value(Box<Problem>),
    #[error("the variables {} name each other in a circle", .0.join(", "))]
    Circle(Vec<String>),
    #[error("the default of `{name}`: {why}")]
    Default { name: String, why: TemplateError },
}

/// The variables in an order in which each one's default finds those that it names, or a circle.
pub fn order(specs: &BTreeMap<String, InputSpec>) -> Result<Vec<&str>, Vec<String>> {
    let mut done = Vec::with_capacity(specs.len());
    for name in specs.keys() {
        visit(specs, name, &mut Vec::new(), &mut done)?;
    }
    Ok(done)
}

fn visit<'a>(
    specs: &'a BTreeMap<String, InputSpec>,
    name: &'a str,
    way: &mut Vec<&'a str>,
    done: &mut Vec<&'a str>,
) -> Result<(), Vec<String>> {
    if done.contains(&name) {
        return Ok(());
    }
    if let Some(begin) = way.iter().position(|other| *other == name) {
        return Err(way[begin..].iter().map(|name| (*name).to_owned()).collect());
    }
    way.push(name);
    for other in named_in_default(specs, name) {
        visit(specs, other, way, done)?;
    }
    way.pop();
    done.push(name);
    Ok(())
}

fn named_in_default<'a>(specs: &'a BTreeMap<String, InputSpec>, name: &str) -> Vec<&'a str> {
    let default = specs.get(name).and_then(|spec| spec.default.as_deref()).unwrap_or_default();
    let named = words(default).unwrap_or_default().into_iter().filter_map(|word| match word {
        Word::Variable(other) => specs.get_key_value(other).map(|(other, _)| other.as_str()),
        Word::Port(_) | Word::ServerName | Word::ServerId | Word::ServerIp | Word::Memory => None,
    });
    named.collect()
}

/// The value that each variable has: the given one, else its default, filled in once.
pub fn resolve(
    specs: &BTreeMap<String, InputSpec>,
    given: &BTreeMap<String, String>,
    words: &Words<'_>,
) -> Result<BTreeMap<String, String>, VariableError> {
    let refuse = |problem: Problem| VariableError::Value(Box::new(problem));
    if let Some(stranger) = given.keys().find(|name| !specs.contains_key(*name)) {
        let known: Vec<&str> = specs.keys().map(String::as_str).collect();
        let hint = if known.is_empty() { "it has none".to_owned() } else { format!("there are {}", known.join(", ")) };
        return Err(refuse(Problem::invalid(format!("variables.{stranger}"), "the game has no such variable").hint(hint)));
    }
    let mut values = BTreeMap::new();
    for name in order(specs).map_err(VariableError::Circle)? {
        let Some(spec) = specs.get(name) else { continue };
        let value = match (given.get(name), &spec.default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => expand(default, &Words { variables: &values, ..*words })
                .map_err(|why| VariableError::Default { name: name.to_owned(), why })?,
            (None, None) => String::new(),
        };
        let value = check(spec, &value).map_err(|why| refuse(Problem::invalid(format!("variables.{name}"), why)))?;
        values.insert(name.to_owned(), value);
    }
    Ok(values)
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
        // What a secret number was is nobody's to read in an error.
        let said = if spec.secret { "the value".to_owned() } else { number.to_string() };
        return Err(format!("{said} is out of range: {range}"));
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

    static NONE: BTreeMap<String, String> = BTreeMap::new();
    static NO_PORTS: BTreeMap<String, u16> = BTreeMap::new();
    const NOTHING: Words<'static> =
        Words { variables: &NONE, ports: &NO_PORTS, server_name: "oa", server_id: "1", server_ip: "10.0.0.2", memory_mib: None };

    fn named(defaults: &[(&str, &str)]) -> BTreeMap<String, InputSpec> {
        let spec = |default: &str| InputSpec { default: Some(default.to_owned()), ..InputSpec::default() };
        defaults.iter().map(|(name, default)| ((*name).to_owned(), spec(default))).collect()
    }

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
        let Err(VariableError::Value(problem)) = resolve(&specs, &given, &NOTHING) else { panic!("an unknown variable") };
        assert_eq!(problem.field.as_deref(), Some("variables.MAPP"));
        assert_eq!(problem.hint.as_deref(), Some("there are MAP"));
    }

    #[test]
    fn a_default_may_name_another_variable() {
        let specs = named(&[("A", "<{{B}}>"), ("B", "{{C}}{{server.name}}"), ("C", "c")]);
        let given = BTreeMap::from([("C".to_owned(), "{{config.token}}{{A}}".to_owned())]);
        let values = resolve(&specs, &given, &NOTHING).expect("values");
        // What came from a person is never read as a template, on however many ways it comes.
        assert_eq!(values["A"], "<{{config.token}}{{A}}oa>");
        assert_eq!(resolve(&specs, &NONE, &NOTHING).expect("values")["A"], "<coa>");
    }

    #[test]
    fn a_circle_is_named() {
        let specs = named(&[("A", "{{B}}"), ("B", "{{variables.C}}"), ("C", "{{B}}")]);
        assert_eq!(order(&specs), Err(vec!["B".to_owned(), "C".to_owned()]));
        assert_eq!(resolve(&specs, &NONE, &NOTHING), Err(VariableError::Circle(vec!["B".to_owned(), "C".to_owned()])));
        assert_eq!(order(&named(&[("A", "{{A}}")])), Err(vec!["A".to_owned()]));
    }

    #[test]
    fn a_secret_number_is_not_repeated() {
        let secret = InputSpec { secret: true, max: Some(9), ..spec(InputKind::Integer) };
        assert_eq!(check(&secret, "4711"), Err("the value is out of range: up to 9".to_owned()));
    }
}
