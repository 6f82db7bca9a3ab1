//! Where others reach a worker, as far as a registration and its socket tell.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use manman_common::Problem;
use reqwest::Url;

/// The address that the worker names, else its socket's peer; where that is loopback or a bridge
/// of containers, the worker is on this machine and has this machine's address.
pub(super) fn address(named: Option<&str>, peer: IpAddr) -> Result<String, Problem> {
    if let Some(named) = named {
        let named = named.trim();
        if !is_host(named) {
            return Err(Problem::invalid("ip-address", format!("`{}` is neither an IP address nor the name of a host", excerpt(named))));
        }
        return Ok(named.to_owned());
    }
    if peer.is_loopback() || peer.is_unspecified() || is_bridge(peer) {
        return Ok(primary_address().unwrap_or(peer).to_string());
    }
    Ok(peer.to_string())
}

/// The URL of the worker's own listener, from `api-url`, or from `api-port` and the address.
pub(super) fn api_url(url: Option<&str>, port: Option<u16>, address: &str) -> Result<Option<String>, Problem> {
    let Some(text) = url else {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        return Ok(port.map(|port| format!("http://{host}:{port}")));
    };
    let url = Url::parse(text.trim()).map_err(|why| Problem::invalid("api-url", format!("`{}` is no URL: {why}", excerpt(text))))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Problem::invalid("api-url", "it begins with http:// or https:// and names a host, such as http://192.168.1.10:9000"));
    }
    // The host asks there with its own rights on its network.
    if url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok()).is_some_and(manman_front_door::orchestrator::is_forbidden)
    {
        return Err(Problem::invalid("api-url", "it is an address at which no worker listens"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(Problem::invalid("api-url", "it has neither a user, a query nor a fragment"));
    }
    Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
}

fn is_host(text: &str) -> bool {
    let name = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text.split('.').all(|label| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
    };
    text.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified()) || text.parse::<IpAddr>().is_err() && name(text)
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Whether the way to this address leads over a bridge that Docker or Podman has made.
fn is_bridge(peer: IpAddr) -> bool {
    let IpAddr::V4(peer) = peer else { return false };
    // A machine without /proc is none of ours; its peers are taken at their word.
    std::fs::read_to_string("/proc/net/route").is_ok_and(|table| bridge_in(&table, peer))
}

fn bridge_in(table: &str, peer: Ipv4Addr) -> bool {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    let routes = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (interface, destination) = (fields.next()?, hex(fields.next()?)?);
        let mask = hex(fields.nth(5)?)?;
        Some((interface, destination, mask))
    });
    let best = routes.filter(|(_, destination, mask)| u32::from(peer) & mask == *destination).max_by_key(|(_, _, mask)| *mask);
    let bridges = ["docker", "br-", "veth", "podman", "cni"];
    best.is_some_and(|(interface, _, _)| bridges.iter().any(|bridge| interface.starts_with(bridge)))
}

/// The address from which this machine would reach the outside; no packet is sent.
fn primary_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // 192.0.2.1 is reserved for documentation: nobody is there, and the default route leads there.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 7));

    #[test]
    fn a_named_address_wins_and_is_looked_at() {
        assert_eq!(address(Some("10.0.0.5"), LAN).as_deref(), Ok("10.0.0.5"));
        assert_eq!(address(Some("attic.lan"), LAN).as_deref(), Ok("attic.lan"));
        assert_eq!(address(Some("fe80::1"), LAN).as_deref(), Ok("fe80::1"));
        for bad in ["", "0.0.0.0", "a b", "http://x", "a/b", "-..-", "x\n"] {
            let refused = address(Some(bad), LAN);
            assert!(bad == "x\n" || refused.is_err_and(|problem| problem.field.as_deref() == Some("ip-address")), "{bad:?}");
        }
        assert_eq!(address(None, LAN).as_deref(), Ok("192.168.1.7"));
    }

    #[test]
    fn a_url_or_a_port() {
        let of = |url: Option<&str>, port| api_url(url, port, "10.0.0.5");
        assert_eq!(of(Some("http://10.0.0.5:9000/"), None), Ok(Some("http://10.0.0.5:9000".to_owned())));
        assert_eq!(of(None, Some(9000)), Ok(Some("http://10.0.0.5:9000".to_owned())));
        assert_eq!(api_url(None, Some(9), "::1"), Ok(Some("http://[::1]:9".to_owned())));
        assert_eq!(of(None, None), Ok(None));
        for bad in ["9000", "ftp://a", "http://user:pw@a", "http://a?x=1", "not a url"] {
            assert!(of(Some(bad), None).is_err_and(|problem| problem.field.as_deref() == Some("api-url")), "{bad}");
        }
    }

    #[test]
    fn the_longest_route_says_whether_it_is_a_bridge() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                     eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert!(bridge_in(table, Ipv4Addr::new(172, 17, 0, 3)));
        assert!(!bridge_in(table, Ipv4Addr::new(192, 168, 1, 7)));
        assert!(!bridge_in(table, Ipv4Addr::new(8, 8, 8, 8)));
    }
}
