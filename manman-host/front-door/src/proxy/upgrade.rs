//! WebSockets: asked for over HTTP/1 or HTTP/2, forwarded over HTTP/1, and from then on bytes.
//!
//! Any other upgrade is not asked for: what a waifu then spoke, nobody here could check.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;

use super::link::Link;
use crate::clock;

/// A WebSocket that the client wants.
pub(super) enum Upgrade {
    /// HTTP/1: `Connection: Upgrade`.
    Switch,
    /// HTTP/2: an extended CONNECT (RFC 8441), for which we make up the key.
    Connect,
}

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Bytes on their way in one direction.
const BUFFER: usize = 16 * 1024;

pub(super) fn wanted(request: &Request<Body>) -> Option<Upgrade> {
    if request.method() == Method::CONNECT {
        let protocol = request.extensions().get::<Protocol>()?;
        return protocol.as_str().eq_ignore_ascii_case("websocket").then_some(Upgrade::Connect);
    }
    let headers = request.headers();
    let upgrade = headers.get_all(header::UPGRADE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named = connection.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    (upgrade && named && request.version() == Version::HTTP_11 && request.method() == Method::GET).then_some(Upgrade::Switch)
}

impl Upgrade {
    /// Puts into the waifu's request what asks for the socket.
    pub(super) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, WEBSOCKET);
        match self {
            Self::Switch => {}
            Self::Connect => {
                let key = BASE64.encode(&clock::random_secret()[..16]);
                if let Ok(key) = HeaderValue::from_str(&key) {
                    headers.insert(header::SEC_WEBSOCKET_KEY, key);
                }
            }
        }
    }

    /// The waifu has agreed: answers the client, and from then on carries bytes both ways.
    pub(super) fn join(
        self,
        mut response: Response<Incoming>,
        (client, link): (OnUpgrade, Link),
        permit: OwnedSemaphorePermit,
        strip_hops: impl Fn(&mut HeaderMap),
    ) -> Response<Body> {
        let waifu = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let _permit = permit;
            let waifu = async {
                link.finish().await;
                waifu.await
            };
            let (client, waifu) = match tokio::try_join!(client, waifu) {
                Ok(both) => both,
                Err(error) => {
                    tracing::debug!(%error, "a socket did not come about");
                    return;
                }
            };
            let (mut client, mut waifu) = (TokioIo::new(client), TokioIo::new(waifu));
            // Either side may vanish without a word; that is the end of both.
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut waifu, BUFFER, BUFFER).await;
        });
        let mut answer = Response::new(Body::empty());
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        strip_hops(answer.headers_mut());
        match self {
            Self::Switch => {
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                answer.headers_mut().insert(header::UPGRADE, WEBSOCKET);
            }
            Self::Connect => {
                answer.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
            }
        }
        answer
    }
}
