//! `urocket-service.yaml`: the file as it is written, and what it comes to.
//!
//! [`file`] knows the words and nothing else; [`site`] looks at the machine: executables, directories,
//! the OpenAPI file. Whatever is wrong is found here, before a port is open.

pub mod file;
pub mod site;

use std::path::PathBuf;

pub use file::{Channel, Encoding, File, LogStdout, Mode, OnDisconnect, OnExit, Verb};
pub use site::{Route, Site};

use crate::command::CommandError;
use crate::openapi::OpenApiError;
use crate::template::TemplateError;

/// Why a stage does not start, or goes on with the file it had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("`{}` can not be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The parser's own words name the line and show it.
    #[error("`{}` is no configuration of a stage", path.display())]
    Yaml { path: PathBuf, source: Box<serde_saphyr::Error> },
    #[error("the path `{path}`")]
    Template { path: String, source: TemplateError },
    #[error("the paths `{0}` and `{1}` are the same")]
    Twins(String, String),
    #[error("{route}: {what}")]
    Route { route: String, what: String },
    #[error("{route}: the command")]
    Command { route: String, source: CommandError },
    #[error("`{key}`: {what}")]
    Value { key: &'static str, what: String },
    #[error(transparent)]
    OpenApi(#[from] OpenApiError),
    #[error("{0}, and --strict was asked for")]
    Strict(String),
}
