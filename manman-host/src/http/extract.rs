//! What handlers take from a request, with answers that name the field at fault.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use bytes::Bytes;
use manman_common::{Kind, Problem};
use manman_front_door::json::{self, Limits};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::error::ApiError;

/// A body of JSON. What is wrong with it is told by `read`, which a handler calls once it knows
/// that the caller may speak at all.
pub struct Json<T>(Result<T, ApiError>);

/// The same where the body may say nothing: it is empty, `null` or `{}`.
pub struct OptionalJson<T>(Result<Option<T>, ApiError>);

/// The same together with the SHA-256 of its bytes, by which a repeated request is known.
pub struct HashedJson<T>(Result<(T, [u8; 32]), ApiError>);

impl<T> Json<T> {
    pub fn read(self) -> Result<T, ApiError> {
        self.0
    }
}

impl<T> OptionalJson<T> {
    pub fn read(self) -> Result<Option<T>, ApiError> {
        self.0
    }
}

impl<T> HashedJson<T> {
    pub fn read(self) -> Result<(T, [u8; 32]), ApiError> {
        self.0
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(json_of(request).await.and_then(|body| parse(&body))))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJson<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(json_of(request).await.and_then(|body| match body.trim_ascii() {
            b"" | b"null" | b"{}" => Ok(None),
            said => parse(said).map(Some),
        })))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for HashedJson<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(json_of(request).await.and_then(|body| Ok((parse(&body)?, Sha256::digest(&body).into())))))
    }
}

async fn json_of(request: Request) -> Result<Bytes, ApiError> {
    require_json(&request)?;
    body_of(request).await
}

/// Curl calls everything that it posts a form unless told otherwise, so a form's type is read as
/// JSON, too; no route of ours takes a form, and pages of others are refused by their origin.
fn require_json(request: &Request) -> Result<(), ApiError> {
    let Some(kind) = request.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || kind.ends_with("+json") || kind == "application/x-www-form-urlencoded" {
        return Ok(());
    }
    Err(Problem::new(Kind::UnsupportedMediaType, format!("the body is `{kind}`, and only JSON is read here"))
        .hint("send the header `Content-Type: application/json`")
        .into())
}

/// Longest body that is read, in bytes.
pub(super) const BODY_MAX: usize = 1024 * 1024;
const LIMITS: Limits = Limits { longest: BODY_MAX, discarded: 16 * BODY_MAX, within: Duration::from_secs(30) };

async fn body_of(request: Request) -> Result<Bytes, ApiError> {
    json::read(request, LIMITS).await.map_err(ApiError::from)
}

/// Reads JSON, and says at which field it went wrong.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    json::parse(body).map_err(ApiError::from)
}

/// The part of the address after `?`.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map_err(|rejection| Problem::new(Kind::Invalid, rejection.body_text().replace("Failed to deserialize query string: ", "")))?;
        Ok(Self(query.0))
    }
}

/// One named part of the path.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::new(Kind::NotFound, format!("the path is not understood: {}", rejection.body_text())))?;
        Ok(Self(path.0))
    }
}
