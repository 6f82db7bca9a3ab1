//! `toml`, by toml_edit, which keeps what it does not change.

use manman_common::spec::FileValue;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use crate::Cause;
use crate::format::tree::{self, Scalar, There};

pub(crate) fn set(text: &mut String, key: &str, value: &FileValue) -> Result<(), Cause> {
    let parts = tree::parts(key)?;
    // The printer ends its own lines with LF alone.
    let crlf = text.contains("\r\n");
    let mut plain = if crlf { text.replace("\r\n", "\n") } else { text.clone() };
    if !plain.is_empty() && !plain.ends_with('\n') {
        plain.push('\n');
    }
    let mut document: DocumentMut = plain.parse().map_err(|error: toml_edit::TomlError| {
        let line = tree::line_of(&plain, error.span().map_or(0, |span| span.start));
        Cause::Syntax { format: "toml", line, why: error.message().to_owned() }
    })?;
    if document.to_string() != plain {
        return Err(Cause::NotProven);
    }
    if in_item(document.as_item_mut(), &parts, value)? {
        let new = document.to_string();
        *text = if crlf { new.replace('\n', "\r\n") } else { new };
    }
    Ok(())
}

/// Whether anything was changed.
fn in_item(item: &mut Item, parts: &[&str], value: &FileValue) -> Result<bool, Cause> {
    if let Some(list) = item.as_array_of_tables_mut()
        && let [part, below @ ..] = parts
    {
        let place = place(part, list.len())?;
        if place == list.len() {
            list.push(Table::new());
        }
        let table = list.get_mut(place).ok_or(Cause::NotProven)?;
        return in_table(table, below, value, true);
    }
    let block = item.is_table();
    match item {
        Item::Value(there) if !there.is_inline_table() => in_value(there, parts, value),
        other => match other.as_table_like_mut() {
            Some(table) => in_table(table, parts, value, block),
            None => Err(Cause::Way("there is a single value above it")),
        },
    }
}

fn in_table(table: &mut dyn TableLike, parts: &[&str], value: &FileValue, block: bool) -> Result<bool, Cause> {
    let [part, below @ ..] = parts else {
        return tree::typed(value, There::Table).map(|_| false);
    };
    if let Some(item) = table.get_mut(part).filter(|item| !item.is_none()) {
        return in_item(item, below, value);
    }
    let new = match below {
        [next, ..] if block && tree::index(next).is_none() => {
            let mut new = Table::new();
            // A table that only holds others needs no header of its own.
            new.set_implicit(below.len() > 1 && tree::index(below[1]).is_none());
            in_table(&mut new, below, value, true)?;
            Item::Table(new)
        }
        _ => Item::Value(made(below, value)?),
    };
    table.insert(part, new);
    Ok(true)
}

fn in_value(there: &mut Value, parts: &[&str], value: &FileValue) -> Result<bool, Cause> {
    let [part, below @ ..] = parts else { return replace(there, value) };
    match there {
        Value::Array(list) => {
            let place = place(part, list.len())?;
            match list.get_mut(place) {
                Some(there) => in_value(there, below, value),
                None => {
                    list.push(made(below, value)?);
                    Ok(true)
                }
            }
        }
        Value::InlineTable(table) => in_table(table, parts, value, false),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            Err(Cause::Way("there is a single value above it"))
        }
    }
}

fn place(part: &str, len: usize) -> Result<usize, Cause> {
    match tree::index(part) {
        Some(place) if place <= len => Ok(place),
        Some(_) => Err(Cause::Way("the list there is too short for that place in it")),
        None => Err(Cause::Way("there is a list, and the key has no place in it")),
    }
}

fn replace(there: &mut Value, value: &FileValue) -> Result<bool, Cause> {
    let kind = match there {
        Value::String(_) => There::Text,
        Value::Integer(_) | Value::Float(_) => There::Number,
        Value::Boolean(_) => There::Truth,
        Value::Datetime(_) => There::Other,
        Value::Array(_) => There::List,
        Value::InlineTable(_) => There::Table,
    };
    let scalar = tree::typed(value, kind)?;
    let mut new = of_scalar(&scalar)?;
    if let (Value::Float(_), Value::Integer(whole)) = (&*there, &new) {
        // What is a float stays one; a whole number of that size is one exactly.
        let float: f64 = whole.value().to_string().parse().map_err(|_| Cause::NotProven)?;
        new = Value::from(float);
    }
    let same = match (&*there, &new) {
        (Value::String(a), Value::String(b)) => a.value() == b.value(),
        (Value::Integer(a), Value::Integer(b)) => a.value() == b.value(),
        (Value::Float(a), Value::Float(b)) => a.value().to_bits() == b.value().to_bits(),
        (Value::Boolean(a), Value::Boolean(b)) => a.value() == b.value(),
        _ => false,
    };
    if !same {
        *new.decor_mut() = there.decor().clone();
        *there = new;
    }
    Ok(!same)
}

fn made(parts: &[&str], value: &FileValue) -> Result<Value, Cause> {
    let [part, below @ ..] = parts else { return of_scalar(&tree::typed(value, There::Nothing)?) };
    let inner = made(below, value)?;
    Ok(match tree::index(part) {
        Some(0) => Value::Array(Array::from_iter([inner])),
        Some(_) => return Err(Cause::Way("a new list begins at 0")),
        None => Value::InlineTable(InlineTable::from_iter([(*part, inner)])),
    })
}

fn of_scalar(scalar: &Scalar) -> Result<Value, Cause> {
    Ok(match scalar {
        Scalar::Truth(truth) => Value::from(*truth),
        Scalar::Text(text) => Value::from(text.as_str()),
        Scalar::Number(number) => match (number.parse::<i64>(), number.parse::<f64>()) {
            (Ok(whole), _) => Value::from(whole),
            (Err(_), Ok(float)) if number.contains(['.', 'e', 'E']) && float.is_finite() => Value::from(float),
            _ => return Err(Cause::Value("the number is too large for toml")),
        },
    })
}

#[cfg(test)]
mod tests;
