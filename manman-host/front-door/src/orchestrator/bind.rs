//! Additional binds: a public origin, with or without a path, that shows a path of the waifu.

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::path::normalise;

/// `https://link.waifu/x` → `/link`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// As it was asked for.
    pub origin: String,
    pub https: bool,
    pub host: String,
    /// Where the origin names one; else any.
    pub port: Option<u16>,
    /// Empty, or begins with `/` and does not end with it.
    pub prefix: String,
    /// The same for the waifu's own side.
    pub path: String,
}

/// Why a bind was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Not an http(s) origin, or not a path.
    Invalid,
    /// Another waifu that lives has it.
    Taken,
    /// It is the front door's own.
    MainDomain,
}

/// A bind that was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rejected {
    pub bind: String,
    pub reason: Reason,
}

/// The hosts that no bind may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MainDomain {
    /// None stands for `*`: whatever is bound to nobody.
    name: Option<String>,
}

impl MainDomain {
    /// `*` or a host.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
        Self { name: (name != "*" && !name.is_empty()).then_some(name) }
    }

    /// Whether the main domain's paths are shown under this host.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        self.name.as_deref().is_none_or(|name| name == host)
    }

    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// With `*` a named host is more specific than the main domain. What a person types to get to the
    /// console on this machine is not.
    fn forbids(&self, host: &Host<&str>) -> bool {
        match host {
            Host::Domain(name) => self.name.as_deref() == Some(name) || *name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(_) | Host::Ipv6(_) => true,
        }
    }
}

impl Bind {
    pub fn parse(origin: &str, path: &str, main: &MainDomain) -> Result<Self, Reason> {
        if origin.len() > 1000 || path.len() > 1000 || origin.contains(['\\', '?', '#', '@']) || path.contains(['?', '#']) {
            return Err(Reason::Invalid);
        }
        // What the parser would tidy away is looked at first.
        let written_path = origin.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        let url = Url::parse(origin).map_err(|_| Reason::Invalid)?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(Reason::Invalid);
        }
        let host = url.host().ok_or(Reason::Invalid)?;
        if main.forbids(&host) {
            return Err(Reason::MainDomain);
        }
        Ok(Self {
            https: url.scheme() == "https",
            host: host.to_string().trim_end_matches('.').to_owned(),
            port: url.port(),
            prefix: exact(written_path.unwrap_or("/"))?,
            path: exact(path)?,
            origin: origin.to_owned(),
        })
    }

    /// Whether both can not be had by two waifus.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let Self { origin: _, https: _, host, port, prefix, path: _ } = self;
        *host == other.host && *prefix == other.prefix && (port.is_none() || other.port.is_none() || *port == other.port)
    }

    /// What of `path` lies below this bind, with its `/`; none where it does not.
    #[must_use]
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A path that is normal as it is written.
fn exact(path: &str) -> Result<String, Reason> {
    match normalise(path) {
        Ok(normal) if !normal.internal && normal.path == path => Ok(path.trim_end_matches('/').to_owned()),
        Ok(_) | Err(_) => Err(Reason::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w05_each_refusal_has_its_reason() {
        let (any, named) = (MainDomain::new("*"), MainDomain::new("House.example"));
        let bind = |origin: &str, path: &str| Bind::parse(origin, path, &any);
        let good = bind("https://Link.Waifu/x", "/link/").expect("a bind");
        assert_eq!((good.host.as_str(), good.port, good.prefix.as_str(), good.path.as_str()), ("link.waifu", None, "/x", "/link"));
        assert_eq!(bind("http://link.waifu:8080", "/").expect("a bind").port, Some(8080));
        for (origin, path) in [
            ("link.waifu", "/"),
            ("ftp://link.waifu", "/"),
            ("https://link.waifu", "link"),
            ("https://link.waifu", ""),
            ("https://link.waifu", "/a/../b"),
            ("https://link.waifu", "/__internal"),
            ("https://link.waifu", "/%5f_internal"),
            ("https://link.waifu/__internal", "/"),
            ("https://link.waifu/a/../b", "/"),
            ("https://link.waifu/a?b", "/"),
            ("https://u@link.waifu", "/"),
            ("https://", "/"),
        ] {
            assert_eq!(bind(origin, path), Err(Reason::Invalid), "{origin} {path}");
        }
        for origin in ["http://localhost", "http://127.0.0.1:8080", "http://[::1]"] {
            assert_eq!(bind(origin, "/"), Err(Reason::MainDomain), "{origin}");
        }
        assert_eq!(Bind::parse("https://house.example/x", "/", &named), Err(Reason::MainDomain));
        assert!(Bind::parse("https://other.example", "/", &named).is_ok());
    }

    #[test]
    fn w04_a_bind_ends_at_a_segment() {
        let bind = Bind::parse("https://link.waifu/a", "/", &MainDomain::default()).expect("a bind");
        assert_eq!(bind.rest("/a"), Some(""));
        assert_eq!(bind.rest("/a/b"), Some("/b"));
        assert_eq!(bind.rest("/ab"), None);
        let other = Bind { port: Some(1), ..bind.clone() };
        assert!(bind.collides(&other) && !other.collides(&Bind { port: Some(2), ..bind }));
    }
}
