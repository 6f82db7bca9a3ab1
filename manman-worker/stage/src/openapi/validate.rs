//! One operation, compiled: what may come in, and what may go out.

use std::collections::BTreeMap;
use std::fmt;

use hyper::header::{HeaderMap, HeaderValue};
use jsonschema::error::ValidationErrorKind;
use serde_json::{Value, json};

use super::dialect::Direction;
use super::document::{Document, Operation, escape};
use super::{OpenApiError, value};

/// As many as help a person.
const ERRORS: usize = 16;

/// What of a request is looked at.
pub struct Incoming<'a> {
    pub params: &'a [(String, String)],
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

pub struct Outgoing<'a> {
    pub status: u16,
    pub content_type: Option<&'a HeaderValue>,
    pub body: &'a [u8],
}

/// Why something is not as the document says.
#[derive(Debug, PartialEq)]
pub struct Invalid {
    /// 400, or 415 for a body of another kind.
    pub status: u16,
    /// Where: a JSON pointer into the body (`/name`), or `query/limit`.
    pub pointer: String,
    pub detail: String,
    /// All of them, of a body.
    pub errors: Vec<Value>,
}

impl Invalid {
    fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status: 400, pointer: pointer.into(), detail: detail.into(), errors: Vec::new() }
    }
}

pub struct Validator {
    params: Vec<Param>,
    /// Whether a body has to be there; `None` if the operation says nothing of bodies.
    body: Option<(bool, Content)>,
    responses: BTreeMap<String, Content>,
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validator").field("params", &self.params.len()).finish_non_exhaustive()
    }
}

/// Kinds of content, each with its schema if it has one.
type Content = Vec<(String, Option<Schema>)>;

struct Schema {
    validator: jsonschema::Validator,
    /// For the types of texts.
    schema: Value,
    document: std::sync::Arc<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    Path,
    Query,
    Header,
    Cookie,
}

struct Param {
    name: String,
    place: In,
    required: bool,
    style: Option<String>,
    explode: bool,
    /// Its text is JSON.
    json: bool,
    /// Which of the path's names it is.
    at: Option<usize>,
    schema: Option<Schema>,
}

struct Compiler<'a> {
    document: &'a Document,
    name: &'a str,
    names: &'a [String],
    sides: [std::sync::Arc<Value>; 2],
}

impl Compiler<'_> {
    fn schema(&self, place: &str, direction: Direction) -> Result<Option<Schema>, OpenApiError> {
        let side = &self.sides[direction as usize];
        let Some(schema) = side.pointer(place) else { return Ok(None) };
        // The whole document with a reference at its root: what refers into it finds what it means.
        let mut root = (**side).clone();
        if let Some(map) = root.as_object_mut() {
            map.insert("$ref".to_owned(), Value::String(format!("#{}", fragment(place))));
        }
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true).offline();
        let validator = options.build(&root).map_err(|error| OpenApiError::Schema {
            operation: self.name.to_owned(),
            place: place.to_owned(),
            what: error.to_string(),
        })?;
        Ok(Some(Schema { validator, schema: schema.clone(), document: side.clone() }))
    }

    fn resolve(&self, place: &str, direction: Direction) -> Result<String, OpenApiError> {
        self.document
            .resolve(place, direction)
            .ok_or_else(|| OpenApiError::Reference { operation: self.name.to_owned(), reference: place.to_owned() })
    }

    fn content(&self, place: &str, direction: Direction) -> Result<Content, OpenApiError> {
        let content = self.document.side(direction).pointer(&format!("{place}/content")).and_then(Value::as_object);
        let mut kinds = Vec::new();
        for kind in content.into_iter().flat_map(|content| content.keys()) {
            let text = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let readable = is_json(&text) || is_form(&text) || text.contains('*');
            let schema = if readable { self.schema(&format!("{place}/content/{}/schema", escape(kind)), direction)? } else { None };
            kinds.push((text, schema));
        }
        Ok(kinds)
    }

    fn param(&self, place: &str) -> Result<Option<Param>, OpenApiError> {
        let place = self.resolve(place, Direction::Request)?;
        let Some(param) = self.document.side(Direction::Request).pointer(&place) else { return Ok(None) };
        let text = |key: &str| param.get(key).and_then(Value::as_str);
        let kind = match text("in") {
            Some("path") => In::Path,
            Some("query") => In::Query,
            Some("header") => In::Header,
            Some("cookie") => In::Cookie,
            _ => return Ok(None),
        };
        let name = text("name").unwrap_or_default().to_owned();
        // These are said elsewhere in the document, and ignored here by its rules.
        if kind == In::Header && ["accept", "content-type", "authorization"].contains(&name.to_ascii_lowercase().as_str()) {
            return Ok(None);
        }
        let json = param.get("content").and_then(Value::as_object).and_then(|content| content.keys().next());
        let schema = match json {
            Some(kind) => format!("{place}/content/{}/schema", escape(kind)),
            None => format!("{place}/schema"),
        };
        let style = text("style").map(str::to_owned);
        let is_form = style.as_deref().is_none_or(|style| style == "form") && matches!(kind, In::Query | In::Cookie);
        Ok(Some(Param {
            at: self.names.iter().position(|other| *other == name),
            name,
            place: kind,
            required: kind == In::Path || param.get("required") == Some(&Value::Bool(true)),
            explode: param.get("explode").and_then(Value::as_bool).unwrap_or(is_form),
            style,
            json: json.is_some(),
            schema: self.schema(&schema, Direction::Request)?,
        }))
    }
}

