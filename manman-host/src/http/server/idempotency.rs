//! `Idempotency-Key`: the same request sent twice is done once, and answered alike.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use manman_common::{Kind, Problem, Timestamp, TokenId};
use sqlx::PgConnection;

use crate::db::idempotency::{Kept, idempotency_begin, idempotency_find, idempotency_keep};
use crate::http::error::ApiResult;

/// The request's key, bound to who sent it and to what was sent.
pub(super) struct Key {
    token: TokenId,
    key: String,
    request_hash: [u8; 32],
}

/// What a key may be replaced by, at most.
const KEY_MAX: usize = 255;

impl Key {
    pub(super) fn of(headers: &HeaderMap, token: TokenId, request_hash: [u8; 32]) -> ApiResult<Option<Self>> {
        let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
        let key = value.to_str().unwrap_or_default();
        if key.is_empty() || key.len() > KEY_MAX {
            return Err(Problem::invalid("Idempotency-Key", format!("a key has 1 to {KEY_MAX} printable characters")).into());
        }
        Ok(Some(Self { token, key: key.to_owned(), request_hash }))
    }

    /// The answer that this request was given before.
    pub(super) async fn replay(&self, conn: &mut PgConnection) -> ApiResult<Option<Response>> {
        let Some(kept) = idempotency_find(conn, self.token, &self.key).await? else { return Ok(None) };
        if kept.request_hash != self.request_hash {
            return Err(Problem::new(Kind::Conflict, "the key was used for another request")
                .field("Idempotency-Key")
                .hint("use a fresh key for each thing that you want done")
                .into());
        }
        Ok(Some(answer(kept)))
    }

    /// Claims the key in the transaction of the request itself; false if somebody else has it now.
    pub(super) async fn claim(&self, conn: &mut PgConnection, now: Timestamp) -> ApiResult<bool> {
        Ok(idempotency_begin(conn, self.token, &self.key, &self.request_hash, now).await?)
    }

    pub(super) async fn keep(
        &self,
        conn: &mut PgConnection,
        status: StatusCode,
        body: &serde_json::Value,
        location: &str,
    ) -> ApiResult<()> {
        Ok(idempotency_keep(conn, self.token, &self.key, status.as_u16(), body, location).await?)
    }
}

fn answer(kept: Kept) -> Response {
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let mut response = (status, axum::Json(kept.body)).into_response();
    if let Some(location) = kept.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    response
}
