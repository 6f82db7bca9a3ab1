//! Whether a game's ports are free on the real machine: whoever has them, of ours or not.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use manman_common::spec::{PortSpec, Protocol};

/// The instance before this one may have ended a moment ago, and its proxy with it.
const FREED_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// The first port that stays taken, if any does.
pub(super) async fn first_taken(ports: &[PortSpec]) -> Option<&PortSpec> {
    let deadline = tokio::time::Instant::now() + FREED_WITHIN;
    loop {
        let taken = ports.iter().find(|port| is_taken(port.protocol, port.port));
        if taken.is_none() || tokio::time::Instant::now() >= deadline {
            return taken;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tries to take the port on all addresses, of both families one after the other, and lets go.
fn is_taken(protocol: Protocol, port: u16) -> bool {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    [v4, v6].into_iter().any(|address| {
        let result = match protocol {
            Protocol::Udp => UdpSocket::bind(address).map(drop),
            Protocol::Tcp => TcpListener::bind(address).map(drop),
        };
        // Any other refusal (no IPv6 here, a port that only root may have) says nothing of others.
        result.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: Protocol, port: u16) -> PortSpec {
        PortSpec { name: "game".to_owned(), protocol, port, container_port: None }
    }

    #[tokio::test]
    async fn sees_who_holds_a_port_on_either_family() {
        let v4 = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let taken = port(Protocol::Udp, v4.local_addr().expect("bound").port());
        assert_eq!(first_taken(std::slice::from_ref(&taken)).await, Some(&taken));
        drop(v4);
        assert_eq!(first_taken(&[taken]).await, None);
        let Ok(v6) = TcpListener::bind("[::1]:0") else { return };
        let taken = port(Protocol::Tcp, v6.local_addr().expect("bound").port());
        assert_eq!(first_taken(std::slice::from_ref(&taken)).await, Some(&taken));
    }
}