impl Validator {
    pub(crate) fn compile(document: &Document, operation: Operation, warnings: &mut Vec<String>) -> Result<Self, OpenApiError> {
        let sides = [Direction::Request, Direction::Response].map(|direction| std::sync::Arc::new(document.side(direction).clone()));
        let compiler = Compiler { document, name: &operation.name, names: &operation.names, sides };
        let request = document.side(Direction::Request);
        let mut params: Vec<Param> = Vec::new();
        // The operation's own come last and take the place of the path's.
        for list in [format!("{}/parameters", operation.item), format!("{}/parameters", operation.place)] {
            let count = request.pointer(&list).and_then(Value::as_array).map_or(0, Vec::len);
            for at in 0..count {
                let Some(param) = compiler.param(&format!("{list}/{at}"))? else { continue };
                params.retain(|other| other.name != param.name || other.place != param.place);
                params.push(param);
            }
        }
        let body = match request.pointer(&format!("{}/requestBody", operation.place)) {
            None => None,
            Some(_) => {
                let place = compiler.resolve(&format!("{}/requestBody", operation.place), Direction::Request)?;
                let required = request.pointer(&format!("{place}/required")) == Some(&Value::Bool(true));
                Some((required, compiler.content(&place, Direction::Request)?))
            }
        };
        let mut responses = BTreeMap::new();
        let listed = document.side(Direction::Response).pointer(&format!("{}/responses", operation.place)).and_then(Value::as_object);
        for status in listed.into_iter().flat_map(|listed| listed.keys()) {
            let place = compiler.resolve(&format!("{}/responses/{}", operation.place, escape(status)), Direction::Response)?;
            responses.insert(status.to_ascii_uppercase(), compiler.content(&place, Direction::Response)?);
        }
        if responses.is_empty() {
            warnings.push(format!("{} names no responses, so replies are not validated", operation.name));
        }
        Ok(Self { params, body, responses })
    }

    pub fn incoming(&self, request: &Incoming<'_>) -> Result<(), Invalid> {
        for param in &self.params {
            param.check(request)?;
        }
        let Some((required, content)) = &self.body else { return Ok(()) };
        if request.body.is_empty() {
            return if *required { Err(Invalid::new("", "a body is required")) } else { Ok(()) };
        }
        let kind = kind_of(request.headers.get("content-type"));
        let found = pick(content, kind.as_deref().unwrap_or("application/json")).ok_or_else(|| {
            let known: Vec<&str> = content.iter().map(|(kind, _)| kind.as_str()).collect();
            let detail = format!("a body of {} is wanted, not of {}", known.join(" or "), kind.as_deref().unwrap_or("no type"));
            Invalid { status: 415, ..Invalid::new("", detail) }
        })?;
        check_body(found, request.body)
    }

    pub fn outgoing(&self, reply: &Outgoing<'_>) -> Result<(), Invalid> {
        if self.responses.is_empty() {
            return Ok(());
        }
        let names = [reply.status.to_string(), format!("{}XX", reply.status / 100), "DEFAULT".to_owned()];
        let content = names.iter().find_map(|name| self.responses.get(name));
        let content = content.ok_or_else(|| Invalid::new("", format!("the status {} is not in the OpenAPI file", reply.status)))?;
        if content.is_empty() || reply.body.is_empty() {
            let wanted = content.iter().any(|(_, schema)| schema.is_some());
            return if wanted { Err(Invalid::new("", "a body is wanted")) } else { Ok(()) };
        }
        let kind = kind_of(reply.content_type).unwrap_or_else(|| "application/json".to_owned());
        let found = pick(content, &kind).ok_or_else(|| Invalid::new("", format!("a reply of {kind} is not in the OpenAPI file")))?;
        check_body(found, reply.body)
    }
}

impl Param {
    fn check(&self, request: &Incoming<'_>) -> Result<(), Invalid> {
        let place = match self.place {
            In::Path => "path",
            In::Query => "query",
            In::Header => "header",
            In::Cookie => "cookie",
        };
        let pointer = format!("{place}/{}", self.name);
        let Some(value) = self.value(request).map_err(|what| Invalid::new(&pointer, what))? else {
            return if self.required {
                Err(Invalid::new(&pointer, format!("the {place} parameter `{}` is required", self.name)))
            } else {
                Ok(())
            };
        };
        let Some(schema) = &self.schema else { return Ok(()) };
        match schema.validator.iter_errors(&value).next() {
            None => Ok(()),
            Some(error) => Err(Invalid::new(pointer, error.to_string())),
        }
    }

