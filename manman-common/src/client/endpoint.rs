//! Where a host is: a URL, and the fingerprint of its certificate where nobody vouches for that.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// `https://192.168.1.10:8443#sha256=…`: the URL of a host and, after the `#`, the SHA-256 of its
/// certificate in hex, which then is the only one accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    pin: Option<[u8; 32]>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("`{0}` is not a host's address; write `http://ADDRESS:PORT` or `https://ADDRESS:PORT#sha256=FINGERPRINT`")]
    Url(String),
    #[error("`{0}` is not a certificate's fingerprint; that is `sha256=` and 64 hex digits")]
    Fingerprint(String),
    #[error("`{0}` is no path of the API")]
    Path(String),
}

impl Endpoint {
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// SHA-256 of the certificate (DER) that the host must show.
    #[must_use]
    pub fn pin(&self) -> Option<[u8; 32]> {
        self.pin
    }

    /// The URL of an absolute path, which may carry a query.
    pub fn join(&self, path: &str) -> Result<Url, EndpointError> {
        let base = self.url.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{path}")).map_err(|_| EndpointError::Path(path.to_owned()))
    }

    /// The same path as a WebSocket's URL.
    pub fn join_socket(&self, path: &str) -> Result<Url, EndpointError> {
        let mut url = self.join(path)?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).map_err(|()| EndpointError::Path(path.to_owned()))?;
        Ok(url)
    }

    /// Whether the host is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refuse = || EndpointError::Url(text.to_owned());
        // `192.168.1.10:8080` is what people type.
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&with_scheme).map_err(|_| refuse())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !url.username().is_empty() {
            return Err(refuse());
        }
        let pin = url.fragment().map(parse_pin).transpose()?;
        url.set_fragment(None);
        url.set_query(None);
        Ok(Self { url, pin })
    }
}

fn parse_pin(fragment: &str) -> Result<[u8; 32], EndpointError> {
    let refuse = || EndpointError::Fingerprint(fragment.to_owned());
    let hex: String = fragment.strip_prefix("sha256=").ok_or_else(refuse)?.chars().filter(|c| *c != ':').collect();
    if hex.len() != 64 || !hex.is_ascii() {
        return Err(refuse());
    }
    let mut pin = [0; 32];
    for (byte, digits) in pin.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| refuse())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| refuse())?;
    }
    Ok(pin)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))?;
        if let Some(pin) = self.pin {
            f.write_str("#sha256=")?;
            for byte in pin {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_paste() {
        let plain: Endpoint = "127.0.0.1:8080".parse().expect("an address is enough");
        assert_eq!(plain.to_string(), "http://127.0.0.1:8080");
        assert!(plain.is_loopback());
        assert_eq!(plain.join("/server?limit=1").expect("a path").as_str(), "http://127.0.0.1:8080/server?limit=1");
        assert_eq!(plain.join_socket("/event").expect("a path").as_str(), "ws://127.0.0.1:8080/event");

        let line = format!("https://192.168.1.10:8443#sha256={}", "ab".repeat(32));
        let pinned: Endpoint = line.parse().expect("a join line");
        assert_eq!(pinned.pin(), Some([0xab; 32]));
        assert_eq!(pinned.to_string(), line);

        for bad in ["", "ftp://x", "https://x#sha256=zz", "https://x#md5=00", "http://user@x", "https://"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
    }
}
