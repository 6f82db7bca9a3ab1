//! `POST /ports/check`: which of these ports are taken on this machine.

use axum::Json;
use axum::body::Bytes;
use manman_common::spec::Protocol;
use manman_common::wire::PortRequest;
use manman_common::{Kind, Problem};
use serde::{Deserialize, Serialize};

use super::error::{ApiError, ApiResult, read_json};
use crate::machine;

/// Ports that one request may ask about: two binds each, of some microseconds.
const PORTS_MAX: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckPorts {
    ports: Vec<PortRequest>,
}

/// Those of the ports asked about that somebody on this machine has.
#[derive(Debug, Serialize)]
pub(super) struct BusyPorts {
    busy: Vec<BusyPort>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct BusyPort {
    protocol: Protocol,
    port: u16,
}

pub(super) async fn check(body: Bytes) -> ApiResult<Json<BusyPorts>> {
    let CheckPorts { ports } = read_json(&body)?;
    if ports.len() > PORTS_MAX {
        return Err(Problem::invalid("ports", format!("at most {PORTS_MAX} ports at once, not {}", ports.len())).into());
    }
    let mut asked = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        let number = u16::try_from(port.port).ok().filter(|number| *number != 0).ok_or_else(|| {
            Problem::invalid(format!("ports[{index}].port"), format!("{} is not a port; there are 1 to 65535", port.port))
        })?;
        asked.push(BusyPort { protocol: port.protocol.unwrap_or(Protocol::Udp), port: number });
    }
    let busy =
        tokio::task::spawn_blocking(move || asked.into_iter().filter(|asked| machine::port_is_busy(asked.protocol, asked.port)).collect())
            .await
            .map_err(|_| ApiError(Problem::new(Kind::Internal, "the ports could not be looked at")))?;
    Ok(Json(BusyPorts { busy }))
}
