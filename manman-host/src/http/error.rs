//! What a handler can fail with: public words and a private cause, kept apart.
//!
//! The status is the kind's own ([`Kind::status`]), the one match there is. The cause goes to the
//! host's log under the request's id and never to the client.

use std::error::Error;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use manman_common::{Kind, Problem};

#[derive(Clone, Debug)]
pub struct ApiError {
    // Boxed: a handler's result is moved about far more often than it is an error.
    pub problem: Box<Problem>,
    pub cause: Option<Arc<dyn Error + Send + Sync>>,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// A bug or a broken part of ours; `doing` says what was tried and stays in the log.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Problem::new(Kind::Internal, "the host could not do this").hint("its log has the reason, under this request's id").with_cause(cause)
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.problem.kind
    }
}

/// Adds the private cause to a public problem.
pub trait WithCause {
    fn with_cause(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> ApiError;
}

impl WithCause for Problem {
    fn with_cause(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> ApiError {
        ApiError { problem: Box::new(self), cause: Some(Arc::from(cause.into())) }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), cause: None }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => {
                Problem::new(Kind::Unavailable, "the host's database does not answer").retry_after(5).with_cause(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = problem_response(&self.problem);
        // The outermost layer logs the cause and writes the request's id into the body.
        response.extensions_mut().insert(self);
        response
    }
}

pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Longest text in an answer that refuses something, in bytes.
const TEXT_MAX: usize = 4096;

pub(crate) fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Most repeat what they refuse, and that may be as long as a body.
    let cut =
        |text: &String| if text.len() > TEXT_MAX { text.chars().take(TEXT_MAX / 4).chain("…".chars()).collect() } else { text.clone() };
    let problem = &Problem { detail: cut(&problem.detail), field: problem.field.as_ref().map(cut), ..problem.clone() };
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.kind == Kind::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
