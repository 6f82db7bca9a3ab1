//! Reads a json text once and remembers where the deepest part of a key lies.

use std::ops::Range;

use crate::Cause;
use crate::format::tree::{self, MAX_DEPTH, There};

/// The deepest value that is on the way to the key.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// How many parts of the key lead to it; all of them where the key is there.
    pub(crate) matched: usize,
    pub(crate) span: Range<usize>,
    pub(crate) there: There,
    /// Of a list or group.
    pub(crate) items: Items,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Items {
    pub(crate) count: usize,
    /// The last one: from its key, where it has one, to the end of its value.
    pub(crate) last: Option<Range<usize>>,
    /// The end of a comma behind the last one.
    pub(crate) comma: Option<usize>,
}

/// The whole text is read, so that nothing is ever spliced into a broken file.
pub(crate) fn scan(text: &str, parts: &[&str]) -> Result<Found, Cause> {
    let found = Found { matched: 0, span: 0..0, there: There::Nothing, items: Items::default() };
    let mut scanner = Scanner { text, at: 0, parts, found };
    scanner.space()?;
    scanner.value(Some(0), 0)?;
    scanner.space()?;
    if scanner.at < text.len() { Err(scanner.error("there is more than one value")) } else { Ok(scanner.found) }
}

pub(crate) const fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    parts: &'a [&'a str],
    found: Found,
}

impl Scanner<'_> {
    fn error(&self, why: &str) -> Cause {
        Cause::Syntax { format: "json", line: tree::line_of(self.text, self.at), why: why.to_owned() }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let eaten = self.rest().starts_with(token);
        self.at += if eaten { token.len() } else { 0 };
        eaten
    }

    fn space(&mut self) -> Result<(), Cause> {
        loop {
            self.at = self.text.len() - self.rest().trim_start_matches(is_space).len();
            if self.rest().starts_with("//") {
                self.at += self.rest().find('\n').unwrap_or(self.rest().len());
            } else if self.rest().starts_with("/*") {
                let end = self.rest()[2..].find("*/").ok_or_else(|| self.error("a comment does not end"))?;
                self.at += end + 4;
            } else {
                return Ok(());
            }
        }
    }

    /// `matched`: how many parts lead here, where this value is on the way.
    fn value(&mut self, matched: Option<usize>, depth: usize) -> Result<(), Cause> {
        let start = self.at;
        let open = self.rest().chars().next();
        let there = match open {
            Some('{') => There::Table,
            Some('[') => There::List,
            Some('"') => {
                self.string()?;
                There::Text
            }
            _ if self.eat("true") || self.eat("false") => There::Truth,
            _ if self.eat("null") => There::Nothing,
            _ => {
                let end =
                    self.rest().find(|char: char| !(char.is_ascii_alphanumeric() || "+-.".contains(char))).unwrap_or(self.rest().len());
                if !tree::is_number(&self.rest()[..end]) {
                    return Err(self.error("a value is missing or is none"));
                }
                self.at += end;
                There::Number
            }
        };
        if let Some(matched) = matched {
            // The last of two equal keys counts, as it does for most readers.
            self.found = Found { matched, span: start..self.at, there, items: Items::default() };
        }
        if matches!(there, There::Table | There::List) {
            let items = self.items(there, matched, depth + 1)?;
            if let Some(matched) = matched
                && self.found.matched == matched
            {
                self.found = Found { matched, span: start..self.at, there, items };
            }
        }
        Ok(())
    }

    fn items(&mut self, there: There, matched: Option<usize>, depth: usize) -> Result<Items, Cause> {
        if depth > MAX_DEPTH {
            return Err(self.error("it is nested too deep"));
        }
        self.at += 1;
        let close = if there == There::Table { "}" } else { "]" };
        let wanted = matched.and_then(|matched| self.parts.get(matched).map(|part| (matched + 1, *part)));
        let mut items = Items::default();
        loop {
            self.space()?;
            if self.eat(close) {
                return Ok(items);
            }
            if items.count > 0 && items.comma.is_none() {
                return Err(self.error("a comma or the end of a list or group is missing"));
            }
            let start = self.at;
            let is_wanted = if there == There::Table {
                let key = self.string()?;
                self.space()?;
                if !self.eat(":") {
                    return Err(self.error("a colon is missing"));
                }
                self.space()?;
                wanted.filter(|(_, part)| key == *part)
            } else {
                wanted.filter(|(_, part)| tree::index(part) == Some(items.count))
            };
            self.value(is_wanted.map(|(matched, _)| matched), depth)?;
            items = Items { count: items.count + 1, last: Some(start..self.at), comma: None };
            self.space()?;
            if self.eat(",") {
                items.comma = Some(self.at);
            }
        }
    }

    fn string(&mut self) -> Result<String, Cause> {
        let start = self.at;
        if !self.eat("\"") {
            return Err(self.error("a key in quotes is missing"));
        }
        let mut escape = false;
        let end = self
            .rest()
            .bytes()
            .position(|byte| {
                let ends = byte == b'"' && !escape;
                escape = byte == b'\\' && !escape;
                ends
            })
            .ok_or_else(|| self.error("a text does not end"))?;
        self.at += end + 1;
        serde_json::from_str(&self.text[start..self.at]).map_err(|_| self.error("a text has a wrong escape or a line break"))
    }
}
