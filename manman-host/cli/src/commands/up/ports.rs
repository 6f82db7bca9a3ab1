//! Whether a listener's port is free, and who has it where it is not.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use crate::failure::Failure;

/// State 0A of `/proc/net/tcp` is LISTEN.
const LISTEN: &str = "0A";

/// Refuses before anything is started. Port 0 takes any.
pub(crate) fn check(option: &str, address: SocketAddr) -> Result<(), Failure> {
    let Err(error) = TcpListener::bind(address) else { return Ok(()) };
    let failure = Failure::new(format!("could not listen on {address}"));
    let port = address.port();
    Err(match error.kind() {
        ErrorKind::AddrInUse => {
            let who = listener(port).map_or_else(|| "somebody else".to_owned(), |(name, pid)| format!("`{name}` (pid {pid})"));
            failure.why(format!("port {port} is taken by {who}")).hint(format!(
                "choose another with {option} {}, or any free one with port 0",
                SocketAddr::new(address.ip(), port.saturating_add(1))
            ))
        }
        ErrorKind::PermissionDenied => {
            failure.because(&error).hint(format!("ports below 1024 are root's; choose a higher one with {option}"))
        }
        ErrorKind::AddrNotAvailable => {
            failure.because(&error).hint(format!("this machine does not have that address; choose another with {option}"))
        }
        _ => failure.because(&error),
    })
}

/// The program that listens on a TCP port, where we may know it.
pub(crate) fn listener(port: u16) -> Option<(String, u32)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: HashSet<String> = tables.iter().flat_map(|table| listening_inodes(table, port)).collect();
    if inodes.is_empty() {
        return None;
    }
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Other people's processes are not for us to look into.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |link: std::path::PathBuf| {
            let text = link.to_string_lossy();
            text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).is_some_and(|inode| inodes.contains(inode))
        };
        if descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok()).any(holds) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((name.trim().to_owned(), pid));
        }
    }
    None
}

fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            (local.ends_with(&wanted) && *state == LISTEN).then(|| (*inode).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_who_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("its address");
        let failure = check("--public", address).expect_err("it is taken");
        assert!(failure.message.contains(&address.to_string()));
        assert!(failure.causes[0].contains(&format!("(pid {})", std::process::id())), "{:?}", failure.causes);
        assert!(failure.hint.expect("a hint").contains("--public"));
        drop(taken);
        check("--public", address).expect("it is free again");
    }
}
