//! What OpenAPI says in its own way, said as JSON Schema 2020-12.

use serde_json::{Map, Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// Values, not schemas: nothing in them is read.
const DATA: [&str; 5] = ["example", "examples", "default", "enum", "const"];

pub(super) fn modernize(value: &Value, old: bool, direction: Direction) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| modernize(item, old, direction)).collect(),
        Value::Object(map) => object(map, old, direction),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn object(map: &Map<String, Value>, old: bool, direction: Direction) -> Value {
    // In 3.0 a reference stands alone, whatever is written beside it.
    if let (true, Some(Value::String(reference))) = (old, map.get("$ref")) {
        return json!({ "$ref": reference });
    }
    let mut new: Map<String, Value> = map
        .iter()
        .map(|(key, value)| {
            let data = DATA.contains(&key.as_str()) || key.starts_with("x-");
            (key.clone(), if data { value.clone() } else { modernize(value, old, direction) })
        })
        .collect();
    hidden(&mut new, direction);
    if !old {
        return Value::Object(new);
    }
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if let Some(exclusive) = new.get(flag).and_then(Value::as_bool) {
            new.remove(flag);
            if let Some(bound) = if exclusive { new.remove(bound) } else { None } {
                new.insert(flag.to_owned(), bound);
            }
        }
    }
    match new.get("nullable") {
        Some(Value::Bool(nullable)) => {
            let nullable = *nullable;
            new.remove("nullable");
            if nullable { or_null(new) } else { Value::Object(new) }
        }
        _ => Value::Object(new),
    }
}

/// A schema of 3.0 that takes null, too. Without a type, `nullable` has no meaning there.
fn or_null(mut schema: Map<String, Value>) -> Value {
    match schema.get("type") {
        Some(Value::String(kind)) => {
            let kinds = json!([kind, "null"]);
            schema.insert("type".to_owned(), kinds);
            if let Some(Value::Array(values)) = schema.get_mut("enum")
                && !values.contains(&Value::Null)
            {
                values.push(Value::Null);
            }
            Value::Object(schema)
        }
        _ if schema.contains_key("allOf") || schema.contains_key("oneOf") || schema.contains_key("anyOf") => {
            json!({ "anyOf": [schema, { "type": "null" }] })
        }
        _ => Value::Object(schema),
    }
}

/// Takes from `required` what this direction does not carry.
fn hidden(schema: &mut Map<String, Value>, direction: Direction) {
    let flag = match direction {
        Direction::Request => "readOnly",
        Direction::Response => "writeOnly",
    };
    let Some(Value::Object(properties)) = schema.get("properties") else { return };
    let is_hidden = |name: &Value| {
        let property = name.as_str().and_then(|name| properties.get(name));
        property.is_some_and(|property| property.get(flag) == Some(&Value::Bool(true)))
    };
    let Some(Value::Array(required)) = schema.get("required") else { return };
    let kept: Vec<Value> = required.iter().filter(|name| !is_hidden(name)).cloned().collect();
    schema.insert("required".to_owned(), Value::Array(kept));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_3_0_says_is_said_as_3_1_does() {
        let old = json!({
            "properties": {
                "a": { "type": "string", "nullable": true, "enum": ["x"] },
                "b": { "type": "integer", "minimum": 3, "exclusiveMinimum": true, "maximum": 9, "exclusiveMaximum": false },
                "c": { "$ref": "#/x", "nullable": true },
                "d": { "nullable": true, "allOf": [{ "$ref": "#/x" }] },
                "nullable": { "type": "string", "readOnly": true },
            },
            "required": ["a", "nullable"],
            "example": { "nullable": true, "type": "x" },
        });
        let new = modernize(&old, true, Direction::Request);
        assert_eq!(new["properties"]["a"], json!({ "type": ["string", "null"], "enum": ["x", null] }));
        assert_eq!(new["properties"]["b"], json!({ "type": "integer", "exclusiveMinimum": 3, "maximum": 9 }));
        assert_eq!(new["properties"]["c"], json!({ "$ref": "#/x" }));
        assert_eq!(new["properties"]["d"], json!({ "anyOf": [{ "allOf": [{ "$ref": "#/x" }] }, { "type": "null" }] }));
        assert_eq!(new["required"], json!(["a"]));
        assert_eq!(new["example"], old["example"]);
        assert_eq!(modernize(&old, true, Direction::Response)["required"], json!(["a", "nullable"]));
    }
}
