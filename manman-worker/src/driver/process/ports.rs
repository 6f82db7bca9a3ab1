//! Whether a game has bound its ports. It shares the machine's network, so a port counts only where
//! its socket is open in a process of the game.

use std::collections::BTreeSet;

use manman_common::spec::{PortSpec, Protocol};
use manman_worker_core::Instance;

use super::usage::pids;
use crate::driver::DriverError;
use crate::driver::shim::rundir::RunDir;
use crate::driver::shim::{gone, retry};

/// Blocks on the kernel's files.
pub(super) fn bound(run: &RunDir, instance: &Instance, wanted: &[PortSpec]) -> Result<bool, DriverError> {
    let pids = pids(run, instance);
    if pids.is_empty() {
        return Err(gone("the game does not run"));
    }
    if wanted.is_empty() {
        return Ok(true);
    }
    let own: BTreeSet<u64> = pids.into_iter().flat_map(sockets).collect();
    let mut found = BTreeSet::new();
    for (file, protocol) in [("udp", Protocol::Udp), ("udp6", Protocol::Udp), ("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp)] {
        match std::fs::read_to_string(format!("/proc/net/{file}")) {
            Ok(table) => found.extend(rows(&table, protocol).filter(|(_, inode)| own.contains(inode)).map(|(port, _)| (protocol, port))),
            // A kernel without IPv6.
            Err(_) if file.ends_with('6') => {}
            Err(error) => return Err(retry(format!("could not read /proc/net/{file}"), error)),
        }
    }
    Ok(wanted.iter().all(|port| found.contains(&(port.protocol, port.port))))
}

/// The inodes of the sockets that a process has open.
fn sockets(pid: i32) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let inode = |entry: std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.flatten().filter_map(inode).collect()
}

/// Port and inode of each socket that takes what comes: the second column is `ADDRESS:PORT` in hex,
/// the fourth has to be 0A (listening) for TCP, the tenth is the inode.
fn rows(table: &str, protocol: Protocol) -> impl Iterator<Item = (u16, u64)> {
    table.lines().skip(1).filter_map(move |line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, port) = columns.get(1)?.rsplit_once(':')?;
        match protocol {
            Protocol::Tcp if *columns.get(3)? != "0A" => return None,
            Protocol::Tcp | Protocol::Udp => {}
        }
        Some((u16::from_str_radix(port, 16).ok()?, columns.get(9)?.parse().ok()?))
    })
}
