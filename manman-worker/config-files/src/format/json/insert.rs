//! Adds what is absent, in the way that the file around it is written.

use std::ops::Range;

use super::quoted;
use super::scan::{Found, is_space};
use crate::Cause;
use crate::format::lines;
use crate::format::tree::{self, There};

pub(crate) fn insert(text: &mut String, found: &Found, rest: &[&str], scalar: &str) -> Result<(), Cause> {
    let [part, below @ ..] = rest else { return Err(Cause::NotProven) };
    let style = Style::of(text);
    match found.there {
        There::Nothing => {
            let indent = indent_of(text, found.span.start).to_owned();
            let new = style.render(rest, scalar, style.pretty.then_some(indent.as_str()))?;
            text.replace_range(found.span.clone(), &new);
            return Ok(());
        }
        There::Table => {}
        There::List => match tree::index(part) {
            Some(index) if index == found.items.count => {}
            Some(_) => return Err(Cause::Way("the list there is too short for that place in it")),
            None => return Err(Cause::Way("there is a list, and the key has no place in it")),
        },
        There::Number | There::Truth | There::Text | There::Other => return Err(Cause::Way("there is a single value above it")),
    }
    let key = if found.there == There::Table { format!("{}{}", quoted(part), style.colon) } else { String::new() };
    let close = found.span.end - 1;
    let line_start = text[..close].rfind('\n').map_or(0, |at| at + 1);
    let own_line = line_start > found.span.start && text[line_start..close].trim_matches(is_space).is_empty();
    let item = |indent: Option<&str>| Ok::<_, Cause>(format!("{key}{}", style.render(below, scalar, indent)?));
    let close_indent = indent_of(text, close).to_owned();
    match &found.items.last {
        _ if own_line => {
            let indent = match &found.items.last {
                Some(last) if starts_line(text, last.start) => indent_of(text, last.start).to_owned(),
                _ => format!("{close_indent}{}", style.unit),
            };
            let line = format!("{indent}{}{}", item(Some(&indent))?, style.end);
            // Before the closing bracket's line, so that a comment behind the last item stays with it.
            text.insert_str(line_start, &line);
            add_comma(text, found);
        }
        Some(last) => {
            let new = format!("{}{}", style.after_comma, item(None)?);
            add_comma(text, found);
            text.insert_str(found.items.comma.unwrap_or(last.end + 1), &new);
        }
        None if style.pretty && blank(text, &found.span) => {
            let indent = format!("{close_indent}{}", style.unit);
            let new = format!("{0}{indent}{1}{0}{close_indent}", style.end, item(Some(&indent))?);
            text.replace_range(found.span.start + 1..close, &new);
        }
        None => text.insert_str(close, &item(None)?),
    }
    Ok(())
}

fn add_comma(text: &mut String, found: &Found) {
    if let (Some(last), None) = (&found.items.last, found.items.comma) {
        text.insert(last.end, ',');
    }
}

fn blank(text: &str, span: &Range<usize>) -> bool {
    text[span.start + 1..span.end - 1].trim_matches(is_space).is_empty()
}

/// The blanks that the line of a byte begins with.
fn indent_of(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    let line = &text[start..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

fn starts_line(text: &str, at: usize) -> bool {
    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    text[start..at].chars().all(is_space)
}

struct Style {
    /// Over several lines.
    pretty: bool,
    /// One step of indentation.
    unit: String,
    end: &'static str,
    colon: &'static str,
    after_comma: &'static str,
}

impl Style {
    fn of(text: &str) -> Self {
        let bare = text.trim_matches(is_space);
        let pretty = bare.contains('\n') || bare.len() <= 2;
        let unit = lines::lines(text)
            .find_map(|line| {
                let line = &text[line.text];
                let bare = line.trim_start_matches([' ', '\t']);
                (bare.len() < line.len() && bare.starts_with('"')).then(|| line[..line.len() - bare.len()].to_owned())
            })
            .unwrap_or_else(|| "  ".to_owned());
        let tight = text.contains("\":") && !text.contains("\": ");
        Self { pretty, unit, end: lines::line_end(text), colon: if tight { ":" } else { ": " }, after_comma: if tight { "" } else { " " } }
    }

    /// `scalar` below the parts; over several lines where there is an indentation to go on from.
    fn render(&self, parts: &[&str], scalar: &str, indent: Option<&str>) -> Result<String, Cause> {
        let [part, below @ ..] = parts else { return Ok(scalar.to_owned()) };
        let deeper = indent.map(|indent| format!("{indent}{}", self.unit));
        let inner = self.render(below, scalar, deeper.as_deref())?;
        let (open, key, close) = match tree::index(part) {
            Some(0) => ('[', String::new(), ']'),
            Some(_) => return Err(Cause::Way("a new list begins at 0")),
            None => ('{', format!("{}{}", quoted(part), self.colon), '}'),
        };
        Ok(match (indent, deeper) {
            (Some(indent), Some(deeper)) => format!("{open}{0}{deeper}{key}{inner}{0}{indent}{close}", self.end),
            _ => format!("{open}{key}{inner}{close}"),
        })
    }
}
