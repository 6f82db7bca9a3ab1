//! Where a request comes from: for the audit, for the brakes on guessing, and for cookies.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};

use crate::app::App;
use crate::config::Tls;

/// Longest name of a browser that is kept, in characters.
const USER_AGENT_MAX: usize = 256;

/// Who is at the other end, as far as the connection tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address of the socket's peer, or what a proxy that is trusted says of it.
    pub peer: IpAddr,
    /// Whether the way to us is encrypted, here or at that proxy.
    pub https: bool,
}

impl Client {
    pub(super) fn of(app: &App, extensions: &Extensions, headers: &HeaderMap) -> Self {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.0.ip().to_canonical());
        let trusted = |ip: IpAddr| app.config.front_door.trusted_proxies.iter().any(|network| network.contains(ip));
        let https = app.config.tls != Tls::Off;
        if !trusted(peer) {
            return Self { peer, https };
        }
        // Each proxy adds its own peer at the end: the last that is no proxy of ours is the client.
        let said = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(','));
        let said: Vec<IpAddr> = said.map_while(|address| address.trim().parse().ok()).map(|ip: IpAddr| ip.to_canonical()).collect();
        let client = said.iter().rev().find(|ip| !trusted(**ip)).or(said.first()).copied().unwrap_or(peer);
        let scheme = headers.get("x-forwarded-proto").and_then(|scheme| scheme.to_str().ok());
        Self { peer: client, https: scheme.map_or(https, |scheme| scheme.trim().eq_ignore_ascii_case("https")) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(Self { peer: IpAddr::V4(Ipv4Addr::LOCALHOST), https: false }))
    }
}

/// What the browser calls itself, fit to be shown in a list.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    let text: String = text.chars().filter(|c| !c.is_control()).take(USER_AGENT_MAX).collect();
    (!text.is_empty()).then_some(text)
}
