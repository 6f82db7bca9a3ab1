//! A yaml text as a tree that remembers where each node stands.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};

use super::words;
use crate::Cause;
use crate::format::tree::{self, MAX_DEPTH, Scalar, There};

/// A tree takes a multiple of its text; configuration files are far below this.
const MAX_TEXT: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Node {
    /// Of a scalar or alias as it stands; of a list or map from its first to its last character.
    pub(super) span: Range<usize>,
    /// Others refer to it.
    pub(super) anchor: bool,
    pub(super) tag: Option<String>,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Scalar { text: String, style: Style },
    Alias(usize),
    List { flow: bool, items: Vec<Node> },
    Map { flow: bool, entries: Vec<(Node, Node)> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    /// `|` and `>`
    Block,
}

/// The same content, wherever and however it stands; but a plain `1` is no quoted one.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.what, &other.what) {
            (What::Scalar { text: a, style: x }, What::Scalar { text: b, style: y }) => {
                a == b && (*x == Style::Plain) == (*y == Style::Plain)
            }
            (What::Alias(a), What::Alias(b)) => a == b,
            (What::List { items: a, .. }, What::List { items: b, .. }) => a == b,
            (What::Map { entries: a, .. }, What::Map { entries: b, .. }) => a == b,
            _ => false,
        };
        same && self.anchor == other.anchor && self.tag == other.tag
    }
}

impl Node {
    pub(super) fn there(&self) -> There {
        match &self.what {
            What::Scalar { text, style: Style::Plain } => words::meaning(text),
            What::Scalar { .. } => There::Text,
            What::Alias(_) => There::Other,
            What::List { .. } => There::List,
            What::Map { .. } => There::Table,
        }
    }

    pub(super) fn is_key(&self, part: &str) -> bool {
        matches!(&self.what, What::Scalar { text, .. } if text == part)
    }

    pub(super) fn holds(&self, scalar: &Scalar) -> bool {
        let What::Scalar { text, .. } = &self.what else { return false };
        match (scalar, self.there()) {
            (Scalar::Text(new), There::Text) => text == new,
            (Scalar::Number(new), There::Number) => tree::same_number(new, text),
            (Scalar::Truth(new), There::Truth) => words::truth(text) == Some(*new),
            _ => false,
        }
    }

    /// What the next part of a key leads to; `None` where it is absent.
    pub(super) fn child(&self, part: &str) -> Result<Option<(Option<&Self>, &Self)>, Cause> {
        match &self.what {
            What::Map { entries, .. } => Ok(entries.iter().rfind(|(key, _)| key.is_key(part)).map(|(key, value)| (Some(key), value))),
            What::List { items, .. } => match tree::index(part) {
                Some(place) if place <= items.len() => Ok(items.get(place).map(|item| (None, item))),
                Some(_) => Err(Cause::Way("the list there is too short for that place in it")),
                None => Err(Cause::Way("there is a list, and the key has no place in it")),
            },
            What::Scalar { .. } if self.there() == There::Nothing => Ok(None),
            What::Scalar { .. } => Err(Cause::Way("there is a single value above it")),
            What::Alias(_) => Err(Cause::Way("it is reached through an alias, which others share")),
        }
    }

    /// The end of its last character that is more than blank.
    pub(super) fn end(&self) -> usize {
        match &self.what {
            What::Scalar { .. } | What::Alias(_) | What::List { flow: true, .. } | What::Map { flow: true, .. } => self.span.end,
            What::List { items, .. } => items.last().map_or(self.span.end, Self::end),
            What::Map { entries, .. } => entries.last().map_or(self.span.end, |(key, value)| value.end().max(key.end())),
        }
    }
}

/// The one document of a text; `None` where it holds nothing but comments.
pub(super) fn parse(text: &str) -> Result<Option<Node>, Cause> {
    if text.len() > MAX_TEXT {
        return Err(Cause::Syntax { format: "yaml", line: 1, why: "it is longer than 8 MiB".to_owned() });
    }
    let options = granit_parser::options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH, emit_comments: false };
    let mut build = Build::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| Cause::Syntax { format: "yaml", line: error.marker().line(), why: error.to_string() })?;
        let range = span.byte_range().filter(|range| text.get(range.clone()).is_some()).ok_or(Cause::NotProven)?;
        build.event(event, range).map_err(|why| Cause::Syntax { format: "yaml", line: span.start.line(), why: why.to_owned() })?;
    }
    // An empty document reads as a scalar of nothing that stands nowhere.
    let is_nothing =
        |node: &Node| matches!(&node.what, What::Scalar { text, style: Style::Plain } if text.is_empty()) && node.tag.is_none();
    Ok(build.root.filter(|root| !is_nothing(root)))
}

#[derive(Default)]
struct Build {
    root: Option<Node>,
    /// Open lists and maps, and the key that a map waits for the value of.
    open: Vec<(Node, Option<Node>)>,
    documents: usize,
}

impl Build {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), &'static str> {
        let tag_text = |tag: Option<std::borrow::Cow<'_, granit_parser::Tag>>| tag.map(|tag| format!("{tag:?}"));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                let what = What::Scalar { text: text.into_owned(), style };
                self.done(Node { span, anchor: anchor != 0, tag: tag_text(tag), what });
            }
            Event::Alias(id) => self.done(Node { span, anchor: false, tag: None, what: What::Alias(id) }),
            Event::SequenceStart(style, anchor, tag) => {
                let what = What::List { flow: style == StructureStyle::Flow, items: Vec::new() };
                self.open.push((Node { span, anchor: anchor != 0, tag: tag_text(tag), what }, None));
            }
            Event::MappingStart(style, anchor, tag) => {
                let what = What::Map { flow: style == StructureStyle::Flow, entries: Vec::new() };
                self.open.push((Node { span, anchor: anchor != 0, tag: tag_text(tag), what }, None));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((mut node, _)) = self.open.pop() {
                    node.span.end = span.end;
                    self.done(node);
                }
            }
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("there is more than one document");
                }
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            // The others come only where one asks for them.
            _ => return Err("it holds what this reader does not know"),
        }
        Ok(())
    }

    fn done(&mut self, node: Node) {
        let Some((parent, waiting)) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut parent.what {
            What::List { items, .. } => items.push(node),
            What::Map { entries, .. } => match waiting.take() {
                Some(key) => entries.push((key, node)),
                None => *waiting = Some(node),
            },
            // Only lists and maps are ever open.
            What::Scalar { .. } | What::Alias(_) => {}
        }
    }
}
