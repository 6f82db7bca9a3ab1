//! The formats. Each finds the bytes of one value and replaces them, or adds what is absent.
//!
//! No value may become more than a value: one that would end its line, its quotes or its brackets is
//! escaped where the format has a way to, and refused where it has none.

mod ini;
mod json;
mod line;
mod lines;
mod properties;
mod toml;
mod tree;
mod xml;
mod yaml;

use manman_common::spec::{FileEntry, FileFormat, FileValue};

use crate::Cause;

/// Brings `text`, the content of the file called `name`, to hold the entry.
pub(crate) fn set(text: &mut String, format: FileFormat, name: &str, entry: &FileEntry) -> Result<(), Cause> {
    let FileEntry { key, value } = entry;
    match format {
        FileFormat::Properties => properties::set(text, name, key, &as_text(value)),
        FileFormat::Ini => ini::set(text, key, &as_text(value)),
        FileFormat::Line => line::set(text, key, &as_text(value)),
        FileFormat::Json => json::set(text, key, value),
        FileFormat::Yaml => yaml::set(text, key, value),
        FileFormat::Toml => toml::set(text, key, value),
        FileFormat::Xml => xml::set(text, key, &as_text(value)),
    }
}

fn as_text(value: &FileValue) -> String {
    match value {
        FileValue::Truth(truth) => truth.to_string(),
        FileValue::Integer(number) => number.to_string(),
        FileValue::Text(text) => text.clone(),
    }
}
