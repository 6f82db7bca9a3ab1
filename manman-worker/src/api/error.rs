//! Problems as answers, and bodies that are not what they should be.

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use manman_common::{Kind, Problem};
use serde::de::DeserializeOwned;

use crate::reconcile::ReconcileError;

const PROBLEM_JSON: &str = "application/problem+json";

/// What a handler answers when it can not do what it was asked.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) Problem);

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<ReconcileError> for ApiError {
    fn from(error: ReconcileError) -> Self {
        match error {
            ReconcileError::NoSuchServer(server) => Self(Problem::not_found("server", server)),
            ReconcileError::Closed => Self(Problem::new(Kind::Unavailable, "the worker is going down")),
            ReconcileError::RevisionGap { .. } => Self(Problem::new(Kind::Conflict, error.to_string())),
            ReconcileError::Store(ref source) => {
                let hint = source.hint();
                tracing::error!(error = error_chain(&error), "a request can not be stored");
                let problem = Problem::new(Kind::Unavailable, "the worker can not store it");
                Self(match hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                })
            }
        }
    }
}

impl ApiError {
    /// A fault of ours or of the machine: the cause goes to the log, a plain word to the caller.
    pub(crate) fn internal(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = error_chain(error), "{what}");
        Self(Problem::new(Kind::Internal, what))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response
    }
}

/// An error and all its causes, in one line.
pub(crate) fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Reads a JSON body; the error names the field at fault.
pub(crate) fn read_json<T: DeserializeOwned>(body: &Bytes) -> ApiResult<T> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| field_error(&error))?;
    json.end().map_err(|error| Problem::new(Kind::Invalid, format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// The same for JSON that has been read already.
pub(crate) fn read_value<T: DeserializeOwned>(value: serde_json::Value) -> ApiResult<T> {
    serde_path_to_error::deserialize(value).map_err(|error| field_error(&error).into())
}

fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = error.path().to_string();
    let inner = error.inner();
    let detail = if inner.is_syntax() || inner.is_eof() { format!("the body is not JSON: {inner}") } else { inner.to_string() };
    let problem = Problem::new(Kind::Invalid, detail);
    if path == "." { problem } else { problem.field(path) }
}

/// A query string that is not what it should be.
pub(crate) fn query_error(error: &axum::extract::rejection::QueryRejection) -> Problem {
    Problem::new(Kind::Invalid, error.body_text())
}

/// Refusals that the framework words itself (a body that is too long, a path that is no UTF-8)
/// leave as problems, too.
pub(super) async fn plain_refusals(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let kind = match response.status() {
        StatusCode::BAD_REQUEST => Kind::Invalid,
        StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Kind::UnsupportedMediaType,
        _ => return response,
    };
    if response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON) {
        return response;
    }
    // The framework's words are short; a body beyond this is none of its.
    let words = axum::body::to_bytes(response.into_body(), 1024).await.unwrap_or_default();
    ApiError(Problem::new(kind, String::from_utf8_lossy(&words).trim().to_owned())).into_response()
}
