use proptest::prelude::*;

use super::*;

fn text(text: &str) -> FileValue {
    FileValue::Text(text.to_owned())
}

fn after(yaml: &str, key: &str, value: &FileValue) -> String {
    let mut yaml = yaml.to_owned();
    set(&mut yaml, key, value).unwrap();
    yaml
}

const FILE: &str = "# top\nmotd: \"A server\"  # m\nname: 'it''s'\nport:   25565\nonline-mode: yes # o\nempty:\nnothing: ~ # z\nmap: {a: 1, b: [x, y]}\nlistener:\n- host: 0.0.0.0:25577 # h\n  max: 1\n\n  # inner\n  tab: GLOBAL\n# about groups\ngroups:\n    md_5:\n        - admin\ntext: |\n    a\n    b\nlast: plain\n";

#[test]
fn one_value_changes_and_all_else_stays() {
    assert_eq!(after(FILE, "motd", &text("b \"c\" #\u{2028}")), FILE.replace("\"A server\"", "\"b \\\"c\\\" #\\u2028\""));
    assert_eq!(after(FILE, "name", &text("it's")), FILE);
    assert_eq!(after(FILE, "name", &text("o'x: #")), FILE.replace("'it''s'", "'o''x: #'"));
    assert_eq!(after(FILE, "port", &text("1")), FILE.replace("25565", "1"));
    assert_eq!(after(FILE, "online-mode", &text("true")), FILE);
    assert_eq!(after(FILE, "online-mode", &text("false")), FILE.replace("yes", "false"));
    assert_eq!(after(FILE, "empty", &text("x")), FILE.replace("empty:", "empty: x"));
    assert_eq!(after(FILE, "nothing", &text("no")), FILE.replace('~', "\"no\""));
    assert_eq!(after(FILE, "map.b.1", &text("a b")), FILE.replace("y]", "\"a b\"]"));
    assert_eq!(after(FILE, "listener.0.host", &text("a:1")), FILE.replace("0.0.0.0:25577", "\"a:1\""));
    assert_eq!(after(FILE, "groups.md_5.0", &text("mod")), FILE.replace("- admin", "- mod"));
    assert_eq!(after(FILE, "last", &text("word")), FILE.replace("plain", "word"));
    assert_eq!(after(FILE, "last", &text("12")), FILE.replace("plain", "\"12\""), "a text stays one");
}

#[test]
fn what_is_absent_is_added_as_the_file_is_written() {
    assert_eq!(after(FILE, "listener.0.new", &text("x")), FILE.replace("tab: GLOBAL\n", "tab: GLOBAL\n  new: x\n"));
    assert_eq!(after(FILE, "listener.1.host", &text("x")), FILE.replace("tab: GLOBAL\n", "tab: GLOBAL\n- host: x\n"));
    assert_eq!(after(FILE, "groups.other.0", &text("x")), FILE.replace("- admin\n", "- admin\n    other:\n      - x\n"));
    assert_eq!(after(FILE, "map.c.d", &text("x")), FILE.replace("y]}", "y], c: {d: x}}"));
    assert_eq!(after(FILE, "empty.a", &FileValue::Integer(1)), FILE.replace("empty:", "empty: {a: 1}"));
    assert_eq!(after(FILE, "new.0.a", &text("x")), format!("{FILE}new:\n  - a: x\n"));
    assert_eq!(after("# c\n", "a.b", &FileValue::Truth(true)), "# c\na:\n  b: true\n");
    assert_eq!(after("a: 1\r\n", "b", &text("x")), "a: 1\r\nb: x\r\n");
    assert_eq!(after("a: |\n  x", "b", &text("x")), "a: |\n  x\nb: x\n");
    assert_eq!(after("---\na: 1\n...\n", "b", &text("x")), "---\na: 1\nb: x\n...\n");
    assert_eq!(after("{}", "b", &text("x")), "{b: x}");
}

#[test]
fn what_can_not_be_is_refused() {
    let refused = |yaml: &str, key: &str, value: FileValue| {
        let mut new = yaml.to_owned();
        let cause = set(&mut new, key, &value).unwrap_err();
        assert_eq!(new, yaml);
        cause
    };
    assert!(matches!(refused("a: [\n", "x", text("1")), Cause::Syntax { .. }));
    assert!(matches!(refused("a: 1\n---\nb: 1\n", "x", text("1")), Cause::Syntax { .. }));
    assert!(matches!(refused(&"[".repeat(100_000), "x", text("1")), Cause::Syntax { .. }));
    assert!(matches!(refused(&"- ".repeat(100_000), "x", text("1")), Cause::Syntax { .. }));
    assert!(matches!(refused("a: &x 1\nb: *x\n", "a", text("2")), Cause::Way(_)));
    assert!(matches!(refused("a: &x {k: 1}\nb: *x\n", "b.k", text("2")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "port.x", text("1")), Cause::Way(_)));
    assert!(matches!(refused(FILE, "map", text("1")), Cause::Type { .. }));
    assert!(matches!(refused(FILE, "port", text("many")), Cause::Type { .. }));
    assert!(matches!(refused(FILE, "map.b.9", text("1")), Cause::Way(_)));
}

proptest! {
    #[test]
    fn a_value_comes_back_and_the_rest_is_kept(
        yaml in "(# c\n|\n){0,2}(a: (1|x y|'q'|\"d\"|yes|~|) ?(# k)?\n)?(b:\n  (a: 1\n  # i\n  b: (\\[1, z\\]|\\{a: 2\\}|\\|\n    t\n)|- a: 1\n  - [1]\n|- x)\n)?(c: \\{\\}\n)?# end\n?",
        key in "[abcn](\\.[ab01]){0,2}", value in "\\PC{0,8}|5|true|no|~|- a|a: b"
    ) {
        let mut new = yaml.clone();
        let Ok(()) = set(&mut new, &key, &text(&value)) else {
            prop_assert_eq!(new, yaml);
            return Ok(());
        };
        let tree: serde_json::Value = serde_saphyr::from_str(&new).unwrap();
        let place = key.split('.').try_fold(&tree, |tree, part| tree.get(part).or_else(|| tree.get(tree::index(part)?))).unwrap();
        let printed = place.to_string();
        prop_assert!(place == value.as_str() || printed == value.trim() || place == "yes", "{new}");
        for line in yaml.lines().filter(|line| line.trim_start().starts_with('#')) {
            prop_assert!(new.lines().any(|new| new == line));
        }
        let once = new.clone();
        set(&mut new, &key, &text(&value)).unwrap();
        prop_assert_eq!(new, once);
    }

    #[test]
    fn nothing_panics(yaml in "(- |\\[|\\]|\\{|\\}|a|b|: |:|\"|'|, |&x |\\*x|!t |\\||>|#|\n|\n  |\r\n| |\u{e4}|~|---\n|\t|%|\\?){0,30}", key in "[ab0.]{1,5}", value in "\\PC{0,4}") {
        let mut new = yaml.clone();
        if set(&mut new, &key, &text(&value)).is_err() {
            prop_assert_eq!(new, yaml);
        }
    }
}
