//! Reads an xml text once and remembers the element that a path leads to, or its last one that is
//! there.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::Span;
use super::way::Step;
use crate::Cause;
use crate::format::tree;

#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) element: Option<Element>,
    pub(super) has_root: bool,
    /// The declaration names an encoding that is none of Unicode's.
    pub(super) other_encoding: bool,
    /// The blanks before the first child of the root: one step of indentation.
    pub(super) indent: Option<Span>,
}

#[derive(Debug)]
pub(super) struct Element {
    /// How many steps lead to it.
    pub(super) matched: usize,
    /// From `<` to behind `>`.
    pub(super) tag: Span,
    pub(super) name: Span,
    /// `<a/>`
    pub(super) is_empty: bool,
    /// The end tag; none in an empty one.
    pub(super) close: Option<Span>,
    pub(super) first_child: Option<usize>,
    pub(super) has_children: bool,
    pub(super) has_comments: bool,
}

#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) name: Span,
    /// Between its quotes.
    pub(super) value: Span,
}

pub(super) const fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}

/// The whole text is read, so that nothing is ever spliced into a broken file.
pub(super) fn scan(text: &str, steps: &[Step<'_>]) -> Result<Scan, Cause> {
    let mut reader = Reader::from_str(text);
    let mut scan = Scan::default();
    // How many elements are open, and how many of them, from the root, are on the way.
    let (mut depth, mut on_way) = (0_usize, 0_usize);
    loop {
        let start = position(reader.buffer_position());
        let event = reader.read_event().map_err(|error| syntax(text, position(reader.error_position()), &error.to_string()))?;
        let span = start..position(reader.buffer_position());
        let is_empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                if depth == 0 && std::mem::replace(&mut scan.has_root, true) {
                    return Err(syntax(text, span.start, "it has two outermost elements"));
                }
                if depth == 1 && scan.indent.is_none() {
                    scan.indent = super::indent_of(text, span.start).map(|indent| span.start - indent.len()..span.start);
                }
                scan.child(on_way, depth, span.start);
                if depth == on_way && steps.get(on_way).is_some_and(|step| fits(text, &span, &tag, step)) {
                    scan.reached(on_way + 1, &span, &tag, is_empty);
                    on_way += usize::from(!is_empty);
                }
                depth += usize::from(!is_empty);
            }
            Event::End(_) => {
                if let Some(element) = scan.open(on_way, depth) {
                    element.close = Some(span);
                }
                depth = depth.saturating_sub(1);
                on_way = on_way.min(depth);
            }
            Event::Comment(_) | Event::PI(_) => {
                if let Some(element) = scan.open(on_way, depth) {
                    element.has_comments = true;
                }
            }
            Event::Decl(declaration) => {
                let unicode = |name: &str| ["utf-8", "utf8", "utf-16"].iter().any(|known| name.eq_ignore_ascii_case(known));
                scan.other_encoding = matches!(declaration.encoding(), Some(Ok(name)) if !unicode(name.as_ref()));
            }
            Event::Text(_) | Event::CData(_) | Event::DocType(_) | Event::GeneralRef(_) => {}
            Event::Eof if depth > 0 => return Err(syntax(text, text.len(), "an element does not end")),
            Event::Eof => return Ok(scan),
        }
    }
}

fn position(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

fn syntax(text: &str, at: usize, why: &str) -> Cause {
    Cause::Syntax { format: "xml", line: tree::line_of(text, at), why: why.to_owned() }
}

impl Scan {
    /// The first of the deepest elements on the way.
    fn reached(&mut self, matched: usize, span: &Span, tag: &BytesStart<'_>, is_empty: bool) {
        if self.element.as_ref().is_none_or(|element| element.matched < matched) {
            let name = span.start + 1..span.start + 1 + tag.name().as_ref().len();
            let element = Element {
                matched,
                tag: span.clone(),
                name,
                is_empty,
                close: None,
                first_child: None,
                has_children: false,
                has_comments: false,
            };
            self.element = Some(element);
        }
    }

    /// The remembered element, where what is read now stands right in it.
    fn open(&mut self, on_way: usize, depth: usize) -> Option<&mut Element> {
        self.element.as_mut().filter(|element| element.matched == depth && on_way == depth && element.close.is_none() && !element.is_empty)
    }

    fn child(&mut self, on_way: usize, depth: usize, at: usize) {
        if let Some(element) = self.open(on_way, depth) {
            element.has_children = true;
            element.first_child.get_or_insert(at);
        }
    }
}

fn fits(text: &str, span: &Span, tag: &BytesStart<'_>, step: &Step<'_>) -> bool {
    if text.get(span.start + 1..span.start + 1 + tag.name().as_ref().len()) != Some(step.name) {
        return false;
    }
    let Some((name, value)) = step.predicate else { return true };
    attributes(text, span).is_some_and(|all| {
        all.iter().any(|there| {
            &text[there.name.clone()] == name && quick_xml::escape::unescape(&text[there.value.clone()]).is_ok_and(|old| old == value)
        })
    })
}

/// The attributes of a tag; `None` where they are not as xml has them.
pub(super) fn attributes(text: &str, tag: &Span) -> Option<Vec<Attribute>> {
    let inner = text.get(tag.start + 1..tag.end)?.strip_suffix('>')?;
    let end = tag.start + 1 + inner.strip_suffix('/').unwrap_or(inner).len();
    let mut at = tag.start + 1 + text[tag.start + 1..end].find(is_space).unwrap_or(end - tag.start - 1);
    let mut all = Vec::new();
    loop {
        let skip = |at: usize| end - text[at..end].trim_start_matches(is_space).len();
        at = skip(at);
        if at == end {
            return Some(all);
        }
        let name = at..at + text[at..end].find(|char| is_space(char) || char == '=')?;
        at = skip(name.end);
        at = skip(at + text[at..end].strip_prefix('=').map(|_| 1)?);
        let quote = text[at..end].chars().next().filter(|char| matches!(char, '"' | '\''))?;
        let value = at + 1..at + 1 + text[at + 1..end].find(quote)?;
        at = value.end + 1;
        all.push(Attribute { name, value });
    }
}
