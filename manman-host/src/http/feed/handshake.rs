//! The opening of a WebSocket whose frames we write ourselves.
//!
//! Axum's keeps a buffer as large as the largest message for each socket, which a snapshot of a
//! fleet would be; here a message leaves in fragments straight from the text that all share.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use manman_common::{Kind, Problem};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The answer that opens the socket, and the socket once it has left.
pub(super) fn open(request: &mut Request) -> Result<(Response, OnUpgrade), Problem> {
    let headers = request.headers();
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let mut response = Response::new(Body::empty());
    if request.version() == Version::HTTP_2 {
        // An extended CONNECT (RFC 8441).
        let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
        if request.method() != Method::CONNECT || protocol != Some("websocket") || version != Some(b"13") {
            return Err(refused());
        }
    } else {
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
        let (Some(key), true) = (key, asks(headers, &header::CONNECTION, "upgrade") && asks(headers, &header::UPGRADE, "websocket")) else {
            return Err(refused());
        };
        if version != Some(b"13") {
            return Err(refused());
        }
        let accept = HeaderValue::try_from(derive_accept_key(key)).map_err(|_| refused())?;
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let into = response.headers_mut();
        into.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        into.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        into.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(refused)?;
    Ok((response, upgrade))
}

fn refused() -> Problem {
    Problem::new(Kind::Invalid, "this is a WebSocket, and the request opens none")
}

fn asks(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
}
