use proptest::prelude::*;

use super::*;

fn after(xml: &str, key: &str, value: &str) -> String {
    let mut xml = xml.to_owned();
    set(&mut xml, key, value).unwrap();
    xml
}

const FILE: &str = "<?xml version=\"1.0\"?>\r\n<!-- top -->\r\n<ServerSettings>\r\n\t<property name=\"ServerName\"\tvalue=\"My &amp; Game\"/> <!-- n -->\r\n\t<property name='Port' value='1'></property>\r\n\t<Name>a<!-- c --></Name><Empty/><Text>x &lt; y</Text><Raw><![CDATA[<z>]]></Raw>\r\n\t<Deep><a><b/></a></Deep>\r\n</ServerSettings>\r\n";

#[test]
fn one_value_changes_and_all_else_stays() {
    let name = "/ServerSettings/property[@name='ServerName']/@value";
    assert_eq!(after(FILE, name, "My & Game"), FILE);
    assert_eq!(after(FILE, name, "a \"b\" <c>\n"), FILE.replace("My &amp; Game", "a &quot;b&quot; &lt;c&gt;&#10;"));
    assert_eq!(after(FILE, "/ServerSettings/property[@name='Port']/@value", "it's"), FILE.replace("'1'", "'it&apos;s'"));
    assert_eq!(after(FILE, "/ServerSettings/property[@name=\"Port\"]/@x", "2"), FILE.replace("'1'", "'1' x=\"2\""));
    assert_eq!(after(FILE, "/ServerSettings/@x", "2"), FILE.replace("<ServerSettings>", "<ServerSettings x=\"2\">"));
    assert_eq!(after(FILE, "/ServerSettings/Empty/@x", "2"), FILE.replace("<Empty/>", "<Empty x=\"2\"/>"));
    assert_eq!(after(FILE, "/ServerSettings/Empty", "2"), FILE.replace("<Empty/>", "<Empty>2</Empty>"));
    assert_eq!(after(FILE, "/ServerSettings/Text", "x < y"), FILE);
    assert_eq!(after(FILE, "/ServerSettings/Text", "y"), FILE.replace("x &lt; y", "y"));
    assert_eq!(after(FILE, "/ServerSettings/Raw", "<z>"), FILE);
    assert_eq!(after(FILE, "/ServerSettings/Raw", "y"), FILE.replace("<![CDATA[<z>]]>", "y"));
}

#[test]
fn what_is_absent_is_added_as_the_file_is_written() {
    assert_eq!(
        after(FILE, "/ServerSettings/property[@name='New']/@value", "1"),
        FILE.replace("</ServerSettings>", "\t<property name=\"New\" value=\"1\"/>\r\n</ServerSettings>")
    );
    assert_eq!(after(FILE, "/ServerSettings/Deep/a/c", "1"), FILE.replace("<b/>", "<b/><c>1</c>"));
    assert_eq!(after(FILE, "/ServerSettings/Deep/a/b/c/@d", "1"), FILE.replace("<b/>", "<b>\r\n\t<c d=\"1\"/>\r\n</b>"));
    assert_eq!(
        after("", "/a/b[@c='d']/e", "x"),
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<a>\n  <b c=\"d\">\n    <e>x</e>\n  </b>\n</a>\n"
    );
    assert_eq!(after("<!-- c -->", "/a/@b", "x"), "<!-- c -->\n<a b=\"x\"/>\n");
    assert_eq!(after("<a></a>", "/a/b", "x"), "<a>\n  <b>x</b>\n</a>");
    assert_eq!(after("<a />", "/a/b", "x"), "<a>\n  <b>x</b>\n</a>");
    assert_eq!(
        after("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a/>", "/a/@b", "\u{eb}"),
        "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a b=\"&#235;\"/>"
    );
    assert_eq!(after("<r><p/><p><q>1</q></p><p><q>2</q></p></r>", "/r/p/q", "3"), "<r><p/><p><q>3</q></p><p><q>2</q></p></r>");
}

#[test]
fn what_can_not_be_is_refused() {
    let refused = |xml: &str, key: &str, value: &str| {
        let mut new = xml.to_owned();
        let cause = set(&mut new, key, value).unwrap_err();
        assert_eq!(new, xml);
        cause
    };
    for (xml, line) in [("<a>\n", 2), ("<a></b>", 1), ("<a/>\n<b/>", 2), ("<a", 1), ("<!-- ", 1)] {
        let cause = refused(xml, "/a/@x", "1");
        assert!(matches!(cause, Cause::Syntax { line: at, .. } if at == line), "{xml}: {cause}");
    }
    assert!(matches!(refused(FILE, "/Other/@x", "1"), Cause::Way(_)));
    assert!(matches!(refused(FILE, "/ServerSettings/Deep", "1"), Cause::Way(_)));
    assert!(matches!(refused(FILE, "/ServerSettings/Name", "1"), Cause::NotProven));
    assert!(matches!(refused(FILE, "/ServerSettings/@x", "\u{1b}[2J"), Cause::Value(_)));
    for key in ["", "/", "a", "/@a", "/a/@", "/a[b]/@c", "/a[@b='c]/@d", "/a[@b='c']/@b", "/a b/@c", "/a/@b/c", "/a>/@b", "//a"] {
        assert!(matches!(refused(FILE, key, "1"), Cause::Key(_)), "{key}");
    }
    let deep = format!("{}{}", "<a>".repeat(50_000), "</a>".repeat(50_000));
    assert!(after(&deep, "/a/@b", "1").starts_with("<a b=\"1\"><a>"));
}

proptest! {
    #[test]
    fn a_value_comes_back_and_the_rest_is_kept(
        xml in "<r>(<p n=\"[ab]\"( v='x')?/>|<p n='a'>t</p>|<q><p/></q>| |\n|<!--c-->|t){0,8}</r>",
        key in "/r/(p|q|p\\[@n='[ab]'\\])(/@v|)", value in "\\PC{0,8}"
    ) {
        let mut new = xml.clone();
        let Ok(()) = set(&mut new, &key, &value) else {
            prop_assert_eq!(new, xml);
            return Ok(());
        };
        let way = Way::parse(&key).unwrap();
        let element = scan(&new, &way.steps).unwrap().element.unwrap();
        prop_assert_eq!(element.matched, way.steps.len());
        let raw = match way.attribute {
            Some(name) => attributes(&new, &element.tag).unwrap().into_iter().find(|there| &new[there.name.clone()] == name).unwrap().value,
            None => element.close.map_or(0..0, |close| element.tag.end..close.start),
        };
        prop_assert_eq!(quick_xml::escape::unescape(&new[raw]).unwrap(), value.as_str());
        let once = new.clone();
        set(&mut new, &key, &value).unwrap();
        prop_assert_eq!(new, once);
    }

    #[test]
    fn nothing_panics(xml in "(<|>|/|</|/>|a|=|\"|'|&|;|!--|-->|<!\\[CDATA\\[|\\]\\]>|<\\?xml |\\?>|<!DOCTYPE|\u{e4}|\n| ){0,30}", key in "/[a\u{e4}](\\[@a='a'\\])?(/a)?(/@a)?", value in "\\PC{0,4}") {
        let mut new = xml.clone();
        if set(&mut new, &key, &value).is_err() {
            prop_assert_eq!(new, xml);
        }
    }
}
