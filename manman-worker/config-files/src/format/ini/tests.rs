use proptest::prelude::*;

use super::*;

fn after(text: &str, key: &str, value: &str) -> String {
    let mut text = text.to_owned();
    set(&mut text, key, value).unwrap();
    text
}

const FILE: &str = "; top\nname=x\n\n[/Script/Engine.GameSession]\nMaxPlayers = 8 \n# c\n\n; about the next\n[Rcon]\r\nPassword=a\n";

#[test]
fn one_value_changes_and_all_else_stays() {
    assert_eq!(after(FILE, "[/Script/Engine.GameSession].MaxPlayers", "16"), FILE.replace("= 8 ", "= 16"));
    assert_eq!(after(FILE, "Rcon.Password", "a;b#c"), FILE.replace("Password=a", "Password=a;b#c"));
    assert_eq!(after(FILE, "name", "y"), FILE.replace("name=x", "name=y"));
    assert_eq!(after(FILE, "rcon.PASSWORD", "b"), FILE.replace("=a", "=b"), "case does not count where nothing fits better");
}

#[test]
fn what_is_absent_is_added_where_it_belongs() {
    assert_eq!(after(FILE, "[/Script/Engine.GameSession].A", "1"), FILE.replace("= 8 \n", "= 8 \nA=1\n"));
    assert_eq!(after(FILE, "Rcon.Port", "1"), format!("{FILE}Port=1\n"));
    assert_eq!(after(FILE, "New.Port", "1"), format!("{FILE}\n[New]\nPort=1\n"));
    assert_eq!(after(FILE, "other", "1"), FILE.replace("name=x\n", "name=x\nother=1\n"));
    assert_eq!(after("", "[a.b].c", "1"), "[a.b]\nc=1\n");
    assert_eq!(after("[a]\n[b]\nx=1", "a.x", "2"), "[a]\nx=2\n[b]\nx=1");
    assert_eq!(after("[a] ; mine\r\n", "a.x", "2"), "[a] ; mine\r\nx=2\r\n");
}

#[test]
fn unreal_members_are_changed_alone() {
    let text = "[S]\nO=(A=1,B=\"x, (y\\\" =\",C=(D=1,A=2),E=)\n";
    let all = |from: &str, to: &str| text.replace(from, to);
    assert_eq!(after(text, "[S].O(A)", "2"), all("(A=1", "(A=2"));
    assert_eq!(after(text, "[S].O(B)", "\"z\""), all("\"x, (y\\\" =\"", "\"z\""));
    assert_eq!(after(text, "[S].O(C)", "()"), all("(D=1,A=2)", "()"));
    assert_eq!(after(text, "[S].O(E)", "5"), all("E=", "E=5"));
    assert_eq!(after(text, "[S].O(D)", "7"), all("E=)", "E=,D=7)"));
    assert_eq!(after("", "[S].O(D)", "7"), "[S]\nO=(D=7)\n");
    assert_eq!(after("[S]\nO=\n", "[S].O(D)", "7"), "[S]\nO=(D=7)\n");
    assert_eq!(after("[S]\nO=()\n", "[S].O(D)", "7"), "[S]\nO=(D=7)\n");
}

#[test]
fn a_value_stays_in_its_member_and_line() {
    let mut text = "[S]\nO=(A=1)\nP=x\n".to_owned();
    for value in ["\"a\",Admin=1", "1,B=2", "1)", "\"a", "(", "\"a\"b\"", "\"a\\\""] {
        assert!(matches!(set(&mut text, "[S].O(A)", value), Err(Cause::Value(_))), "{value}");
    }
    assert!(matches!(set(&mut text, "[S].P(A)", "1"), Err(Cause::Way(_))));
    assert!(matches!(set(&mut text, "[S].P", "1\n[T]"), Err(Cause::Value(_))));
    for key in ["", "[S]", "[S].", "[].a", "S.", ".a", "S.a=b", "S.;a", "[a\n].b", "[S].O()", "[S].O(A=)"] {
        assert!(matches!(set(&mut text, key, "1"), Err(Cause::Key(_))), "{key:?}");
    }
    assert_eq!(text, "[S]\nO=(A=1)\nP=x\n");
}

proptest! {
    #[test]
    fn a_value_comes_back_and_the_rest_is_kept(text in "(\\[[ab]\\]|[kz ;#=()\",]{0,6}|\r?\n|k=){0,20}", key in "([ab]\\.)?[kz](\\(M\\))?", value in "\\PC{0,10}") {
        let mut new = text.clone();
        let Ok(()) = set(&mut new, &key, &value) else { return Ok(()) };
        let parsed = Key::parse(&key).unwrap();
        for range in find(&new, &parsed) {
            match parsed.member {
                None => prop_assert_eq!(&new[range], value.trim_start_matches(is_blank)),
                Some(_) => {
                    let wanted = format!("M={}", value.trim_start_matches(is_blank));
                    prop_assert!(new[range].contains(&wanted) || !find(&text, &parsed).is_empty());
                }
            }
        }
        let others = |text: &str| -> Vec<String> {
            let touched = find(text, &parsed);
            lines::lines(text)
                .filter(|line| !touched.iter().any(|value| value.start >= line.text.start && value.end <= line.text.end))
                .map(|line| text[line.text].to_owned())
                .collect()
        };
        let (before, now) = (others(&text), others(&new));
        prop_assert!(now.starts_with(&before) || before.iter().all(|line| now.contains(line)), "{before:?} {now:?}");
        let once = new.clone();
        set(&mut new, &key, &value).unwrap();
        prop_assert_eq!(new, once);
    }

    #[test]
    fn nothing_panics(text in "[\\[\\]()\",=;#\\\\ a\u{e4}\r\n]{0,60}", key in "[\\[\\].()=a\u{e4}]{0,10}", value in "[()\",\\\\a\u{e4}\n]{0,8}") {
        let mut text = text;
        let (Ok(()) | Err(_)) = set(&mut text, &key, &value);
    }
}
