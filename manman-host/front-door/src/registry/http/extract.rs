//! What handlers take from a request: who asks, and what a body says.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use manman_common::{Kind, Problem};
use serde::de::DeserializeOwned;

use super::super::Registry;
use super::super::address::canonical;
use super::Refusal;
use crate::json::{Limits, parse, read};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// The socket's other end; behind a trusted proxy, the address that the proxy names.
    pub(super) address: SocketAddr,
    /// The port is a trusted proxy's own.
    pub(super) proxied: bool,
    /// The socket's other end is on this machine, and asks for nobody else.
    pub(super) is_local: bool,
}

impl Peer {
    pub(super) fn of(request: &Request, registry: &Registry) -> Option<Self> {
        Self::read(request.extensions(), request.headers(), &registry.0.config.trusted_proxies)
    }

    fn read(extensions: &Extensions, headers: &HeaderMap, trusted: &[IpAddr]) -> Option<Self> {
        let ConnectInfo(socket) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        let socket = canonical(*socket);
        let forwarded = headers.keys().any(|name| name == "forwarded" || name.as_str().starts_with("x-forwarded-"));
        let named = if trusted.contains(&socket.ip()) { named_by_proxy(headers, trusted) } else { None };
        Some(Self {
            address: named.map_or(socket, |ip| canonical(SocketAddr::new(ip, socket.port()))),
            proxied: named.is_some(),
            is_local: socket.ip().is_loopback() && !forwarded,
        })
    }
}

/// The last address in the list that is no trusted proxy: whatever stands before it may be made up.
fn named_by_proxy(headers: &HeaderMap, trusted: &[IpAddr]) -> Option<IpAddr> {
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
    let named: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    for text in named.into_iter().rev() {
        let ip = text.parse::<IpAddr>().ok()?.to_canonical();
        if !trusted.contains(&ip) {
            return Some(ip);
        }
    }
    None
}

impl FromRequestParts<Registry> for Peer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, registry: &Registry) -> Result<Self, Refusal> {
        Self::read(&parts.extensions, &parts.headers, &registry.0.config.trusted_proxies)
            .ok_or_else(|| Problem::new(Kind::Internal, "the caller's address is not known").into())
    }
}

/// A body of JSON, whatever its type is called: curl calls all that it sends a form.
pub(super) struct Json<T>(Result<T, Refusal>);

impl<T> Json<T> {
    pub(super) fn read(self) -> Result<T, Refusal> {
        self.0
    }
}

const LIMITS: Limits = Limits { longest: 16 * 1024, ..Limits::SMALL };

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(read(request, LIMITS).await.and_then(|body| parse(&body)).map_err(Refusal::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(socket: &str, headers: &[(&'static str, &str)], trusted: &[&str]) -> Peer {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(socket.parse::<SocketAddr>().expect("an address")));
        let headers = headers.iter().map(|(name, value)| ((*name).parse().expect("a name"), value.parse().expect("a value"))).collect();
        let trusted: Vec<IpAddr> = trusted.iter().map(|ip| ip.parse().expect("an address")).collect();
        Peer::read(&extensions, &headers, &trusted).expect("a peer")
    }

    #[test]
    fn l07_only_a_trusted_proxy_speaks_for_another() {
        let claims = [("x-forwarded-for", "6.6.6.6, 10.0.0.9, ::ffff:10.0.0.2")];
        let stranger = peer("10.0.0.1:5", &claims, &[]);
        assert_eq!((stranger.address.to_string(), stranger.proxied), ("10.0.0.1:5".to_owned(), false));
        // What stands before the last stranger may be made up.
        let proxied = peer("[::ffff:10.0.0.1]:5", &claims, &["10.0.0.1", "10.0.0.2"]);
        assert_eq!((proxied.address.ip().to_string(), proxied.proxied), ("10.0.0.9".to_owned(), true));
        assert!(!peer("10.0.0.1:5", &[("x-forwarded-for", "nonsense")], &["10.0.0.1"]).proxied);
    }

    #[test]
    fn l13_local_is_a_socket_of_this_machine_that_asks_for_nobody_else() {
        assert!(peer("127.0.0.1:5", &[], &[]).is_local);
        assert!(peer("[::ffff:127.0.0.1]:5", &[], &[]).is_local);
        assert!(peer("[::1]:5", &[], &[]).is_local);
        assert!(!peer("192.168.1.7:5", &[], &[]).is_local);
        for header in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
            assert!(!peer("127.0.0.1:5", &[(header, "x")], &["127.0.0.1"]).is_local, "{header}");
        }
    }
}
