use proptest::prelude::*;

use super::*;

fn text(text: &str) -> FileValue {
    FileValue::Text(text.to_owned())
}

fn after(json: &str, key: &str, value: &FileValue) -> String {
    let mut json = json.to_owned();
    set(&mut json, key, value).unwrap();
    json
}

const FILE: &str = "\u{20}// top\n{\n\t\"name\": \"a\", /* n */\n\t\"port\" : 1.0, // p\n\t\"on\":false,\n\t\"nothing\": null,\n\t\"list\": [1, {\"x\": \"y\"}],\n\t\"sub\": {\n\t\t\"k\": 1 // last\n\t}, // end\n}\n";

#[test]
fn one_value_changes_and_all_else_stays() {
    assert_eq!(after(FILE, "name", &text("b\"\\\n\u{eb}")), FILE.replace("\"a\"", "\"b\\\"\\\\\\n\u{eb}\""));
    assert_eq!(after(FILE, "port", &text("2")), FILE.replace("1.0", "2"));
    assert_eq!(after(FILE, "port", &text("1.0")), FILE);
    assert_eq!(after(FILE, "on", &text("true")), FILE.replace("false", "true"));
    assert_eq!(after(FILE, "nothing", &text("1")), FILE.replace("null", "\"1\""));
    assert_eq!(after(FILE, "list.1.x", &text("z")), FILE.replace("\"y\"", "\"z\""));
    assert_eq!(after(FILE, "sub.k", &FileValue::Truth(true)), FILE.replace("\"k\": 1", "\"k\": true"));
    assert_eq!(after("{\"a\": \"\\u0061\"}", "a", &text("a")), "{\"a\": \"\\u0061\"}", "the same value in other letters");
}

#[test]
fn what_is_absent_is_added_as_the_file_is_written() {
    assert_eq!(after(FILE, "sub.m", &FileValue::Integer(2)), FILE.replace("\"k\": 1 // last\n", "\"k\": 1, // last\n\t\t\"m\": 2\n"));
    assert_eq!(after(FILE, "new", &text("x")), FILE.replace("// end\n", "// end\n\t\"new\": \"x\"\n"));
    assert_eq!(after(FILE, "list.2", &text("x")), FILE.replace("\"y\"}]", "\"y\"}, \"x\"]"));
    assert_eq!(after(FILE, "nothing.a.0", &text("x")), FILE.replace("null", "{\n\t\t\"a\": [\n\t\t\t\"x\"\n\t\t]\n\t}"));
    assert_eq!(after("", "a.0.b", &FileValue::Integer(1)), "{\n  \"a\": [\n    {\n      \"b\": 1\n    }\n  ]\n}\n");
    assert_eq!(after("{\"a\":1}", "b.c", &text("x")), "{\"a\":1,\"b\":{\"c\":\"x\"}}");
    assert_eq!(after("{\"a\": {}}\n", "a.c", &text("x")), "{\"a\": {\"c\": \"x\"}}\n");
    assert_eq!(after("{\r\n    \"a\": {}\r\n}", "a.c", &text("x")), "{\r\n    \"a\": {\r\n        \"c\": \"x\"\r\n    }\r\n}");
    assert_eq!(after("{ // c\n}", "a", &text("x")), "{ // c\n  \"a\": \"x\"\n}");
}

#[test]
fn what_can_not_be_is_refused() {
    let refused = |json: &str, key: &str, value: FileValue| {
        let mut new = json.to_owned();
        let cause = set(&mut new, key, &value).unwrap_err();
        assert_eq!(new, json);
        cause
    };
    for (json, line) in [
        ("{", 1),
        ("{\n\"a\" 1}", 2),
        ("{}\n\n{}", 3),
        ("{\"a\": 01}", 1),
        ("[1 2]", 1),
        ("{\"a\": \"\n\"}", 2),
        ("/*", 1),
        ("{\"a\":'b'}", 1),
    ] {
        let cause = refused(json, "x", text("1"));
        assert!(matches!(cause, Cause::Syntax { line: at, .. } if at == line), "{json}: {cause}");
    }
    assert!(matches!(refused(&"[".repeat(100_000), "x", text("1")), Cause::Syntax { .. }));
    assert!(matches!(refused(FILE, "name.x", text("1")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "list.7", text("1")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "list.x", text("1")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "new.1", text("1")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "sub", text("1")), Cause::Type { .. }));
    assert!(matches!(refused(FILE, "port", text("x")), Cause::Type { .. }));
}

/// A tree, and the same with one key set, as serde_json would have it.
fn with(tree: &serde_json::Value, parts: &[&str], value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    let [part, below @ ..] = parts else { return value.clone() };
    match tree {
        Value::Object(map) => {
            let mut map = map.clone();
            let new = with(map.get(*part).unwrap_or(&Value::Null), below, value);
            map.insert((*part).to_owned(), new);
            Value::Object(map)
        }
        Value::Array(list) => {
            let (mut list, index) = (list.clone(), tree::index(part).unwrap());
            let new = with(list.get(index).unwrap_or(&Value::Null), below, value);
            if index < list.len() {
                list[index] = new
            } else {
                list.push(new)
            }
            Value::Array(list)
        }
        _ if tree::index(part).is_some() => Value::Array(vec![with(&Value::Null, below, value)]),
        _ => with(&Value::Object(serde_json::Map::new()), parts, value),
    }
}

fn trees() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        "\\PC{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Into::into),
            prop::collection::btree_map("[ab01]", inner, 0..4).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_comes_back_and_the_rest_is_kept(tree in trees(), key in "[ab01](\\.[ab01]){0,2}", value in "\\PC{0,8}|true|12", pretty: bool) {
        let before = if pretty { serde_json::to_string_pretty(&tree).unwrap() } else { tree.to_string() };
        let mut json = before.clone();
        let parts = tree::parts(&key).unwrap();
        let Ok(()) = set(&mut json, &key, &text(&value)) else {
            prop_assert_eq!(json, before);
            return Ok(());
        };
        let now: serde_json::Value = serde_json::from_str(&json).unwrap();
        let place = parts.iter().try_fold(&now, |now, part| now.get(part).or_else(|| now.get(tree::index(part)?))).unwrap().clone();
        let printed = place.to_string();
        prop_assert!(place == value.as_str() || printed == value.trim() || place.is_boolean());
        prop_assert_eq!(&now, &with(&tree, &parts, &place));
        let once = json.clone();
        set(&mut json, &key, &text(&value)).unwrap();
        prop_assert_eq!(json, once);
    }

    #[test]
    fn nothing_panics(json in "([\\[\\]{}:,\"\\\\/* \n0-9a\u{e4}-]|true|null|\"a\"|//){0,40}", key in "[a0.]{1,5}", value in "\\PC{0,4}") {
        let mut new = json.clone();
        if set(&mut new, &key, &text(&value)).is_err() && !json.trim().is_empty() {
            prop_assert_eq!(new, json);
        }
    }
}
