//! The port on the loopback: chosen once and kept, since others note it down.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use super::{PostgresError, place};
use crate::clock;

const FILE: &str = "port";
/// Below the range from which the kernel gives ports to whoever connects somewhere.
const FIRST: u16 = 20_000;
const COUNT: u64 = 12_000;
const TRIES: usize = 50;

/// The port of the last time if it is still free, else another one.
pub(super) fn choose(home: &Path) -> Result<u16, PostgresError> {
    let path = home.join(FILE);
    let last = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u16>().ok());
    if let Some(port) = last.filter(|port| is_free(*port)) {
        return Ok(port);
    }
    if let Some(port) = last {
        tracing::warn!(port, "the database's port is taken by somebody else; it moves to another one");
    }
    let random = || u16::try_from(clock::random_below(COUNT)).ok().map(|offset| FIRST + offset);
    let port = std::iter::repeat_with(random).take(TRIES).flatten().find(|port| is_free(*port));
    let port = port.ok_or(PostgresError::Internal { doing: "find a free port for the database" })?;
    place::write_whole(&path, &format!("{port}\n"), None)?;
    Ok(port)
}

fn is_free(port: u16) -> bool {
    port != 0 && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
