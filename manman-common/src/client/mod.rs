//! The typed client of the host's API: one method per endpoint, shared by worker, tool and tests.

mod endpoint;
mod error;
mod fleet;
mod people;
mod pin;
mod registry;
mod resolve;
mod servers;
mod socket;
mod waifu;

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use endpoint::{Endpoint, EndpointError};
pub use error::ClientError;
pub use fleet::ListEvents;
pub use pin::pinned_config;
pub use registry::Services;
pub use resolve::{Found, Lookup, ResolveError, Resolver, Source};
pub use servers::{DeleteServer, ListServers, Power};
pub use socket::Socket;
pub use waifu::{HELLO_LEASE, Hello, Welcome, waifu_name};

use crate::Problem;

/// Long enough for a command's ten seconds at the worker, short enough to notice a dead host.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A host, and who we are to it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    token: Option<String>,
    http: reqwest::Client,
}

impl Client {
    /// A client for the host at `endpoint`; nothing is sent yet.
    pub fn new(endpoint: Endpoint, token: Option<String>) -> Result<Self, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = &token {
            let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry the token to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("manman/", env!("CARGO_PKG_VERSION")));
        if let Some(pin) = endpoint.pin() {
            builder =
                builder.tls_backend_preconfigured(pinned_config(pin).map_err(|source| ClientError::Setup { source: Box::new(source) })?);
        }
        let http = builder.build().map_err(|source| ClientError::Setup { source: Box::new(source) })?;
        Ok(Self { endpoint, token, http })
    }

    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Any request of the API; for the paths that have no method of their own.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, ClientError> {
        let mut request = self.request(method, path)?;
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    /// A request to `path`, which begins with `/` and may carry a query.
    pub(crate) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let url = self.endpoint.join(path)?;
        Ok(self.http.request(method, url).timeout(REQUEST_TIMEOUT))
    }

    pub(crate) async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let body = self.exchange(request).await?;
        // An empty body is what a 204 has; it reads as `null`, which is `()` and any `Option`.
        let json: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(json).map_err(|source| ClientError::Answer { url: self.endpoint.to_string(), source: Box::new(source) })
    }

    pub(crate) async fn exchange(&self, request: RequestBuilder) -> Result<bytes::Bytes, ClientError> {
        self.exchange_all(request).await.map(|(_, body)| body)
    }

    /// The same, with the answer's headers.
    pub(crate) async fn exchange_all(&self, request: RequestBuilder) -> Result<(HeaderMap, bytes::Bytes), ClientError> {
        let unreachable =
            |source: reqwest::Error| ClientError::Unreachable { url: self.endpoint.to_string(), source: Box::new(source.without_url()) };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok((headers, body));
        }
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => ClientError::Refused(Box::new(problem)),
            Err(_) => ClientError::Status { url: self.endpoint.to_string(), status: status.as_u16(), body: excerpt(&body) },
        })
    }
}

/// One path segment from text that may hold anything.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn excerpt(body: &[u8]) -> String {
    const SHOWN: usize = 200;
    String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned()
}
