//! `ini`: sections of `key=value`, and Unreal's `key=(Member=value,…)`.

use std::ops::Range;

use crate::Cause;
use crate::format::lines::{self, is_blank};

pub(crate) fn set(text: &mut String, key: &str, value: &str) -> Result<(), Cause> {
    let key = Key::parse(key)?;
    // Readers drop the blanks in front.
    let value = lines::one_line(value)?.trim_start_matches(is_blank);
    if let Some(member) = key.member {
        let Some(range) = find(text, &key).into_iter().next_back() else {
            return add(text, &key, &with_member("", member, value)?);
        };
        let new = with_member(&text[range.clone()], member, value)?;
        text.replace_range(range, &new);
        return Ok(());
    }
    let found = find(text, &key);
    if found.is_empty() {
        return add(text, &key, value);
    }
    // Where a key stands twice some games take the first and some the last: all get the value.
    for range in found.into_iter().rev() {
        text.replace_range(range, value);
    }
    Ok(())
}

/// `[section].key`, `section.key` or `key`, and with `(Member)` behind it.
#[derive(Debug, PartialEq, Eq)]
struct Key<'a> {
    /// `None` for what stands before any section.
    section: Option<&'a str>,
    name: &'a str,
    member: Option<&'a str>,
}

impl<'a> Key<'a> {
    fn parse(key: &'a str) -> Result<Self, Cause> {
        if key.contains(['\n', '\r', '\0']) {
            return Err(Cause::Key("it has a line break"));
        }
        let (section, rest) = if let Some(bracketed) = key.strip_prefix('[') {
            let (section, rest) = bracketed.rsplit_once("].").ok_or(Cause::Key("after `[section]` comes `.key`"))?;
            (Some(section), rest)
        } else {
            match key.split_once('.') {
                Some((section, rest)) => (Some(section), rest),
                None => (None, key),
            }
        };
        let (name, member) = match rest.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
            Some((name, member)) => (name, Some(member)),
            None => (rest, None),
        };
        let bad = |word: &str, ends: &[char]| word.is_empty() || word != word.trim_matches(is_blank) || word.contains(ends);
        if section.is_some_and(|section| bad(section, &[])) {
            return Err(Cause::Key("its section is empty or has blanks around it"));
        }
        if bad(name, &['=']) || name.starts_with([';', '#', '[']) || member.is_some_and(|member| bad(member, &['=', ',', '(', ')', '"'])) {
            return Err(Cause::Key("it must be `section.key`, `[section].key` or `[section].key(Member)`"));
        }
        Ok(Self { section, name, member })
    }
}

/// What a line of the file is.
enum Item<'a> {
    Section(&'a str),
    /// The key, and where its value lies.
    Pair(&'a str, Range<usize>),
    Other,
}

fn item(text: &str, range: Range<usize>) -> Item<'_> {
    let line = &text[range.clone()];
    let bare = line.trim_matches(is_blank);
    if bare.starts_with([';', '#']) {
        return Item::Other;
    }
    if let Some(rest) = bare.strip_prefix('[') {
        // To the last bracket, unless what follows the first is a comment.
        let (name, behind) = match rest.split_once(']') {
            Some((name, behind)) if behind.trim_start_matches(is_blank).starts_with([';', '#']) => (name, ""),
            Some(_) => rest.rsplit_once(']').unwrap_or((rest, "")),
            None => return Item::Other,
        };
        return if behind.is_empty() { Item::Section(name.trim_matches(is_blank)) } else { Item::Other };
    }
    let Some(at) = line.find('=') else { return Item::Other };
    let value = &line[at + 1..];
    let start = range.end - value.trim_start_matches(is_blank).len();
    Item::Pair(line[..at].trim_matches(is_blank), start..range.end)
}

/// The values of the key. Most games read sections and keys without regard to case, so that an
/// entry in another case is the same; but one that is exactly so comes first.
fn find(text: &str, key: &Key<'_>) -> Vec<Range<usize>> {
    let search = |same: fn(&str, &str) -> bool| {
        let mut inside = key.section.is_none();
        let mut found = Vec::new();
        for line in lines::lines(text) {
            match item(text, line.text) {
                Item::Section(name) => inside = key.section.is_some_and(|section| same(section, name)),
                Item::Pair(name, value) if inside && same(key.name, name) => found.push(value),
                Item::Pair(..) | Item::Other => {}
            }
        }
        found
    };
    let exact = search(|a, b| a == b);
    if exact.is_empty() { search(str::eq_ignore_ascii_case) } else { exact }
}

