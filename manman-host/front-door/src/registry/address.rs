//! Addresses as they are compared and shown: one text for each, whichever way it came in.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An IPv4 address in IPv6's clothes is that IPv4 address. A scope belongs to link-local addresses
/// alone, where it is part of who it is; the flow label is never part of it.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match (address.ip().to_canonical(), address) {
        (IpAddr::V6(ip), SocketAddr::V6(full)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, full.port(), 0, full.scope_id()).into()
        }
        (ip, _) => SocketAddr::new(ip, address.port()),
    }
}

/// The `ip` of an answer: `192.168.1.7`, `fd00::7`, `fe80::7%2`.
#[must_use]
pub fn ip_text(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(full) if full.scope_id() != 0 => format!("{}%{}", full.ip(), full.scope_id()),
        _ => address.ip().to_string(),
    }
}

/// Reads what [`ip_text`] writes.
#[must_use]
pub fn parse(ip: &str, port: u16) -> Option<SocketAddr> {
    let address = match ip.split_once('%') {
        Some((ip, scope)) => SocketAddrV6::new(ip.parse::<Ipv6Addr>().ok()?, port, 0, scope.parse().ok()?).into(),
        None => SocketAddr::new(ip.parse().ok()?, port),
    };
    Some(canonical(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_for_each() {
        for (said, text) in [
            ("[::ffff:10.0.0.5]:80", "10.0.0.5"),
            ("10.0.0.5:80", "10.0.0.5"),
            ("[fe80::7%2]:80", "fe80::7%2"),
            ("[fd00::7%2]:80", "fd00::7"),
            ("[::1]:80", "::1"),
        ] {
            let address = canonical(said.parse().expect("an address"));
            assert_eq!(ip_text(address), text, "{said}");
            assert_eq!(parse(text, 80), Some(address), "{said}");
        }
        assert_eq!(parse("fe80::7%eth0", 80), None);
        assert_ne!(parse("fe80::7%2", 80), parse("fe80::7%3", 80));
    }
}
