//! Parameters: text that means a number, a list or an object, as its schema says.

use serde_json::{Map, Number, Value};

/// What a schema lets its values be. Empty: it does not say.
pub(super) fn types(document: &Value, schema: &Value, depth: u32) -> Vec<String> {
    if depth > 16 {
        return Vec::new();
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|reference| document.pointer(reference.strip_prefix('#')?)) {
        return types(document, target, depth + 1);
    }
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind.clone()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(|kind| kind.as_str().map(str::to_owned)).collect(),
        _ => {
            let parts = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array()).flatten();
            parts.flat_map(|part| types(document, part, depth + 1)).collect()
        }
    }
}

/// The schema of a list's items, for their types.
pub(super) fn items<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let schema = follow(document, schema);
    schema.get("items").unwrap_or(&Value::Null)
}

pub(super) fn property<'a>(document: &'a Value, schema: &'a Value, name: &str) -> &'a Value {
    let schema = follow(document, schema);
    schema.get("properties").and_then(|properties| properties.get(name)).unwrap_or(&Value::Null)
}

fn follow<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..16 {
        match schema.get("$ref").and_then(Value::as_str).and_then(|reference| document.pointer(reference.strip_prefix('#')?)) {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// One text as the first of the types that it can be; a text if none.
pub(super) fn scalar(text: &str, types: &[String]) -> Value {
    let is = |kind: &str| types.iter().any(|other| other == kind);
    if (is("integer") || is("number"))
        && let Some(number) = number(text)
    {
        return number;
    }
    match text {
        "true" | "false" if is("boolean") => Value::Bool(text == "true"),
        "" | "null" if is("null") && !is("string") => Value::Null,
        _ => Value::String(text.to_owned()),
    }
}

fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    // Rust reads "inf" and "+1", too, which are no numbers of JSON.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"-.eE+".contains(&byte)) && !text.starts_with('+');
    text.parse::<f64>().ok().filter(|_| is_plain).and_then(Number::from_f64).map(Value::Number)
}

/// A value of several texts.
pub(super) fn list(document: &Value, schema: &Value, texts: impl Iterator<Item = String>) -> Value {
    let kinds = types(document, items(document, schema), 0);
    texts.map(|text| scalar(&text, &kinds)).collect()
}

pub(super) fn record(document: &Value, schema: &Value, pairs: impl Iterator<Item = (String, String)>) -> Value {
    let mut map = Map::new();
    for (name, text) in pairs {
        let inner = property(document, schema, &name);
        let kinds = types(document, inner, 0);
        if kinds.iter().any(|kind| kind == "array") {
            let kinds = types(document, items(document, inner), 0);
            match map.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(list) => list.push(scalar(&text, &kinds)),
                other => *other = scalar(&text, &kinds),
            }
        } else {
            map.insert(name, scalar(&text, &kinds));
        }
    }
    Value::Object(map)
}

/// `a=b&c` as a form and a query write it.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').map_or_else(|| (decode(pair), String::new()), |(name, value)| (decode(name), decode(value))))
        .collect()
}
