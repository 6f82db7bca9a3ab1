//! The document, and where things are in it.

use std::path::Path;

use serde_json::Value;

use super::OpenApiError;
use super::dialect::{Direction, modernize};
use crate::config::Verb;

/// A chain of references that is longer goes in a circle.
const REFERENCES: usize = 16;

/// Two readings of one file: as a request sees it, and as a response does.
#[derive(Debug)]
pub struct Document {
    request: Value,
    response: Value,
    warnings: Vec<String>,
}

/// Where an operation is.
#[derive(Debug)]
pub struct Operation {
    pub(super) name: String,
    /// What its path calls its parts, which the configuration may call something else.
    pub(super) names: Vec<String>,
    /// JSON pointers.
    pub(super) item: String,
    pub(super) place: String,
}

impl Document {
    pub fn read(path: &Path) -> Result<Self, OpenApiError> {
        let text = std::fs::read_to_string(path).map_err(|source| OpenApiError::Read { path: path.to_owned(), source })?;
        // JSON is YAML, and its own parser is the faster one.
        let value: Value = match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(_) => {
                serde_saphyr::from_str(&text).map_err(|source| OpenApiError::Yaml { path: path.to_owned(), source: Box::new(source) })?
            }
        };
        Self::new(value).map_err(|what| OpenApiError::Document { path: path.to_owned(), what })
    }

    pub(super) fn new(document: Value) -> Result<Self, String> {
        let mut warnings = Vec::new();
        if !document.get("paths").is_some_and(Value::is_object) {
            return Err("it has no `paths`".to_owned());
        }
        let old = match document.get("openapi").map(|version| version.as_str().unwrap_or_default()) {
            Some(version) if version.starts_with("3.0") => true,
            Some(version) if version.starts_with("3.") => false,
            Some(version) => return Err(format!("its version is `{version}`, and 3.0 or 3.1 is read")),
            None if document.get("swagger").is_some() => return Err("it is Swagger 2, and OpenAPI 3.0 or 3.1 is read".to_owned()),
            None => {
                warnings.push("the OpenAPI file does not say its version; it is read as 3.0".to_owned());
                true
            }
        };
        let request = modernize(&document, old, Direction::Request);
        let response = modernize(&document, old, Direction::Response);
        Ok(Self { request, response, warnings })
    }

    pub(crate) fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(String::as_str)
    }

    pub(super) fn side(&self, direction: Direction) -> &Value {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    /// The operation of a path as the file writes it, whatever its names are called.
    pub fn operation(&self, template: &str, verb: Verb) -> Option<Operation> {
        let paths = self.request.get("paths")?.as_object()?;
        let path = paths.keys().find(|path| is_like(path, template))?;
        let item = self.resolve(&format!("/paths/{}", escape(path)), Direction::Request)?;
        let place = format!("{item}/{}", verb.as_str().to_ascii_lowercase());
        self.request.pointer(&place)?;
        let names = path.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name.to_owned()).collect();
        Some(Operation { name: format!("{verb} {template}"), names, item, place })
    }

    /// Follows `$ref` from a place to the place that is meant.
    pub(super) fn resolve(&self, place: &str, direction: Direction) -> Option<String> {
        let mut place = place.to_owned();
        for _ in 0..REFERENCES {
            let value = self.side(direction).pointer(&place)?;
            match value.get("$ref").and_then(Value::as_str) {
                None => return Some(place),
                Some(reference) => {
                    place = percent_encoding::percent_decode_str(reference.strip_prefix('#')?).decode_utf8().ok()?.into_owned()
                }
            }
        }
        None
    }
}

fn is_like(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    let is_name = |segment: &str| segment.starts_with('{') && segment.ends_with('}');
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || (is_name(a) && is_name(b)) => {}
            _ => return false,
        }
    }
}

/// A key as a JSON pointer writes it.
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
