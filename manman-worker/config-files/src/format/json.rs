//! `json`, with the comments and trailing commas that many games allow in theirs.

mod insert;
mod scan;

use manman_common::spec::FileValue;

use self::scan::{Found, scan};
use crate::Cause;
use crate::format::tree::{self, Scalar, There};

pub(crate) fn set(text: &mut String, key: &str, value: &FileValue) -> Result<(), Cause> {
    let parts = tree::parts(key)?;
    if text.trim_matches(scan::is_space).is_empty() {
        *text = "{}\n".to_owned();
    }
    let found = scan(text, &parts)?;
    let rest = &parts[found.matched..];
    if rest.is_empty() {
        return replace(text, &found, value);
    }
    let scalar = written(&tree::typed(value, There::Nothing)?);
    insert::insert(text, &found, rest, &scalar)
}

fn replace(text: &mut String, found: &Found, value: &FileValue) -> Result<(), Cause> {
    let old = &text[found.span.clone()];
    let scalar = tree::typed(value, found.there)?;
    let same = match (&scalar, found.there) {
        (Scalar::Text(new), There::Text) => serde_json::from_str::<String>(old).is_ok_and(|old| old == *new),
        (Scalar::Number(new), There::Number) => tree::same_number(new, old),
        (Scalar::Truth(new), There::Truth) => old == new.to_string(),
        _ => false,
    };
    if !same {
        text.replace_range(found.span.clone(), &written(&scalar));
    }
    Ok(())
}

fn written(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Truth(truth) => truth.to_string(),
        Scalar::Number(number) => number.clone(),
        Scalar::Text(text) => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
