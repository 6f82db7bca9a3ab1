//! The registry: who is alive, and where. It answers on a host's internal listener alone.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;

use crate::client::{Client, ClientError, segment};
use crate::wire::registry::{Located, RegisterService, SelfRegister, Service, ServiceRecord};

/// All services, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Grows with each change: what to wait from.
    pub index: u64,
    pub items: BTreeMap<String, Service>,
}

/// What a wait may take longer than was asked for.
const GRACE: Duration = Duration::from_secs(10);

impl Client {
    /// Registers this program; the registry takes its address from the socket.
    pub async fn self_register(&self, body: &SelfRegister) -> Result<ServiceRecord, ClientError> {
        self.send(self.request(Method::PUT, "/self-register")?.json(body)).await
    }

    /// Registers any address; from the registry's own machine alone.
    pub async fn service_register(&self, body: &RegisterService) -> Result<ServiceRecord, ClientError> {
        self.send(self.request(Method::PUT, "/register")?.json(body)).await
    }

    pub async fn service_locate(&self, name: &str) -> Result<Located, ClientError> {
        self.send(self.request(Method::GET, &format!("/discover/{}", segment(name)))?).await
    }

    /// All services, those that do not answer included.
    pub async fn service_list(&self) -> Result<Services, ClientError> {
        self.services("/discover?verbose=1&all=1", Duration::ZERO).await
    }

    /// The same once something other than `index` is true, or after `wait`.
    pub async fn service_wait(&self, index: u64, wait: Duration) -> Result<Services, ClientError> {
        self.services(&format!("/discover?verbose=1&all=1&wait={}s&index={index}", wait.as_secs()), wait).await
    }

    async fn services(&self, path: &str, wait: Duration) -> Result<Services, ClientError> {
        let request = self.request(Method::GET, path)?.timeout(wait + GRACE);
        let (headers, body) = self.exchange_all(request).await?;
        let items = serde_json::from_slice(&body)
            .map_err(|source| ClientError::Answer { url: self.endpoint().to_string(), source: Box::new(source) })?;
        let index = headers.get("x-index").and_then(|index| index.to_str().ok()?.parse().ok()).unwrap_or_default();
        Ok(Services { index, items })
    }
}
