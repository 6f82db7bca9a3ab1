//! Bodies of JSON, read within bounds, with faults that name the field.

use std::time::Duration;

use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use manman_common::{Kind, Problem};
use serde::de::DeserializeOwned;

/// How much of a body is read, and how long is waited for it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In bytes.
    pub longest: usize,
    /// So much of a longer one is read and thrown away: who still sends hears no answer.
    pub discarded: usize,
    pub within: Duration,
}

impl Limits {
    /// For a name, an address and a few notes.
    pub(crate) const SMALL: Self = Self { longest: 64 * 1024, discarded: 1024 * 1024, within: Duration::from_secs(10) };
}

/// All of a body.
pub async fn read(request: Request, limits: Limits) -> Result<Bytes, Problem> {
    match tokio::time::timeout(limits.within, read_all(request, limits)).await {
        Ok(body) => body,
        Err(_) => Err(Problem::new(Kind::Invalid, format!("the body did not come within {} s", limits.within.as_secs()))),
    }
}

async fn read_all(request: Request, limits: Limits) -> Result<Bytes, Problem> {
    let mut stream = request.into_body().into_data_stream();
    let mut body = BytesMut::new();
    let mut length = 0;
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| Problem::new(Kind::Invalid, "the body could not be read to its end"))?;
        length += piece.len();
        if length <= limits.longest {
            body.extend_from_slice(&piece);
        } else if length > limits.discarded {
            break;
        }
    }
    if length > limits.longest {
        return Err(Problem::new(Kind::TooLarge, format!("the body is larger than {} KiB", limits.longest / 1024)));
    }
    Ok(body.freeze())
}

/// Reads JSON, and says at which field it went wrong.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| field_problem(&error))?;
    reader.end().map_err(|error| Problem::new(Kind::Invalid, format!("the body is not JSON: {error}")))?;
    Ok(value)
}

fn field_problem(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let cause = error.inner();
    if cause.is_syntax() || cause.is_eof() {
        return Problem::new(Kind::Invalid, format!("the body is not JSON: {cause}"));
    }
    let path = error.path().to_string();
    let problem = Problem::new(Kind::Invalid, without_position(&cause.to_string()));
    if path == "." { problem } else { problem.field(path) }
}

/// The place in the text says nothing to somebody who is told the field.
fn without_position(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |at| &message[..at])
}
