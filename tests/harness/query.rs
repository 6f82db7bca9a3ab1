//! A query by somebody who knows nothing of manman.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use gamedig::protocols::types::TimeoutSettings;

/// Asks an OpenArena server on this machine for its map and its players.
pub async fn openarena(port: u16) -> Result<gamedig::protocols::quake::Response<gamedig::protocols::quake::two::Player>> {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let asked = tokio::task::spawn_blocking(move || {
        let wait = Duration::from_secs(2);
        let timeouts = TimeoutSettings::new(Some(wait), Some(wait), Some(wait), 2)?;
        gamedig::protocols::quake::three::query(&(address, port).into(), Some(timeouts))
    });
    asked.await?.with_context(|| format!("query port {port}"))
}
