//! Asks a service for its name: `GET /health`.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use manman_common::wire::registry::ServiceName;
use serde::Deserialize;
use tokio::net::TcpStream;

use super::state::Found;

const AGENT: &str = concat!("manman-registry/", env!("CARGO_PKG_VERSION"));

/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 1024;

/// Asks that address itself, whatever form it would have in a URL; nobody is followed elsewhere.
pub(super) async fn ask(address: SocketAddr, within: Duration) -> Found {
    let name = tokio::time::timeout(within, name(address)).await;
    name.ok().flatten().map_or(Found::Nothing, Found::Name)
}

/// The name that it answers with; `None` where there is no answer, or one that names nobody.
async fn name(address: SocketAddr) -> Option<String> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let authority = if address.is_ipv6() { format!("[{}]:{}", address.ip(), address.port()) } else { address.to_string() };
    let request = Request::get("/health").header(header::HOST, authority).header(header::USER_AGENT, AGENT).body(Body::empty()).ok()?;
    let asking = async {
        let response = sender.send_request(request).await.ok().filter(|response| response.status().is_success())?;
        Some(Limited::new(response.into_body(), ANSWER_MAX).collect().await.ok()?.to_bytes())
    };
    // Cancel-safe: whichever ends first, nothing more is wanted of the other.
    let body = tokio::select! {
        biased;
        body = asking => body,
        _ = async { let _ = connection.await; std::future::pending::<()>().await } => None,
    };
    said(&body?)
}

#[derive(Deserialize)]
struct Answer {
    name: String,
}

/// A name by itself, as text or as JSON text, or `{"name": …}`.
fn said(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let name = match serde_json::from_str::<Answer>(text) {
        Ok(answer) => answer.name,
        Err(_) => serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned()),
    };
    // A page or an object without a name says nothing of who it is.
    let is_word = !name.is_empty() && !name.starts_with(['{', '[', '<']) && name.len() <= 4 * ServiceName::MAX;
    is_word.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_text_and_as_json() {
        for body in ["links", " links\n", "\"links\"", r#"{"name":"links","up":1}"#] {
            assert_eq!(said(body.as_bytes()).as_deref(), Some("links"), "{body}");
        }
        for body in ["", "{}", "<html></html>", r#"{"status":"ok"}"#] {
            assert_eq!(said(body.as_bytes()), None, "{body}");
        }
        assert_eq!(said(b"ok").as_deref(), Some("ok"));
        assert_eq!(said(b"\xff\xfe"), None);
    }
}