    fn value(&self, request: &Incoming<'_>) -> Result<Option<Value>, String> {
        let texts: Vec<String> = match self.place {
            In::Path => self.at.and_then(|at| request.params.get(at)).map(|(_, value)| value.clone()).into_iter().collect(),
            In::Query if self.style.as_deref() == Some("deepObject") => return Ok(self.deep(request.query)),
            In::Query => value::pairs(request.query).into_iter().filter(|(name, _)| *name == self.name).map(|(_, value)| value).collect(),
            In::Header => {
                request.headers.get_all(&self.name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
            }
            In::Cookie => {
                let all =
                    request.headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
                all.filter_map(|pair| pair.trim().split_once('='))
                    .filter(|(name, _)| *name == self.name)
                    .map(|(_, value)| value.to_owned())
                    .collect()
            }
        };
        let Some(first) = texts.first() else { return Ok(None) };
        if self.json {
            return serde_json::from_str(first).map(Some).map_err(|error| format!("it is no JSON: {error}"));
        }
        let Some(Schema { schema, document, .. }) = &self.schema else { return Ok(Some(Value::String(first.clone()))) };
        let types = value::types(document, schema, 0);
        if types.iter().any(|kind| kind == "array") {
            let separator = match self.style.as_deref() {
                Some("pipeDelimited") => '|',
                Some("spaceDelimited") => ' ',
                _ => ',',
            };
            let whole = self.explode && matches!(self.place, In::Query | In::Cookie);
            let split = texts.iter().flat_map(|text| {
                if whole { vec![text.clone()] } else { text.split(separator).map(|part| part.trim().to_owned()).collect() }
            });
            return Ok(Some(value::list(document, schema, split)));
        }
        if types.iter().any(|kind| kind == "object") {
            let parts: Vec<&str> = first.split(',').collect();
            let pairs = parts.chunks(2).filter_map(|pair| match pair {
                [pair] if self.explode => pair.split_once('=').map(|(name, text)| (name.to_owned(), text.to_owned())),
                [name, text] => Some(((*name).to_owned(), (*text).to_owned())),
                _ => None,
            });
            return Ok(Some(value::record(document, schema, pairs)));
        }
        Ok(Some(value::scalar(first, &types)))
    }

    fn deep(&self, query: &str) -> Option<Value> {
        let Schema { schema, document, .. } = self.schema.as_ref()?;
        let own = |(name, text): (String, String)| {
            Some((name.strip_prefix(self.name.as_str())?.strip_prefix('[')?.strip_suffix(']')?.to_owned(), text))
        };
        let pairs: Vec<(String, String)> = value::pairs(query).into_iter().filter_map(own).collect();
        (!pairs.is_empty()).then(|| value::record(document, schema, pairs.into_iter()))
    }
}

fn check_body((kind, schema): (&str, Option<&Schema>), body: &[u8]) -> Result<(), Invalid> {
    let Some(schema) = schema else { return Ok(()) };
    let value = if is_form(kind) {
        let text = std::str::from_utf8(body).map_err(|_| Invalid::new("", "the form is not UTF-8"))?;
        value::record(&schema.document, &schema.schema, value::pairs(text).into_iter())
    } else if is_json(kind) {
        serde_json::from_slice(body).map_err(|error| Invalid::new("", format!("the body is no JSON: {error}")))?
    } else {
        return Ok(());
    };
    let errors: Vec<(String, String)> = schema
        .validator
        .iter_errors(&value)
        .take(ERRORS)
        .map(|error| {
            let mut pointer = error.instance_path().to_string();
            // What is missing has no place yet; the one where it should be says more than its parent's.
            if let ValidationErrorKind::Required { property } = error.kind() {
                pointer = format!("{pointer}/{}", escape(property.as_str().unwrap_or_default()));
            }
            (pointer, error.to_string())
        })
        .collect();
    let Some((pointer, detail)) = errors.first().cloned() else { return Ok(()) };
    let errors = errors.into_iter().map(|(pointer, detail)| json!({ "pointer": pointer, "detail": detail })).collect();
    Err(Invalid { errors, ..Invalid::new(pointer, detail) })
}

/// The content that a type is: the very one, else the narrowest with a star.
fn pick<'a>(content: &'a Content, kind: &'a str) -> Option<(&'a str, Option<&'a Schema>)> {
    let family = kind.split('/').next().unwrap_or_default();
    let find = |wanted: &str| content.iter().find(|(known, _)| known == wanted);
    let found = find(kind).or_else(|| find(&format!("{family}/*"))).or_else(|| find("*/*"))?;
    Some((kind, found.1.as_ref()))
}

fn kind_of(header: Option<&HeaderValue>) -> Option<String> {
    let text = header?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn is_json(kind: &str) -> bool {
    kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
}

fn is_form(kind: &str) -> bool {
    kind == "application/x-www-form-urlencoded"
}

/// A pointer as the fragment of a reference.
fn fragment(pointer: &str) -> String {
    const ODD: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'%')
        .add(b'<')
        .add(b'>')
        .add(b'`')
        .add(b'{')
        .add(b'}')
        .add(b'#')
        .add(b'^')
        .add(b'|')
        .add(b'\\')
        .add(b'[')
        .add(b']');
    percent_encoding::utf8_percent_encode(pointer, ODD).to_string()
}
