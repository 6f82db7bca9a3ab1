use proptest::prelude::*;

use super::*;

fn after(text: &str, name: &str, key: &str, value: &str) -> String {
    let mut text = text.to_owned();
    set(&mut text, name, key, value).unwrap();
    text
}

#[test]
fn one_value_changes_and_all_else_stays() {
    let text = "#Minecraft server properties\r\n# mine\r\nserver-port = 25565\r\nmotd=A\\u00A7b\r\nlevel-name=world\r\n";
    assert_eq!(after(text, "server.properties", "server-port", "25570"), text.replace("25565", "25570"));
    assert_eq!(after(text, "server.properties", "motd", "Zo\u{eb} \\ x"), text.replace("A\\u00A7b", "Zo\\u00EB \\\\ x"));
    assert_eq!(after(text, "server.properties", "motd", "A\u{a7}b"), text, "it holds that already");
    assert_eq!(after(text, "server.properties", "pvp", "false"), format!("{text}pvp=false\r\n"));
}

#[test]
fn letters_are_written_as_the_file_has_them() {
    assert_eq!(after("motd=\u{fc}\n", "server.properties", "name", "\u{eb}"), "motd=\u{fc}\nname=\u{eb}\n");
    assert_eq!(after("", "server.properties", "name", "\u{1f600}"), "name=\\uD83D\\uDE00\n");
    assert_eq!(after("", "main.ini", "name", "\u{eb} C:\\x"), "name=\u{eb} C:\\x\n");
}

#[test]
fn java_joins_lines_and_knows_other_separators() {
    let text = "! c\na: 1\nb 2\nlist = x,\\\n   y\nnext=1\nd";
    assert_eq!(after(text, "a.properties", "list", "z"), "! c\na: 1\nb 2\nlist = z\nnext=1\nd");
    assert_eq!(after(text, "a.properties", "list", "x,y"), text);
    assert_eq!(after(text, "a.properties", "a", "z"), text.replace("a: 1", "a: z"));
    assert_eq!(after(text, "a.properties", "b", "z"), text.replace("b 2", "b z"));
    assert_eq!(after(text, "a.properties", "d", "z"), format!("{text}=z"));
    assert_eq!(after(text, "a.properties", "y", "z"), format!("{text}\ny=z\n"), "what continues a line is no key");
}

#[test]
fn a_plain_file_has_no_escapes() {
    let text = "Password=a\\\nPublic=true\n#Public=x\n";
    assert_eq!(after(text, "main.ini", "Public", "false"), "Password=a\\\nPublic=false\n#Public=x\n");
    let mut text = text.to_owned();
    assert!(matches!(set(&mut text, "main.ini", "Password", "a\nb"), Err(Cause::Value(_))));
    assert!(matches!(set(&mut text, "main.ini", "a=b", ""), Err(Cause::Key(_))));
    assert!(matches!(set(&mut text, "main.ini", "#a", ""), Err(Cause::Key(_))));
    assert_eq!(after("a=1\na=2\n", "x.txt", "a", "3"), "a=3\na=3\n");
}

proptest! {
    #[test]
    fn a_value_comes_back_and_the_rest_is_kept(
        head in "([a-c#! =:\\\\u0\n]|\r\n){0,40}", tail in "([a-c#! =:\\\\u0\n]|\r\n){0,40}", value in "\\PC{0,12}", java: bool
    ) {
        let name = if java { "x.properties" } else { "x.txt" };
        let mut text = format!("{head}\n{tail}");
        let Ok(()) = set(&mut text, name, "the-key", &value) else { return Ok(()) };
        let dialect = Dialect::of(&text, name);
        let found: Vec<String> = entries(&text, dialect)
            .filter(|entry| entry.key == "the-key")
            .map(|entry| if dialect == Dialect::Plain { text[entry.value].to_owned() } else { unescaped(&text[entry.value]) })
            .collect();
        let expected = if dialect == Dialect::Plain { value.trim_start_matches(is_blank).to_owned() } else { value.clone() };
        prop_assert_eq!(found, vec![expected]);
        let once = text.clone();
        set(&mut text, name, "the-key", &value).unwrap();
        prop_assert_eq!(text, once);
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,60}|[\\\\u0-9a=\n\r :]{0,60}", key in "\\PC{1,5}", value in "[\\x00-\\x7f]{0,10}", java: bool) {
        let mut text = text;
        let (Ok(()) | Err(_)) = set(&mut text, if java { "x.properties" } else { "x" }, &key, &value);
    }
}
