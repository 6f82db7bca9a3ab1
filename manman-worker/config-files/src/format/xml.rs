//! `xml`: an attribute or the text of one element, found by a path such as
//! `/ServerSettings/property[@name='ServerPort']/@value`.

mod scan;
mod way;

use std::fmt::Write;
use std::ops::Range;

use self::scan::{Element, Scan, attributes, scan};
use self::way::{Step, Way};
use crate::Cause;
use crate::format::lines;

pub(crate) fn set(text: &mut String, key: &str, value: &str) -> Result<(), Cause> {
    let way = Way::parse(key)?;
    let allowed = |char: char| matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..);
    if !value.chars().all(allowed) {
        return Err(Cause::Value("it has a character that xml has no way to write"));
    }
    let found = scan(text, &way.steps)?;
    // A file that says it is something else than what it was read as gets plain letters only.
    let escape = Escape { ascii: found.other_encoding };
    let Some(element) = &found.element else {
        if found.has_root {
            return Err(Cause::Way("the outermost element of the file is another one"));
        }
        return new_root(text, &way, value, &escape);
    };
    if element.matched < way.steps.len() {
        return insert(text, &found, element, &way, value, &escape);
    }
    match way.attribute {
        Some(name) => set_attribute(text, element, name, value, &escape),
        None => set_text(text, element, value, &escape),
    }
}

fn set_attribute(text: &mut String, element: &Element, name: &str, value: &str, escape: &Escape) -> Result<(), Cause> {
    let all = attributes(text, &element.tag).ok_or(Cause::NotProven)?;
    let Some(there) = all.iter().find(|there| &text[there.name.clone()] == name) else {
        // Behind the last attribute, or the element's name.
        let at = all.last().map_or(element.name.end, |last| last.value.end + 1);
        text.insert_str(at, &format!(" {name}=\"{}\"", escape.of(value)));
        return Ok(());
    };
    if !same(&text[there.value.clone()], value) {
        text.replace_range(there.value.clone(), &escape.of(value));
    }
    Ok(())
}

fn set_text(text: &mut String, element: &Element, value: &str, escape: &Escape) -> Result<(), Cause> {
    let Some(close) = &element.close else {
        if !value.is_empty() {
            let name = text[element.name.clone()].to_owned();
            let open = open_up(text, element);
            text.insert_str(open, &format!("{}</{name}>", escape.of(value)));
        }
        return Ok(());
    };
    if element.has_children {
        return Err(Cause::Way("the element there holds others, and so no text of its own"));
    }
    if element.has_comments {
        return Err(Cause::NotProven);
    }
    let inner = element.tag.end..close.start;
    let old = &text[inner.clone()];
    let plain =
        old.strip_prefix("<![CDATA[").and_then(|rest| rest.strip_suffix("]]>")).is_some_and(|old| !old.contains("]]>") && old == value);
    if !plain && !same(old, value) {
        text.replace_range(inner, &escape.of(value));
    }
    Ok(())
}

fn same(raw: &str, value: &str) -> bool {
    !raw.contains('<') && quick_xml::escape::unescape(raw).is_ok_and(|old| old == value)
}

/// Makes `<a/>` to `<a>`; gives where its content begins.
fn open_up(text: &mut String, element: &Element) -> usize {
    let slash = element.tag.end - 2;
    let start = text[..slash].trim_end_matches(scan::is_space).len();
    text.replace_range(start..element.tag.end, ">");
    start + 1
}

fn new_root(text: &mut String, way: &Way<'_>, value: &str, escape: &Escape) -> Result<(), Cause> {
    let end = lines::line_end(text);
    if text.trim_matches(scan::is_space).is_empty() {
        *text = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>{end}");
    } else if !text.ends_with('\n') {
        text.push_str(end);
    }
    let root = Render { end, unit: "  ", escape }.of(&way.steps, way.attribute, value, "");
    text.push_str(&root);
    text.push_str(end);
    Ok(())
}

fn insert(text: &mut String, found: &Scan, element: &Element, way: &Way<'_>, value: &str, escape: &Escape) -> Result<(), Cause> {
    let end = lines::line_end(text);
    let own = indent_of(text, element.tag.start).unwrap_or_default().to_owned();
    let unit = found.indent.as_ref().map_or("  ", |range| &text[range.clone()]).to_owned();
    let indent = match element.first_child.and_then(|at| indent_of(text, at)) {
        Some(indent) => indent.to_owned(),
        None => format!("{own}{unit}"),
    };
    let new = Render { end, unit: &unit, escape }.of(&way.steps[element.matched..], way.attribute, value, &indent);
    let Some(close) = &element.close else {
        let name = text[element.name.clone()].to_owned();
        let at = open_up(text, element);
        text.insert_str(at, &format!("{end}{indent}{new}{end}{own}</{name}>"));
        return Ok(());
    };
    let line_start = text[..close.start].rfind('\n').map_or(0, |at| at + 1);
    if line_start >= element.tag.end && indent_of(text, close.start).is_some() {
        text.insert_str(line_start, &format!("{indent}{new}{end}"));
    } else if text[element.tag.end..close.start].trim_matches(scan::is_space).is_empty() {
        text.replace_range(element.tag.end..close.start, &format!("{end}{indent}{new}{end}{own}"));
    } else {
        text.insert_str(close.start, &new);
    }
    Ok(())
}

/// The blanks before a byte, where only blanks stand before it on its line.
fn indent_of(text: &str, at: usize) -> Option<&str> {
    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    let before = &text[start..at];
    before.chars().all(|char| char == ' ' || char == '\t').then_some(before)
}

struct Escape {
    ascii: bool,
}

impl Escape {
    /// Fit for a text and for an attribute in either quotes.
    fn of(&self, value: &str) -> String {
        let mut out = String::with_capacity(value.len());
        for char in value.chars() {
            match char {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&apos;"),
                '\t' | '\n' | '\r' => out.push_str(&reference(char)),
                char if self.ascii && !char.is_ascii() => out.push_str(&reference(char)),
                char => out.push(char),
            }
        }
        out
    }
}

fn reference(char: char) -> String {
    format!("&#{};", u32::from(char))
}

struct Render<'a> {
    end: &'a str,
    unit: &'a str,
    escape: &'a Escape,
}

impl Render<'_> {
    fn of(&self, steps: &[Step<'_>], attribute: Option<&str>, value: &str, indent: &str) -> String {
        let Some((Step { name, predicate }, below)) = steps.split_first() else { return String::new() };
        let mut out = format!("<{name}");
        let mut add = |name: &str, value: &str| {
            // Writing into a String does not fail.
            let Ok(()) = write!(out, " {name}=\"{}\"", self.escape.of(value)) else { return };
        };
        if let Some((name, value)) = predicate {
            add(name, value);
        }
        if !below.is_empty() {
            let deeper = format!("{indent}{}", self.unit);
            let inner = self.of(below, attribute, value, &deeper);
            return format!("{out}>{0}{deeper}{inner}{0}{indent}</{name}>", self.end);
        }
        match attribute {
            Some(attribute) => {
                add(attribute, value);
                format!("{out}/>")
            }
            None => format!("{out}>{}</{name}>", self.escape.of(value)),
        }
    }
}

/// A place in the file.
type Span = Range<usize>;

#[cfg(test)]
mod tests;
