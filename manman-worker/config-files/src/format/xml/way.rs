//! The path of a key.

use crate::Cause;

/// Deepest path.
const MAX_STEPS: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Way<'a> {
    pub(super) steps: Vec<Step<'a>>,
    /// `None` for the element's text.
    pub(super) attribute: Option<&'a str>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step<'a> {
    pub(super) name: &'a str,
    /// `[@attr='v']`
    pub(super) predicate: Option<(&'a str, &'a str)>,
}

impl<'a> Way<'a> {
    pub(super) fn parse(key: &'a str) -> Result<Self, Cause> {
        let way = Self::read(key).ok_or(Cause::Key("it must be `/element/element[@name='value']/@attribute`"))?;
        match way.steps.last() {
            None => Err(Cause::Key("it must have an element before the attribute")),
            Some(Step { predicate: Some((name, _)), .. }) if Some(*name) == way.attribute => {
                Err(Cause::Key("the attribute that is set is the one it is found by"))
            }
            Some(_) if way.steps.len() > MAX_STEPS => Err(Cause::Key("it has too many parts")),
            Some(_) => Ok(way),
        }
    }

    fn read(mut key: &'a str) -> Option<Self> {
        let mut way = Self { steps: Vec::new(), attribute: None };
        while !key.is_empty() {
            key = key.strip_prefix('/')?;
            if let Some(name) = key.strip_prefix('@') {
                way.attribute = Some(is_name(name).then_some(name)?);
                return Some(way);
            }
            let name = &key[..key.find(['/', '[']).unwrap_or(key.len())];
            key = &key[is_name(name).then_some(name)?.len()..];
            let mut predicate = None;
            if let Some(rest) = key.strip_prefix("[@") {
                let (attribute, rest) = rest.split_once('=')?;
                let quote = rest.chars().next().filter(|char| matches!(char, '\'' | '"'))?;
                let (value, rest) = rest[1..].split_once(quote)?;
                key = rest.strip_prefix(']')?;
                let fits = is_name(attribute) && !value.contains(|char: char| char.is_control());
                predicate = Some(fits.then_some((attribute, value))?);
            }
            way.steps.push(Step { name, predicate });
        }
        Some(way)
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|char: char| char.is_alphabetic() || char == '_' || char == ':')
        && name.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | ':' | '-' | '.'))
}
