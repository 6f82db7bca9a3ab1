//! `properties`: Java's, and the plain `key=value` files that look like it.
//!
//! Java reads a backslash as the beginning of an escape and joins lines that end with one; the
//! others read it as a letter. The file's name tells which one it is: its content can not, since a
//! value that was just written is a part of it.

use std::fmt::Write;
use std::ops::Range;

use crate::Cause;
use crate::format::lines::{self, Line, is_blank};

pub(crate) fn set(text: &mut String, name: &str, key: &str, value: &str) -> Result<(), Cause> {
    let dialect = Dialect::of(text, name);
    if key.is_empty() || key.contains(['\n', '\r', '\0']) || key != key.trim_matches(is_blank) {
        return Err(Cause::Key("it must be a word of one line"));
    }
    let (key_text, value_text) = match dialect {
        Dialect::Plain => {
            if key.contains('=') || key.starts_with(['#', '!']) {
                return Err(Cause::Key("it has a `=`, or begins like a comment"));
            }
            // Readers drop the blanks in front.
            (key.to_owned(), lines::one_line(value)?.trim_start_matches(is_blank).to_owned())
        }
        Dialect::Java { ascii } => (escaped(key, Part::Key, ascii), escaped(value, Part::Value, ascii)),
    };
    let found: Vec<Entry> = entries(text, dialect).filter(|entry| entry.key == key).collect();
    if found.is_empty() {
        close_last_line(text, dialect);
        lines::insert_line(text, text.len(), &format!("{key_text}={value_text}"));
        return Ok(());
    }
    // Where a key stands twice some games take the first and some the last: all get the value.
    for Entry { value: range, alone, .. } in found.into_iter().rev() {
        let same = match dialect {
            Dialect::Plain => text[range.clone()] == *value_text,
            Dialect::Java { .. } => unescaped(&text[range.clone()]) == value,
        };
        if !same {
            text.replace_range(range, &if alone { format!("={value_text}") } else { value_text.clone() });
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Plain,
    /// `ascii`: whether other letters are written as `\uXXXX`.
    Java {
        ascii: bool,
    },
}

impl Dialect {
    fn of(text: &str, name: &str) -> Self {
        if !name.rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case("properties")) {
            return Self::Plain;
        }
        let content = || lines::lines(text).map(|line| text[line.text].trim_start_matches(is_blank));
        Self::Java { ascii: content().filter(|line| !line.starts_with(['#', '!'])).all(str::is_ascii) }
    }
}

struct Entry {
    key: String,
    value: Range<usize>,
    /// Nothing stands between the key and the end of its line.
    alone: bool,
}

fn entries(text: &str, dialect: Dialect) -> impl Iterator<Item = Entry> {
    let mut lines = lines::lines(text);
    std::iter::from_fn(move || {
        loop {
            let first = lines.next()?;
            let line = &text[first.text.clone()];
            let start = first.text.end - line.trim_start_matches(is_blank).len();
            if start == first.text.end || text[start..].starts_with(['#', '!']) {
                continue;
            }
            let end = match dialect {
                Dialect::Plain => first.text.end,
                Dialect::Java { .. } => joined_end(text, &first, &mut lines),
            };
            if let Some(entry) = entry(text, start..end, dialect) {
                return Some(entry);
            }
        }
    })
}

/// Where the value ends of a line that may go on in the next ones.
fn joined_end(text: &str, first: &Line, lines: &mut impl Iterator<Item = Line>) -> usize {
    let mut last = first.clone();
    while goes_on(&text[last.text.clone()]) {
        let Some(next) = lines.next() else { break };
        last = next;
    }
    last.text.end
}

fn goes_on(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// A last line that goes on would swallow the one that is added; an empty one ends it.
fn close_last_line(text: &mut String, dialect: Dialect) {
    let last = lines::lines(text).last();
    if let (Dialect::Java { .. }, Some(last)) = (dialect, last)
        && goes_on(bare(&text[last.text.clone()]))
    {
        let end = lines::line_end(text);
        text.push_str(if last.text.end == last.next { end } else { "" });
        text.push_str(end);
    }
}

/// A carriage return at the very end becomes a part of the line end that is put behind it.
fn bare(line: &str) -> &str {
    line.strip_suffix('\r').unwrap_or(line)
}

fn entry(text: &str, range: Range<usize>, dialect: Dialect) -> Option<Entry> {
    let line = &text[range.clone()];
    let (key_end, value_start) = match dialect {
        Dialect::Plain => {
            let at = line.find('=')?;
            (line[..at].trim_end_matches(is_blank).len(), at + 1)
        }
        Dialect::Java { .. } => {
            let mut escape = false;
            let key_end = line
                .char_indices()
                .find(|(_, char)| {
                    let ends = !escape && (matches!(char, '=' | ':') || is_blank(*char));
                    escape = !escape && *char == '\\';
                    ends
                })
                .map_or(line.len(), |(at, _)| at);
            let blanks = |from: usize| line.len() - line[from..].trim_start_matches(is_blank).len();
            let mark = blanks(key_end);
            (key_end, if line[mark..].starts_with(['=', ':']) { mark + 1 } else { mark })
        }
    };
    let value_start = line.len() - line[value_start..].trim_start_matches(is_blank).len();
    let key = match dialect {
        Dialect::Plain => line[..key_end].to_owned(),
        Dialect::Java { .. } => unescaped(&line[..key_end]),
    };
    Some(Entry { key, value: range.start + value_start..range.end, alone: key_end == line.len() })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    Value,
}

fn escaped(text: &str, part: Part, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, char) in text.char_indices() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0c' => out.push_str("\\f"),
            ' ' if part == Part::Key || at == 0 => out.push_str("\\ "),
            '=' | ':' | '#' | '!' if part == Part::Key => {
                out.push('\\');
                out.push(char);
            }
            char if char.is_control() || (ascii && !char.is_ascii()) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let Ok(()) = write!(out, "\\u{unit:04X}") else { continue };
                }
            }
            char => out.push(char),
        }
    }
    out
}

/// As Java reads it; a wrong `\u` stands for itself.
fn unescaped(text: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        if char != '\\' {
            push(&mut units, char);
            continue;
        }
        let Some(next) = rest.chars().next() else { break };
        rest = &rest[next.len_utf8()..];
        match next {
            'n' => push(&mut units, '\n'),
            'r' => push(&mut units, '\r'),
            't' => push(&mut units, '\t'),
            'f' => push(&mut units, '\x0c'),
            '\r' | '\n' => rest = rest.trim_start_matches(|char| is_blank(char) || (next == '\r' && char == '\n')),
            'u' => match rest.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
                Some(unit) => {
                    units.push(unit);
                    rest = &rest[4..];
                }
                None => push(&mut units, 'u'),
            },
            other => push(&mut units, other),
        }
    }
    String::from_utf16_lossy(&units)
}

fn push(units: &mut Vec<u16>, char: char) {
    units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
}

#[cfg(test)]
mod tests;
