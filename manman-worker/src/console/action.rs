//! A game's prepared commands: typed inputs, checked and put into a line.

use std::collections::BTreeMap;

use manman_common::message::forbidden_character;
use manman_common::spec::{ActionSpec, InputKind, InputSpec};
use manman_common::{Kind, Problem, ServerSpec};
use regex::RegexBuilder;
use serde_json::Value;

/// Size of a compiled pattern.
const PATTERN_SIZE: usize = 1 << 20;

/// Longest value where the action names no limit.
const TEXT_MAX: i64 = 1000;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) line: String,
    /// The line with secret inputs left out.
    pub(super) shown: String,
}

pub(super) fn render(spec: &ServerSpec, name: &str, given: &BTreeMap<String, Value>) -> Result<Rendered, Problem> {
    let Some(action) = spec.run.actions.get(name) else {
        let known: Vec<_> = spec.run.actions.keys().map(String::as_str).collect();
        let problem = Problem::invalid("action", format!("this game has no action `{name}`"));
        return Err(if known.is_empty() { problem } else { problem.hint(format!("there are {}", known.join(", "))) });
    };
    if action.disabled {
        return Err(Problem::new(Kind::Conflict, format!("the action `{name}` is disabled")));
    }
    let values = checked(name, action, given)?;
    let secret = |input: &str| action.inputs.get(input).is_some_and(|spec| spec.secret);
    let line = fill(name, &action.console, |input| values.get(input).map(String::as_str))?;
    let shown = fill(name, &action.console, |input| {
        values.get(input).map(|value| if secret(input) && !value.is_empty() { "***" } else { value.as_str() })
    })?;
    Ok(Rendered { line, shown })
}

/// The value of each input of an action, or what is wrong with one of them.
pub(crate) fn checked(name: &str, action: &ActionSpec, given: &BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, Problem> {
    if let Some(stranger) = given.keys().find(|input| !action.inputs.contains_key(*input)) {
        return Err(Problem::invalid(format!("inputs.{stranger}"), format!("the action `{name}` has no such input")));
    }
    action.inputs.iter().map(|(input, spec)| Ok((input.clone(), check(input, spec, given.get(input))?))).collect()
}

/// Puts values in place of `{{inputs.NAME}}`; a value is never looked at for further ones.
fn fill<'a>(action: &str, template: &str, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, Problem> {
    let mut line = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        line.push_str(before);
        let found = after.split_once("}}").and_then(|(name, after)| Some((value(name.trim().strip_prefix("inputs.")?)?, after)));
        let Some((value, after)) = found else {
            return Err(Problem::new(
                Kind::Conflict,
                format!("the action `{action}` is broken: its line asks for an input that it does not have"),
            ));
        };
        line.push_str(value);
        rest = after;
    }
    line.push_str(rest);
    Ok(line)
}

fn check(name: &str, spec: &InputSpec, given: Option<&Value>) -> Result<String, Problem> {
    let wrong = |why: String| Problem::invalid(format!("inputs.{name}"), why);
    let value = match given {
        None | Some(Value::Null) => spec.default.clone(),
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Bool(truth)) => Some(truth.to_string()),
        Some(Value::Array(_) | Value::Object(_)) => return Err(wrong("it has to be a text, a number or a truth value".to_owned())),
    };
    let value = value.unwrap_or_default();
    if value.is_empty() {
        return if spec.required { Err(wrong("it is required".to_owned())) } else { Ok(value) };
    }
    if let Some(character) = forbidden_character(&value) {
        return Err(wrong(format!("it has the control character U+{:04X}", u32::from(character))));
    }
    match spec.kind {
        InputKind::Text => {
            let length = i64::try_from(value.chars().count()).unwrap_or(i64::MAX);
            let (least, most) = (spec.min.unwrap_or(0), spec.max.unwrap_or(TEXT_MAX));
            if length < least || length > most {
                return Err(wrong(format!("it has {length} characters and has to have {least} to {most}")));
            }
        }
        InputKind::Integer => {
            let number: i64 = value.parse().map_err(|_| wrong(format!("`{value}` is not a whole number")))?;
            if spec.min.is_some_and(|min| number < min) || spec.max.is_some_and(|max| number > max) {
                let bound = |bound: Option<i64>, none: &str| bound.map_or_else(|| none.to_owned(), |bound| bound.to_string());
                return Err(wrong(format!("{number} is not within {} to {}", bound(spec.min, "anything"), bound(spec.max, "anything"))));
            }
        }
        InputKind::Boolean => {
            if value != "true" && value != "false" {
                return Err(wrong(format!("`{value}` is neither `true` nor `false`")));
            }
        }
    }
    if !spec.options.is_empty() && !spec.options.contains(&value) {
        let options: Vec<_> = spec.options.iter().map(String::as_str).collect();
        return Err(wrong(format!("it has to be one of {}", options.join(", "))));
    }
    if let Some(pattern) = &spec.pattern {
        // The whole text, and in linear time, whatever the pattern and the text.
        let whole = RegexBuilder::new(&format!(r"\A(?:{pattern})\z")).size_limit(PATTERN_SIZE).build();
        let whole = whole
            .map_err(|_| Problem::new(Kind::Conflict, format!("the input `{name}` is broken: its pattern is no regular expression")))?;
        if !whole.is_match(&value) {
            return Err(wrong(format!("it does not match `{pattern}`")));
        }
    }
    Ok(value)
}
