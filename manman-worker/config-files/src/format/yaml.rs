//! `yaml`: one scalar is replaced, or lines are added, and the result is read again: unless it says
//! what it said before but for this one key, nothing is changed.

mod insert;
mod node;
mod words;

use manman_common::spec::FileValue;

use self::node::{Node, Style, What, parse};
use crate::Cause;
use crate::format::tree::{self, Scalar, There};

pub(crate) fn set(text: &mut String, key: &str, value: &FileValue) -> Result<(), Cause> {
    let parts = tree::parts(key)?;
    let before = parse(text)?;
    let mut new = text.clone();
    let scalar = match &before {
        None => {
            let scalar = tree::typed(value, There::Nothing)?;
            insert::root(&mut new, &parts, &scalar)?;
            scalar
        }
        Some(root) => change(&mut new, root, &parts, value)?,
    };
    if new == *text {
        return Ok(());
    }
    let after = parse(&new).map_err(|_| Cause::NotProven)?.ok_or(Cause::NotProven)?;
    let same = match &before {
        Some(before) => is_with(before, &after, &parts, &scalar),
        None => is_made(&after, &parts, &scalar),
    };
    if !same {
        return Err(Cause::NotProven);
    }
    *text = new;
    Ok(())
}

fn change(text: &mut String, root: &Node, parts: &[&str], value: &FileValue) -> Result<Scalar, Cause> {
    let mut node = root;
    let mut key = None;
    let mut rest = parts;
    while let [part, below @ ..] = rest {
        let Some((next_key, next)) = node.child(part)? else { break };
        (key, node, rest) = (next_key, next, below);
    }
    if !rest.is_empty() {
        let scalar = tree::typed(value, There::Nothing)?;
        insert::below(text, key, node, rest, &scalar)?;
        return Ok(scalar);
    }
    let scalar = tree::typed(value, node.there())?;
    if !node.holds(&scalar) {
        insert::replace(text, key, node, &scalar)?;
    }
    Ok(scalar)
}

/// Whether `new` is `old` but for the scalar at the end of the parts.
fn is_with(old: &Node, new: &Node, parts: &[&str], scalar: &Scalar) -> bool {
    let [part, below @ ..] = parts else { return new.holds(scalar) };
    match (&old.what, &new.what) {
        (What::Map { entries: olds, .. }, What::Map { entries: news, .. }) => {
            let at = olds.iter().rposition(|(key, _)| key.is_key(part));
            let whole = olds.iter().zip(news).enumerate().all(|(place, ((old_key, old), (new_key, new)))| {
                old_key == new_key && if Some(place) == at { is_with(old, new, below, scalar) } else { old == new }
            });
            whole
                && match (at, news.get(olds.len()..)) {
                    (Some(_), Some([])) => true,
                    (None, Some([(key, added)])) => key.is_key(part) && is_made(added, below, scalar),
                    _ => false,
                }
        }
        (What::List { items: olds, .. }, What::List { items: news, .. }) => {
            let at = tree::index(part);
            let whole = olds
                .iter()
                .zip(news)
                .enumerate()
                .all(|(place, (old, new))| if Some(place) == at { is_with(old, new, below, scalar) } else { old == new });
            whole
                && match news.get(olds.len()..) {
                    Some([]) => at.is_some_and(|at| at < olds.len()),
                    Some([added]) => at == Some(olds.len()) && is_made(added, below, scalar),
                    _ => false,
                }
        }
        _ => old.there() == There::Nothing && is_made(new, parts, scalar),
    }
}

/// Whether the node holds the scalar below the parts, and nothing else.
fn is_made(new: &Node, parts: &[&str], scalar: &Scalar) -> bool {
    let [part, below @ ..] = parts else { return new.holds(scalar) };
    match &new.what {
        What::Map { entries, .. } => matches!(entries.as_slice(), [(key, value)] if key.is_key(part) && is_made(value, below, scalar)),
        What::List { items, .. } => matches!(items.as_slice(), [item] if tree::index(part) == Some(0) && is_made(item, below, scalar)),
        What::Scalar { .. } | What::Alias(_) => false,
    }
}

/// As it is written in a file: like what stood there, where that can hold it.
fn written(scalar: &Scalar, style: Style) -> String {
    match scalar {
        Scalar::Truth(truth) => truth.to_string(),
        Scalar::Number(number) => number.clone(),
        Scalar::Text(text) => match style {
            Style::Plain | Style::Block if words::is_safe(text) => text.clone(),
            Style::Single if !text.chars().any(char::is_control) && words::is_printable(text) => format!("'{}'", text.replace('\'', "''")),
            Style::Plain | Style::Block | Style::Single | Style::Double => words::quoted(text),
        },
    }
}

#[cfg(test)]
mod tests;
