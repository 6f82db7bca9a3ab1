//! Where a service is, by whatever knows it: what was said outright, the environment, the registry,
//! the registry's last answer, and at last whoever answers on the local network.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::Kind;
use crate::client::{Client, ClientError, Endpoint, EndpointError};
use crate::wire::registry::{Located, ServiceName};

/// Asks the local network how to reach a service; `None` where nobody answers in time.
pub type Lookup = Arc<dyn Fn(ServiceName) -> Pin<Box<dyn Future<Output = Option<Endpoint>> + Send>> + Send + Sync>;

/// Finds services by name. Everything in it is optional: a program that was told an address needs
/// nobody else.
#[derive(Clone, Default)]
pub struct Resolver {
    registry: Option<Client>,
    cache: Option<PathBuf>,
    network: Option<Lookup>,
}

/// Who knew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Explicit,
    Environment,
    Registry,
    /// The registry's last answer, from a file: the registry itself does not answer.
    Cache,
    Network,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub endpoint: Endpoint,
    pub source: Source,
}

#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("the address of `{name}` ({said_by}) can not be used")]
    Address { name: ServiceName, said_by: String, source: EndpointError },
    #[error("`{name}` is not to be found: {tried}")]
    NotFound { name: ServiceName, tried: String },
}

/// A registry is near; one that takes longer is as good as down.
const REGISTRY_WITHIN: Duration = Duration::from_secs(3);
/// Names that are remembered; beyond it the file begins anew.
const CACHED_MAX: usize = 1000;

impl Resolver {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks this registry.
    pub fn registry(self, endpoint: Endpoint) -> Result<Self, ClientError> {
        Ok(Self { registry: Some(Client::new(endpoint, None)?), ..self })
    }

    /// Remembers the registry's answers in this file.
    #[must_use]
    pub fn cache(self, file: impl Into<PathBuf>) -> Self {
        Self { cache: Some(file.into()), ..self }
    }

    /// Asks the local network last.
    #[must_use]
    pub fn network(self, lookup: Lookup) -> Self {
        Self { network: Some(lookup), ..self }
    }

    /// The variable that names a service's address: `MANMAN_SERVICE_LINKS` of `links`.
    #[must_use]
    pub fn variable(name: &ServiceName) -> String {
        let upper = name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        format!("MANMAN_SERVICE_{}", upper.collect::<String>())
    }

    /// Where `name` is; `explicit` is what the program was told, and wins.
    pub async fn resolve(&self, name: &ServiceName, explicit: Option<&str>) -> Result<Found, ResolveError> {
        self.resolve_in(name, explicit, |variable| std::env::var(variable).ok()).await
    }

    async fn resolve_in(
        &self,
        name: &ServiceName,
        explicit: Option<&str>,
        environment: impl FnOnce(&str) -> Option<String>,
    ) -> Result<Found, ResolveError> {
        let read = |text: &str, said_by: &str, source| match text.parse() {
            Ok(endpoint) => Ok(Found { endpoint, source }),
            Err(source) => Err(ResolveError::Address { name: name.clone(), said_by: said_by.to_owned(), source }),
        };
        if let Some(text) = explicit {
            return read(text, "as it was given", Source::Explicit);
        }
        let variable = Self::variable(name);
        if let Some(text) = environment(&variable).filter(|text| !text.is_empty()) {
            return read(&text, &variable, Source::Environment);
        }
        let mut tried = vec![format!("{variable} is not set")];
        if let Some(registry) = &self.registry {
            match tokio::time::timeout(REGISTRY_WITHIN, registry.service_locate(name.as_str())).await {
                Ok(Ok(located)) => {
                    self.remember(name, &located);
                    return read(&authority(&located), "as the registry has it", Source::Registry);
                }
                // It knows that the service is not there: what it once knew is worth nothing.
                Ok(Err(ClientError::Refused(problem))) if problem.kind == Kind::NotFound => {
                    tried.push(format!("the registry at {} does not have it", registry.endpoint()));
                }
                Ok(Err(_)) | Err(_) => {
                    tried.push(format!("the registry at {} does not answer", registry.endpoint()));
                    if let Some(located) = self.remembered(name) {
                        return read(&authority(&located), "as the registry once had it", Source::Cache);
                    }
                }
            }
        }
        if let Some(network) = &self.network {
            if let Some(endpoint) = network(name.clone()).await {
                return Ok(Found { endpoint, source: Source::Network });
            }
            tried.push("nobody on the network answers to it".to_owned());
        }
        Err(ResolveError::NotFound { name: name.clone(), tried: tried.join(", ") })
    }

    fn remembered(&self, name: &ServiceName) -> Option<Located> {
        read_cache(self.cache.as_deref()?).remove(name.as_str())
    }

    /// A file that can not be written costs nobody more than the next answer.
    fn remember(&self, name: &ServiceName, located: &Located) {
        let Some(file) = self.cache.as_deref() else { return };
        let mut known = read_cache(file);
        if known.get(name.as_str()) == Some(located) {
            return;
        }
        if known.len() >= CACHED_MAX {
            known.clear();
        }
        known.insert(name.to_string(), located.clone());
        let _ = write_cache(file, &known);
    }
}

fn authority(located: &Located) -> String {
    if located.ip.contains(':') { format!("[{}]:{}", located.ip, located.port) } else { format!("{}:{}", located.ip, located.port) }
}

fn read_cache(file: &Path) -> BTreeMap<String, Located> {
    std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write_cache(file: &Path, known: &BTreeMap<String, Located>) -> std::io::Result<()> {
    // Programs that share the file each write a successor of their own.
    let fresh = file.with_extension(format!("{}.new", std::process::id()));
    let mut out = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    out.write_all(&serde_json::to_vec(known)?)?;
    out.sync_all()?;
    std::fs::rename(&fresh, file)
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("registry", &self.registry.as_ref().map(|client| client.endpoint().to_string()))
            .field("cache", &self.cache)
            .field("network", &self.network.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests;