/// Behind the last pair of the section, so that the comments of the next one stay with it.
fn add(text: &mut String, key: &Key<'_>, value: &str) -> Result<(), Cause> {
    let line = format!("{}={value}", key.name);
    let place = |same: fn(&str, &str) -> bool| {
        let mut inside = key.section.is_none();
        let mut at = inside.then_some(0);
        for line in lines::lines(text) {
            match item(text, line.text) {
                Item::Section(name) => {
                    // The first section of that name; a second one would hide it from some readers.
                    inside = key.section.is_some_and(|section| same(section, name)) && at.is_none();
                    at = if inside { Some(line.next) } else { at };
                }
                Item::Pair(..) if inside => at = Some(line.next),
                Item::Pair(..) | Item::Other => {}
            }
        }
        at
    };
    match (place(|a, b| a == b).or_else(|| place(str::eq_ignore_ascii_case)), key.section) {
        (Some(at), _) => lines::insert_line(text, at, &line),
        (None, Some(section)) => {
            let header = format!("[{section}]");
            // A name that reads back as another would be added again at each start.
            if !matches!(item(&header, 0..header.len()), Item::Section(name) if name == section) {
                return Err(Cause::Key("its section can not stand in brackets"));
            }
            if lines::lines(text).last().is_some_and(|last| !text[last.text].trim_matches(is_blank).is_empty()) {
                lines::insert_line(text, text.len(), "");
            }
            lines::insert_line(text, text.len(), &header);
            lines::insert_line(text, text.len(), &line);
        }
        // Without a section there is always the beginning of the file.
        (None, None) => lines::insert_line(text, 0, &line),
    }
    Ok(())
}

/// Unreal's `(A=1,B="x")` with one member changed or added.
fn with_member(old: &str, member: &str, value: &str) -> Result<String, Cause> {
    const BROKEN: Cause = Cause::Way("its value there is not `(Member=value,…)`");
    if Pieces::of(value).count() > 1 || !is_one_piece(value) {
        return Err(Cause::Value("it does not stay within its own member: a quote, bracket or comma too many"));
    }
    let blank_end = old.trim_end_matches(is_blank).len();
    if blank_end == 0 {
        return Ok(format!("({member}={value}){old}"));
    }
    let inner = old[..blank_end].strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or(BROKEN)?;
    let mut place = None;
    for piece in Pieces::of(inner) {
        let text = &inner[piece.clone()];
        if !is_one_piece(text) {
            return Err(BROKEN);
        }
        let Some((name, there)) = text.split_once('=') else { continue };
        if name.trim_matches(is_blank).eq_ignore_ascii_case(member) {
            let start = piece.end - there.len();
            place = Some(start..piece.end);
        }
    }
    let mut new = inner.to_owned();
    match place {
        Some(range) => new.replace_range(range, value),
        None if inner.trim_matches(is_blank).is_empty() => new = format!("{member}={value}"),
        None => new = format!("{inner},{member}={value}"),
    }
    Ok(format!("({new}){}", &old[blank_end..]))
}

/// The parts between commas that stand in no quotes and no brackets.
struct Pieces<'a> {
    text: &'a str,
    next: Option<usize>,
}

impl<'a> Pieces<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, next: Some(0) }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.next?;
        let (mut depth, mut quoted, mut escape) = (0_usize, false, false);
        for (at, char) in self.text[start..].char_indices() {
            match char {
                _ if escape => escape = false,
                '\\' if quoted => escape = true,
                '"' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => depth = depth.saturating_sub(1),
                ',' if !quoted && depth == 0 => {
                    self.next = Some(start + at + 1);
                    return Some(start..start + at);
                }
                _ => {}
            }
        }
        self.next = None;
        Some(start..self.text.len())
    }
}

/// Whether quotes and brackets end where they began, and no bracket ends that was not begun.
fn is_one_piece(text: &str) -> bool {
    let (mut depth, mut quoted, mut escape) = (0_usize, false, false);
    for char in text.chars() {
        match char {
            _ if escape => escape = false,
            '\\' if quoted => escape = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            _ => {}
        }
    }
    depth == 0 && !quoted && !escape
}

#[cfg(test)]
mod tests;
