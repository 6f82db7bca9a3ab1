//! Ports that nobody else in this run has.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Result, anyhow};

/// A port free for UDP and TCP. Each process of the run looks in a stretch of its own, away from
/// the kernel's range for outgoing connections, so that two stories never meet.
pub fn free_port() -> Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // 180 stretches of 64 ports from 20000 on.
    let stretch = 20_000 + (std::process::id() % 180) as u16 * 64;
    for _ in 0..64 {
        let port = stretch + NEXT.fetch_add(1, Ordering::Relaxed) % 64;
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if free {
            return Ok(port);
        }
    }
    Err(anyhow!("no free port among the 64 from {stretch}"))
}
