//! Who else is on the network.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use manman_common::client::{Endpoint, Lookup};
use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};

use crate::{HOST_NAME, MdnsError, SERVICE_TYPE, TXT_FINGERPRINT, TXT_NAME, TXT_URL, TXT_VERSION};

/// A home has one host or two. More are a joke or an attack, and are not listened to.
const HOSTS_MAX: usize = 16;
const ADDRESSES_MAX: usize = 8;
/// Of what a stranger calls itself so much is shown.
const TEXT_MAX: usize = 64;
/// A machine on the same network answers at once.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
const LOOKUP_WITHIN: Duration = Duration::from_secs(2);

/// A host as it was announced, by itself or by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundHost {
    /// Fit to be printed.
    pub name: String,
    pub version: String,
    /// With the announced certificate pinned.
    pub endpoint: Endpoint,
    pub address: SocketAddr,
}

/// Listens for `limit` and returns who was heard and answers.
pub async fn find(limit: Duration) -> Result<Vec<FoundHost>, MdnsError> {
    let failed = MdnsError::of("look for hosts");
    let browsing = Browsing(ServiceDaemon::new().map_err(&failed)?);
    let events = browsing.0.browse(SERVICE_TYPE).map_err(&failed)?;
    let mut heard: Vec<(String, Candidates)> = Vec::new();
    let listening = async {
        while let Ok(event) = events.recv_async().await {
            match event {
                ServiceEvent::ServiceResolved(service) => {
                    let Some(candidates) = Candidates::read(&service) else { continue };
                    heard.retain(|(name, _)| *name != service.fullname);
                    if heard.len() < HOSTS_MAX {
                        heard.push((service.fullname.clone(), candidates));
                    }
                }
                ServiceEvent::ServiceRemoved(_, name) => heard.retain(|(known, _)| *known != name),
                _ => {}
            }
        }
    };
    // Cancel-safe: what was heard is kept outside.
    let _ = tokio::time::timeout(limit, listening).await;
    let mut found: Vec<FoundHost> = Vec::new();
    for (_, candidates) in heard {
        if let Some(host) = candidates.first_to_answer().await
            && found.iter().all(|known| known.endpoint != host.endpoint)
        {
            found.push(host);
        }
    }
    Ok(found)
}

/// The last step of a [`Resolver`](manman_common::client::Resolver): a host by its name, or the
/// only one there is as `manman-host`.
#[must_use]
pub fn lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let mut found = find(LOOKUP_WITHIN).await.ok()?;
            found.retain(|host| name.as_str() == HOST_NAME || host.name == name.as_str());
            match &found[..] {
                [host] => Some(host.endpoint.clone()),
                _ => None,
            }
        })
    })
}

struct Browsing(ServiceDaemon);

impl Drop for Browsing {
    fn drop(&mut self) {
        let _ = self.0.shutdown();
    }
}

/// One announcement, and every place where it may be reached.
struct Candidates {
    name: String,
    version: String,
    places: Vec<(SocketAddr, Endpoint)>,
}

impl Candidates {
    /// Nothing where the announcement makes no sense.
    fn read(service: &ResolvedService) -> Option<Self> {
        let text = |key| service.get_property_val_str(key);
        let addresses = service.get_addresses().iter().map(mdns_sd::ScopedIp::to_ip_addr).take(ADDRESSES_MAX);
        Self::of(text(TXT_NAME), text(TXT_VERSION), text(TXT_URL)?, text(TXT_FINGERPRINT), addresses.collect(), service.get_port())
    }

    /// The announced URL tells how to speak with the host. Where it is, the addresses tell: a host
    /// with several can not know which of them we reach.
    fn of(
        name: Option<&str>,
        version: Option<&str>,
        url: &str,
        fingerprint: Option<&str>,
        mut addresses: Vec<IpAddr>,
        port: u16,
    ) -> Option<Self> {
        let announced: Endpoint = url.parse().ok()?;
        let scheme = announced.url().scheme();
        let pin = match (scheme, fingerprint) {
            ("https", Some(fingerprint)) => format!("#sha256={fingerprint}"),
            ("https" | "http", None) => String::new(),
            // A fingerprint that nobody checks would be a promise that nobody keeps.
            _ => return None,
        };
        // An IPv6 address of one link alone has no form in a URL.
        addresses.retain(|address| match address {
            IpAddr::V4(address) => !address.is_unspecified() && !address.is_multicast(),
            IpAddr::V6(address) => !address.is_unspecified() && !address.is_multicast() && !address.is_unicast_link_local(),
        });
        let said = announced.url().host_str().unwrap_or_default();
        addresses.sort_by_key(|address| (address.to_string() != said, address.is_loopback(), address.is_ipv6(), *address));
        let places: Vec<_> = addresses
            .into_iter()
            .filter_map(|address| {
                let address = SocketAddr::new(address, port);
                Some((address, format!("{scheme}://{address}{pin}").parse().ok()?))
            })
            .collect();
        let name = name.map(printable).filter(|name| !name.is_empty()).unwrap_or_else(|| "a host".to_owned());
        (!places.is_empty()).then(|| Self { name, version: version.map(printable).unwrap_or_default(), places })
    }

    async fn first_to_answer(self) -> Option<FoundHost> {
        let Self { name, version, places } = self;
        for (address, endpoint) in places {
            if answers(address).await {
                return Some(FoundHost { name, version, endpoint, address });
            }
        }
        None
    }
}

async fn answers(address: SocketAddr) -> bool {
    matches!(tokio::time::timeout(CONNECT_WITHIN, tokio::net::TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// A stranger's text goes to people's terminals.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, fingerprint: Option<&str>, addresses: &[&str]) -> Option<Vec<String>> {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        let candidates = Candidates::of(Some("attic"), Some("1"), url, fingerprint, addresses, 8443)?;
        Some(candidates.places.iter().map(|(_, endpoint)| endpoint.to_string()).collect())
    }

    #[test]
    fn the_announced_address_comes_first_and_the_certificate_is_pinned() {
        let pin = "ab".repeat(32);
        let places = read("https://10.0.0.2:8443", Some(&pin), &["127.0.0.1", "10.0.0.1", "10.0.0.2", "fe80::1"]).expect("it makes sense");
        let wanted = ["10.0.0.2", "10.0.0.1", "127.0.0.1"].map(|address| format!("https://{address}:8443#sha256={pin}"));
        assert_eq!(places, wanted);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let pin = "ab".repeat(32);
        assert_eq!(read("http://10.0.0.2:1", Some(&pin), &["10.0.0.2"]), None, "nobody would check the fingerprint");
        assert_eq!(read("ftp://10.0.0.2", None, &["10.0.0.2"]), None);
        assert_eq!(read("https://10.0.0.2", Some("zz"), &["10.0.0.2"]), None);
        assert_eq!(read("https://10.0.0.2", Some(&pin), &["224.0.0.1", "0.0.0.0", "fe80::1"]), None);
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}\n"), "a[2Jb");
    }
}
