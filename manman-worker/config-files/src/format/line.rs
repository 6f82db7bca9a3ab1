//! `line`: whole lines, found by how they begin. For configuration languages of a game's own.

use crate::Cause;
use crate::format::lines::{self, Line, is_blank};

pub(crate) fn set(text: &mut String, key: &str, value: &str) -> Result<(), Cause> {
    lines::one_line(value)?;
    if key.trim_matches(is_blank).is_empty() || key.starts_with(is_blank) || key.contains(['\n', '\r']) {
        return Err(Cause::Key("it must be the beginning of a line"));
    }
    let found: Vec<Line> = lines::lines(text).filter(|line| begins(&text[line.text.clone()], key)).collect();
    // Nothing instead of a line is no line.
    let kept = found.first().filter(|_| !value.is_empty());
    for line in found.iter().skip(usize::from(kept.is_some())).rev() {
        text.replace_range(line.text.start..line.next, "");
    }
    match kept {
        Some(first) => text.replace_range(first.text.clone(), value),
        // A line that does not begin with its own key is found only by itself the next time.
        None if value.is_empty() || lines::lines(text).any(|line| text[line.text] == *value) => {}
        None => lines::insert_line(text, text.len(), value),
    }
    Ok(())
}

/// `password` is not the beginning of `passwordAdmin`.
fn begins(line: &str, key: &str) -> bool {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    line.trim_start_matches(is_blank).strip_prefix(key).is_some_and(|rest| !(key.ends_with(is_word) && rest.starts_with(is_word)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(text: &str, key: &str, value: &str) -> String {
        let mut text = text.to_owned();
        set(&mut text, key, value).unwrap();
        text
    }

    #[test]
    fn the_first_line_is_replaced_and_further_ones_go() {
        let text = "// mine\n  password = \"a\";\npasswordAdmin = \"b\";\npassword=\"c\";\nend";
        assert_eq!(after(text, "password", "password = \"x\";"), "// mine\npassword = \"x\";\npasswordAdmin = \"b\";\nend");
        assert_eq!(after("log on\r\n", "sv_lan", "sv_lan 0"), "log on\r\nsv_lan 0\r\n");
        assert_eq!(after("", "sv_lan", "sv_lan 0"), "sv_lan 0\n");
        assert_eq!(after("a\nsv_lan 1", "sv_lan", "sv_lan 0"), "a\nsv_lan 0");
        assert_eq!(after(" lobby_name: \"a\"\n}", "lobby_name:", " lobby_name: \"b\""), " lobby_name: \"b\"\n}");
    }

    #[test]
    fn nothing_instead_of_a_line_is_no_line() {
        assert_eq!(after("a\nkey 1\nb\nkey 2", "key", ""), "a\nb\n");
        assert_eq!(after("a\n", "key", ""), "a\n");
    }

    #[test]
    fn a_line_without_its_key_is_added_once() {
        let once = after("a\n", "#port", "port=1");
        assert_eq!(once, "a\nport=1\n");
        assert_eq!(after(&once, "#port", "port=1"), once);
        assert_eq!(after("#port=2\n", "#port", "port=1"), "port=1\n");
    }

    proptest! {
        #[test]
        fn a_line_comes_back_and_the_rest_is_kept(text in "(\\PC{0,6}|key ?x?|\r?\n| ){0,16}", value in "(key )?\\PC{0,8}") {
            let mut new = text.clone();
            set(&mut new, "key", &value).unwrap();
            prop_assert!(value.is_empty() || lines::lines(&new).any(|line| new[line.text] == value));
            let others = |text: &str| -> Vec<String> {
                lines::lines(text).map(|line| text[line.text].to_owned()).filter(|line| !begins(line, "key") && *line != value).collect()
            };
            prop_assert_eq!(others(&text), others(&new));
            let once = new.clone();
            set(&mut new, "key", &value).unwrap();
            prop_assert_eq!(new, once);
        }
    }

    #[test]
    fn two_lines_do_not_hide_in_one_value() {
        let mut text = String::new();
        for value in ["hostname a\nrcon_password b", "hostname a\rquit", "hostname \0"] {
            assert!(matches!(set(&mut text, "hostname", value), Err(Cause::Value(_))), "{value:?}");
        }
        assert!(matches!(set(&mut text, " ", "a"), Err(Cause::Key(_))));
        assert_eq!(text, "");
    }
}
