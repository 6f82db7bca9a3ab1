//! Where a waifu is: what its hello says as `host`, read once.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::path::normalise;

/// An upstream: `http://links:3000/base`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub https: bool,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or a path that begins with `/` and does not end with it.
    pub base: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("`{0}` is not the name or the URL of a host; write `links`, `links:3000` or `http://links:3000/base`")]
    Syntax(String),
    #[error("only http and https can be forwarded to, not `{0}`")]
    Scheme(String),
    #[error("a host has no user, query or fragment")]
    Extra,
    #[error("port 0 is nobody's")]
    Port,
    #[error("the path of the host is not one that can be forwarded to")]
    Base,
    #[error("`{0}` is an address that nothing is forwarded to")]
    Address(IpAddr),
}

impl Target {
    /// Reads `links`, `links:3000`, `10.0.0.5:80`, `[::1]:8080` and `http(s)://host:port/base`.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let syntax = || TargetError::Syntax(text.chars().take(100).collect());
        if text.is_empty() || text.len() > 1000 || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(syntax());
        }
        let whole = match (text.split_once("://"), text.parse::<Ipv6Addr>()) {
            (Some((scheme, _)), _) => {
                if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
                    return Err(TargetError::Scheme(scheme.chars().take(20).collect()));
                }
                text.to_owned()
            }
            (None, Ok(address)) => format!("http://[{address}]"),
            (None, Err(_)) => format!("http://{text}"),
        };
        let url = Url::parse(&whole).map_err(|_| syntax())?;
        if !url.username().is_empty() || url.password().is_some() || whole.contains(['?', '#', '@']) {
            return Err(TargetError::Extra);
        }
        let host = match url.host().ok_or_else(syntax)? {
            Host::Domain(name) => {
                let name = name.trim_end_matches('.');
                if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
                    return Err(syntax());
                }
                name.to_owned()
            }
            Host::Ipv4(address) => {
                refuse_address(address.into())?;
                address.to_string()
            }
            Host::Ipv6(address) => {
                refuse_address(address.into())?;
                format!("[{address}]")
            }
        };
        let https = url.scheme() == "https";
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(TargetError::Port)?;
        let base = base(url.path())?;
        if !base.is_empty() && !text.contains("://") {
            return Err(syntax());
        }
        Ok(Self { https, host, port, base })
    }

    /// `host:port`, as the upstream's URI has it.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The address, where the host is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}{}", if self.https { "https" } else { "http" }, self.host, self.port, self.base)
    }
}

fn base(path: &str) -> Result<String, TargetError> {
    let normal = normalise(path).map_err(|_| TargetError::Base)?;
    if normal.internal {
        return Err(TargetError::Base);
    }
    Ok(normal.path.trim_end_matches('/').to_owned())
}

fn refuse_address(address: IpAddr) -> Result<(), TargetError> {
    if is_forbidden(address) { Err(TargetError::Address(address)) } else { Ok(()) }
}

/// What no waifu lives at: the metadata services of clouds (169.254.0.0/16, `fd00:ec2::254`), and
/// addresses that are nobody's or everybody's.
#[must_use]
pub fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast() || v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w03_the_forms_of_a_host() {
        for (text, wanted) in [
            ("links", "http://links:80"),
            ("links:3000", "http://links:3000"),
            ("Links", "http://links:80"),
            ("10.0.0.5:80", "http://10.0.0.5:80"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("::1", "http://[::1]:80"),
            ("http://links", "http://links:80"),
            ("https://links", "https://links:443"),
            ("http://h:81/base/", "http://h:81/base"),
            ("https://h:444/a/../b", "https://h:444/b"),
            ("my_service:1", "http://my_service:1"),
        ] {
            assert_eq!(Target::parse(text).map(|target| target.to_string()).as_deref(), Ok(wanted), "{text}");
        }
        for bad in [
            "",
            "a b",
            "ftp://h",
            "file:///etc/passwd",
            "http://u:p@h",
            "u@h",
            "http://h?x",
            "http://h#x",
            "h:0",
            "h:99999",
            "h/base",
            "169.254.169.254",
            "http://[::ffff:169.254.169.254]/",
            "http://0xa9fea9fe/",
            "0.0.0.0:80",
            "http://h/__internal",
            "http://h/%5f_internal/x",
            "http://",
            "unix:/run/x",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}: {:?}", Target::parse(bad));
        }
    }
}
