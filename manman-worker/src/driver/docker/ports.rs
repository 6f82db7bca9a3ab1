//! Whether a game has bound its ports, as its own network namespace shows it. Docker's proxy binds
//! the ports of the machine at once and so proves nothing.

use manman_common::spec::{PortSpec, Protocol};

use super::engine::{Engine, short};
use super::error;
use crate::driver::{DriverError, DriverErrorKind};

pub(super) async fn bound(engine: &Engine, container: &str, ports: &[PortSpec]) -> Result<bool, DriverError> {
    if ports.is_empty() {
        return engine.is_running(container).await;
    }
    let state = engine.inspect(container).await?.state.unwrap_or_default();
    let pid = state.pid.filter(|pid| *pid > 0 && state.running.unwrap_or(false));
    let Some(pid) = pid else {
        return Err(error::gone(format!("container {} does not run", short(container))));
    };
    let mut found = Vec::new();
    for (file, protocol) in [("udp", Protocol::Udp), ("udp6", Protocol::Udp), ("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp)] {
        // A kernel without IPv6 has no `udp6`; a worker that may not look learns it from `udp`.
        match tokio::fs::read_to_string(format!("/proc/{pid}/net/{file}")).await {
            Ok(table) => found.extend(local_ports(&table, protocol).map(|port| (protocol, port))),
            Err(_) if file.ends_with('6') => {}
            Err(source) => {
                return Err(DriverError {
                    kind: DriverErrorKind::Retry,
                    what: format!("the bound ports of container {} can not be seen in /proc/{pid}/net/{file}", short(container)),
                    hint: Some(
                        "the worker has to see the containers' processes: run it on the machine itself, or with `--pid=host`".to_owned(),
                    ),
                    source: Some(source.into()),
                });
            }
        }
    }
    Ok(ports.iter().all(|port| found.contains(&(port.protocol, port.inner_port()))))
}

/// The second column is `ADDRESS:PORT` in hex; for TCP the fourth has to be 0A, listening.
fn local_ports(table: &str, protocol: Protocol) -> impl Iterator<Item = u16> {
    table.lines().skip(1).filter_map(move |line| {
        let mut columns = line.split_ascii_whitespace();
        let (_, port) = columns.nth(1)?.rsplit_once(':')?;
        let state = columns.nth(1)?;
        match protocol {
            Protocol::Tcp if state != "0A" => None,
            Protocol::Tcp | Protocol::Udp => u16::from_str_radix(port, 16).ok(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_counts_and_a_connection_does_not() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     0: 00000000:6D38 00000000:0000 07 0:0\n\
                     1: 00000000:0050 00000000:0000 0A 0:0\n\
                     2: 0100007F:1F90 0100007F:0051 01 0:0\n";
        assert_eq!(local_ports(table, Protocol::Udp).collect::<Vec<_>>(), [27960, 80, 8080]);
        assert_eq!(local_ports(table, Protocol::Tcp).collect::<Vec<_>>(), [80]);
    }
}
