//! Asks a service for its name: `GET /health`.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use manman_common::wire::registry::ServiceName;
use serde::Deserialize;

use super::RegistryConfig;
use super::address::ip_text;
use super::state::Found;

/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 1024;

pub(super) struct Prober {
    http: reqwest::Client,
}

impl Prober {
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(config.probe_within)
            // Whoever redirects is not who was registered.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .user_agent(concat!("manman-registry/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http })
    }

    pub(super) async fn ask(&self, address: SocketAddr) -> Found {
        self.name(address).await.map_or(Found::Nothing, Found::Name)
    }

    /// The name that it answers with; `None` where there is no answer, or one that names nobody.
    async fn name(&self, address: SocketAddr) -> Option<String> {
        let ip = ip_text(address);
        let host = if address.is_ipv6() { format!("[{}]", ip.replace('%', "%25")) } else { ip };
        let response = self.http.get(format!("http://{host}:{}/health", address.port())).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.ok()?);
            if body.len() > ANSWER_MAX {
                return None;
            }
        }
        said(&body)
    }
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
