use proptest::prelude::*;

use super::*;

fn text(text: &str) -> FileValue {
    FileValue::Text(text.to_owned())
}

fn after(toml: &str, key: &str, value: &FileValue) -> String {
    let mut toml = toml.to_owned();
    set(&mut toml, key, value).unwrap();
    toml
}

const FILE: &str = "# top\nname = 'a' # n\nport=1\nscale = 1.0\non = true\nlist = [ 1, { x = \"y\" } ] # l\nday = 2026-01-01\n\n[sub] # s\nk = \"v\"\n\n[[many]]\na = 1\n\n# end\n";

#[test]
fn one_value_changes_and_all_else_stays() {
    assert_eq!(after(FILE, "name", &text("b\"\n")), FILE.replace("'a'", &written("b\"\n")));
    assert_eq!(after(FILE, "name", &text("a")), FILE);
    assert_eq!(after(FILE, "port", &text("2")), FILE.replace("port=1", "port=2"));
    assert_eq!(after(FILE, "scale", &text("2")), FILE.replace("1.0", "2.0"));
    assert_eq!(after(FILE, "scale", &text("1")), FILE);
    assert_eq!(after(FILE, "on", &text("False")), FILE.replace("true", "false"));
    assert_eq!(after(FILE, "list.1.x", &text("z")), FILE.replace("\"y\"", "\"z\""));
    assert_eq!(after(FILE, "sub.k", &text("w")), FILE.replace("\"v\"", "\"w\""));
    assert_eq!(after(FILE, "many.0.a", &text("2")), FILE.replace("a = 1", "a = 2"));
    let crlf = FILE.replace('\n', "\r\n");
    assert_eq!(after(&crlf, "port", &text("2")), crlf.replace("port=1", "port=2"));
}

fn written(text: &str) -> String {
    Value::from(text).to_string()
}

#[test]
fn what_is_absent_is_added() {
    assert_eq!(after(FILE, "sub.m", &FileValue::Integer(2)), FILE.replace("k = \"v\"\n", "k = \"v\"\nm = 2\n"));
    assert_eq!(after("", "a.b.c", &text("x")), "[a.b]\nc = \"x\"\n");
    assert_eq!(after("", "a.0.b", &text("x")), "a = [{ b = \"x\" }]\n");
    assert_eq!(after("a = 1", "b", &FileValue::Truth(true)), "a = 1\nb = true\n");
    let new = after(FILE, "many.1.a", &text("x"));
    assert!(new.starts_with(FILE.strip_suffix("\n# end\n").unwrap()) && new.contains("[[many]]\na = \"x\"\n"), "{new}");
}

#[test]
fn what_can_not_be_is_refused() {
    let refused = |toml: &str, key: &str, value: FileValue| {
        let mut new = toml.to_owned();
        let cause = set(&mut new, key, &value).unwrap_err();
        assert_eq!(new, toml);
        cause
    };
    assert!(matches!(refused("a = 1\nb = \n", "x", text("1")), Cause::Syntax { line: 2, .. }));
    assert!(matches!(refused(&format!("a = {}", "[".repeat(50_000)), "x", text("1")), Cause::Syntax { .. }));
    for hostile in [format!("{}a = 1", "a.".repeat(50_000)), format!("[{}a]", "a.".repeat(50_000)), format!("a = {}", "{a=".repeat(50_000))]
    {
        assert!(matches!(refused(&hostile, "x", text("1")), Cause::Syntax { .. }));
    }
    assert!(matches!(refused(FILE, "port.x", text("1")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "list.9", text("1")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "list.x", text("1")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "new.3", text("1")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "sub", text("1")), Cause::Type { .. }));
    assert!(matches!(refused(FILE, "day", text("1")), Cause::Type { .. }));
    assert!(matches!(refused(FILE, "port", text("99999999999999999999")), Cause::Value(_)));
}

proptest! {
    #[test]
    fn a_value_comes_back_and_the_rest_is_kept(
        toml in "(# c\n|\n){0,2}(a = 1\n)?(b = 'x' # c\n)?(c = \\[1, 2\\]\n)?(\\[t\\] # t\n(a = true\n)?)?(\\[\\[m\\]\\]\nq = 1\n# d\n)?",
        key in "[abc]|t\\.[ab]|m\\.[01]\\.q|c\\.[0-2]|n\\.a\\.0", value in "\\PC{0,8}|5|true"
    ) {
        let mut new = toml.clone();
        let Ok(()) = set(&mut new, &key, &text(&value)) else {
            prop_assert_eq!(new, toml);
            return Ok(());
        };
        let read = |toml: &str| {
            let document: DocumentMut = toml.parse().unwrap();
            key.split('.').try_fold(document.as_item(), |item, part| item.get(part).or_else(|| item.get(tree::index(part)?))).map(|item| match item.as_str() {
                Some(text) => text.to_owned(),
                None => item.to_string().trim().to_owned(),
            })
        };
        prop_assert_eq!(read(&new).unwrap(), if read(&toml).is_some_and(|old| old != "x") { value.trim() } else { value.as_str() });
        for line in toml.lines().filter(|line| line.starts_with('#') || line.is_empty()) {
            prop_assert!(new.lines().any(|new| new == line));
        }
        let once = new.clone();
        set(&mut new, &key, &text(&value)).unwrap();
        prop_assert_eq!(new, once);
    }

    #[test]
    fn nothing_panics(toml in "(\\[|\\]|\\{|\\}|a|b|=|\"|'|,|\\.|1|#|\n|\r\n| |\u{e4}|true){0,30}", key in "[ab0.]{1,5}", value in "\\PC{0,4}") {
        let mut new = toml.clone();
        if set(&mut new, &key, &text(&value)).is_err() {
            prop_assert_eq!(new, toml);
        }
    }
}
