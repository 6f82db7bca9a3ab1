//! OpenAPI 3.0 and 3.1, read as it is: parameters and bodies against their schemas, in and out.
//!
//! The schemas are judged by the `jsonschema` crate under draft 2020-12, which is what OpenAPI 3.1
//! says; a document of 3.0 is brought to that first (`nullable`, boolean `exclusiveMinimum`, `$ref`
//! that hides its neighbours). What the request side may not see (`readOnly`) is not required there,
//! and the other way round.

mod dialect;
mod document;
mod validate;
mod value;

use std::path::PathBuf;

pub use document::{Document, Operation};
pub use validate::{Incoming, Invalid, Outgoing, Validator};

#[derive(Debug, thiserror::Error)]
pub enum OpenApiError {
    #[error("`{}` can not be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{}` is no OpenAPI document", path.display())]
    Yaml { path: PathBuf, source: Box<serde_saphyr::Error> },
    #[error("`{}` is no OpenAPI document: {what}", path.display())]
    Document { path: PathBuf, what: String },
    #[error("{operation}: the schema at `{place}`: {what}")]
    Schema { operation: String, place: String, what: String },
    #[error("{operation}: `{reference}` leads nowhere")]
    Reference { operation: String, reference: String },
}
