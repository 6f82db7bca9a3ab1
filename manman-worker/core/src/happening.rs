//! What the transitions have to tell: the worker's events, without time, number and server.

use manman_common::status::ExitRecord;
use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// `server.started`, `server.crashed`, …
    pub kind: &'static str,
    /// A sentence for people.
    pub message: String,
    pub data: Value,
}

impl Happening {
    #[must_use]
    pub fn new(kind: &'static str, message: impl Into<String>, data: Value) -> Self {
        Self { kind, message: message.into(), data }
    }

    pub(crate) fn ended(kind: &'static str, verb: &str, exit: &ExitRecord, data: Value) -> Self {
        let mut data = data;
        if let Value::Object(map) = &mut data {
            map.insert("exit".to_owned(), json!(exit));
        }
        Self::new(kind, format!("{verb}: {}", describe(exit)), data)
    }
}

/// An end in words: `exit code 1`, `signal 9, out of memory`.
#[must_use]
pub(crate) fn describe(exit: &ExitRecord) -> String {
    let mut words = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => "exit code unknown".to_owned(),
    };
    match &exit.reason {
        Some(reason) => {
            words.push_str(", ");
            words.push_str(reason);
        }
        None if exit.oom => words.push_str(", out of memory"),
        None => {}
    }
    words
}
