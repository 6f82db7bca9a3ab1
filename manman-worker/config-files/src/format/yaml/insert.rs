//! Where new text goes. What comes out is proven by the caller, so that an odd file is refused here
//! at worst.

use super::node::{Node, Style, What};
use super::{words, written};
use crate::Cause;
use crate::format::lines;
use crate::format::tree::{self, Scalar, There};

/// One step of indentation.
const UNIT: &str = "  ";

pub(super) fn replace(text: &mut String, key: Option<&Node>, node: &Node, scalar: &Scalar) -> Result<(), Cause> {
    if node.anchor {
        return Err(Cause::Way("the value has an anchor, and others share it"));
    }
    let What::Scalar { style, .. } = &node.what else { return Err(Cause::NotProven) };
    let new = written(scalar, *style);
    let old = &text[node.span.clone()];
    if old.trim().is_empty() {
        // Nothing stands behind the colon.
        let at = behind_colon(text, key.ok_or(Cause::NotProven)?)?;
        text.insert_str(at, &format!(" {new}"));
        return Ok(());
    }
    let end = node.span.start + old.trim_end().len();
    text.replace_range(node.span.start..end, &new);
    Ok(())
}

fn behind_colon(text: &str, key: &Node) -> Result<usize, Cause> {
    let rest = &text[key.span.end..];
    let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    if rest[blanks..].starts_with(':') { Ok(key.span.end + blanks + 1) } else { Err(Cause::NotProven) }
}

/// A text of nothing but comments.
pub(super) fn root(text: &mut String, parts: &[&str], scalar: &Scalar) -> Result<(), Cause> {
    let lines = block(parts, scalar, "")?;
    add_lines(text, text.len(), &lines);
    Ok(())
}

/// `rest` is absent in `node`, which stands behind `key`.
pub(super) fn below(text: &mut String, key: Option<&Node>, node: &Node, rest: &[&str], scalar: &Scalar) -> Result<(), Cause> {
    let [part, deeper @ ..] = rest else { return Err(Cause::NotProven) };
    match &node.what {
        What::Map { flow: true, entries } => {
            let item = format!("{}: {}", key_text(part), inline(deeper, scalar)?);
            into_flow(text, node, entries.last().map(|(key, value)| value.end().max(key.end())), &item);
        }
        What::List { flow: true, items } => into_flow(text, node, items.last().map(Node::end), &inline(deeper, scalar)?),
        What::Map { flow: false, entries } => {
            let (first, _) = entries.first().ok_or(Cause::NotProven)?;
            let indent = " ".repeat(column(text, first.span.start));
            let lines = block(rest, scalar, &indent)?;
            after(text, node, &lines);
        }
        What::List { flow: false, items } => {
            let first = items.first().ok_or(Cause::NotProven)?;
            let start = line_start(text, first.span.start);
            let dash = text[start..first.span.start].rfind('-').ok_or(Cause::NotProven)?;
            let indent = " ".repeat(text[start..start + dash].chars().count());
            // A list's next place is a list of its own to `block`, which begins at 0.
            let mut fresh = vec!["0"];
            fresh.extend(deeper);
            let lines = block(&fresh, scalar, &indent)?;
            after(text, node, &lines);
        }
        What::Scalar { .. } if node.there() == There::Nothing && !node.anchor => {
            let new = inline(rest, scalar)?;
            if text[node.span.clone()].trim().is_empty() {
                let at = behind_colon(text, key.ok_or(Cause::NotProven)?)?;
                text.insert_str(at, &format!(" {new}"));
            } else {
                text.replace_range(node.span.clone(), &new);
            }
        }
        What::Scalar { .. } | What::Alias(_) => return Err(Cause::NotProven),
    }
    Ok(())
}

fn into_flow(text: &mut String, node: &Node, last: Option<usize>, item: &str) {
    match last {
        Some(end) => text.insert_str(end, &format!(", {item}")),
        None => text.insert_str(node.span.start + 1, item),
    }
}

/// Behind the last line of a block.
fn after(text: &mut String, node: &Node, lines: &[String]) {
    // Where a block scalar is the last, its end may be the beginning of a later line.
    let end = text[..node.end()].trim_end().len();
    let at = text[end..].find('\n').map_or(text.len(), |line_end| end + line_end + 1);
    add_lines(text, at, lines);
}

fn add_lines(text: &mut String, mut at: usize, lines: &[String]) {
    for line in lines {
        let before = text.len();
        lines::insert_line(text, at, line);
        at += text.len() - before;
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |line_end| line_end + 1)
}

fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().count()
}

/// The scalar below the parts, as lines.
fn block(parts: &[&str], scalar: &Scalar, indent: &str) -> Result<Vec<String>, Cause> {
    let mut lines = Vec::new();
    let (mut indent, mut open) = (indent.to_owned(), indent.to_owned());
    for (place, part) in parts.iter().enumerate() {
        let is_last = place + 1 == parts.len();
        let value = if is_last { format!(" {}", written(scalar, Style::Plain)) } else { String::new() };
        match tree::index(part) {
            Some(0) if is_last => lines.push(format!("{open}-{value}")),
            // What it holds goes on in the dash's own line.
            Some(0) => {
                open.push_str("- ");
                indent.push_str(UNIT);
            }
            Some(_) => return Err(Cause::Way("a new list begins at 0")),
            None => {
                lines.push(format!("{open}{}:{value}", key_text(part)));
                indent.push_str(UNIT);
                open.clone_from(&indent);
            }
        }
    }
    Ok(lines)
}

fn inline(parts: &[&str], scalar: &Scalar) -> Result<String, Cause> {
    let [part, below @ ..] = parts else { return Ok(written(scalar, Style::Plain)) };
    let inner = inline(below, scalar)?;
    match tree::index(part) {
        Some(0) => Ok(format!("[{inner}]")),
        Some(_) => Err(Cause::Way("a new list begins at 0")),
        None => Ok(format!("{{{}: {inner}}}", key_text(part))),
    }
}

fn key_text(part: &str) -> String {
    if words::is_safe(part) { part.to_owned() } else { words::quoted(part) }
}
