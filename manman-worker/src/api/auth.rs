//! Who may call: the host over its link, and whoever has the worker's own token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use manman_common::{InstanceId, Kind, Problem};

use super::error::ApiError;
use crate::app::Worker;

/// Marks a request that came over the link, where the host has checked the caller. It travels as
/// an extension of the request, which nothing on a socket can set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FromHost;

/// The one instance that a call is meant for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpectInstance(pub(crate) InstanceId);

pub(super) async fn require_token(State(worker): State<Arc<Worker>>, request: Request, next: Next) -> Response {
    let from_host = request.extensions().get::<FromHost>().is_some();
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer "));
    if from_host || token.is_some_and(|token| same(token.trim(), &worker.api_token)) {
        return next.run(request).await;
    }
    let detail = match token {
        Some(_) => "this token is not known to the worker",
        None => "the worker's own token is needed, as `Authorization: Bearer …`",
    };
    let problem = Problem::new(Kind::Unauthenticated, detail).hint("it is in the file `api-token` of the worker's data directory");
    ApiError(problem).into_response()
}

/// Compares in a time that does not depend on where the two differ.
fn same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let differing = left.iter().zip(right).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differing) == 0 && left.len() == right.len()
}

#[cfg(test)]
mod tests {
    #[test]
    fn equal_is_all_of_it() {
        assert!(super::same("mm_api_x", "mm_api_x"));
        assert!(!super::same("mm_api_x", "mm_api_y"));
        assert!(!super::same("mm_api_", "mm_api_x"));
        assert!(!super::same("", "mm_api_x"));
    }
}
