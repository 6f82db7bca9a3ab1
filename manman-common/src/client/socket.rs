//! WebSockets to a host: the worker's link, logs and events.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, http};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::Problem;
use crate::client::{Client, ClientError, excerpt, pinned_config};
use crate::link::FRAME_MAX;

/// An open WebSocket.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A dead host must not hold a reconnecting worker for long.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

impl Client {
    /// Opens a WebSocket at `path`, which begins with `/` and may carry a query.
    pub async fn websocket(&self, path: &str) -> Result<Socket, ClientError> {
        let url = self.endpoint.join_socket(path)?;
        let failed = |source: Error| self.socket_error(source);
        let mut request = url.as_str().into_client_request().map_err(failed)?;
        if let Some(token) = &self.token {
            let bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        let connector = match self.endpoint.pin() {
            Some(pin) => {
                let config = pinned_config(pin).map_err(|source| ClientError::Setup { source: Box::new(source) })?;
                Some(Connector::Rustls(Arc::new(config)))
            }
            None => None,
        };
        let config = WebSocketConfig::default().max_message_size(Some(FRAME_MAX)).max_frame_size(Some(FRAME_MAX));
        let opening = connect_async_tls_with_config(request, Some(config), true, connector);
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(opened) => opened.map(|(socket, _)| socket).map_err(failed),
            Err(_) => Err(ClientError::Unreachable {
                url: self.endpoint.to_string(),
                source: format!("no answer within {} s", OPEN_TIMEOUT.as_secs()).into(),
            }),
        }
    }

    fn socket_error(&self, error: Error) -> ClientError {
        match error {
            Error::Http(response) => self.refused_upgrade(&response),
            Error::Io(source) => ClientError::Unreachable { url: self.endpoint.to_string(), source: Box::new(source) },
            other => ClientError::Socket { url: self.endpoint.to_string(), source: Box::new(other) },
        }
    }

    fn refused_upgrade(&self, response: &http::Response<Option<Vec<u8>>>) -> ClientError {
        let body = Response::body(response).as_deref().unwrap_or_default();
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => ClientError::Refused(Box::new(problem)),
            Err(_) => ClientError::Status { url: self.endpoint.to_string(), status: response.status().as_u16(), body: excerpt(body) },
        }
    }
}
