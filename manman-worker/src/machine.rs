//! What this machine has and how busy it is, from cheap looks at `/proc`.

mod binding;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use manman_common::spec::Protocol;
use manman_common::wire::{Capabilities, DriverReport, MachineUsage};
use tokio::time::Instant;

use crate::config::Config;
pub use binding::this_machine;

/// Kernel ticks per second in `/proc/stat`; `sysconf(_SC_CLK_TCK)`, 100 on every Linux in use.
fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

/// Everything that a registration says of the machine.
#[must_use]
pub fn capabilities(config: &Config, data_dir: &Path, drivers: Vec<DriverReport>) -> Capabilities {
    Capabilities {
        drivers,
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory().map_or(0, |memory| memory.total),
        disk_free_bytes: disk_free(data_dir).unwrap_or(0),
        port_range: config.port_range.map(crate::config::PortRange::bounds),
        cgroup: cgroup_version().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        os: operating_system(),
        // Nothing here starts Windows builds yet.
        proton: None,
        public_address: config.public_address.map(|address| address.to_string()),
    }
}

/// Measures the machine's load between one look and the next.
#[derive(Debug, Default)]
pub struct UsageMeter {
    last: Mutex<Option<Look>>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    busy_ticks: u64,
    cpu_millis: u32,
}

/// Load over a shorter time is noise; whoever asks sooner is told what was measured last.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

impl UsageMeter {
    /// The usage now; the first look has no load to tell.
    pub fn measure(&self, data_dir: &Path) -> MachineUsage {
        MachineUsage {
            cpu_millis: self.cpu_millis().unwrap_or(0),
            memory_used_bytes: memory().map_or(0, |memory| memory.total.saturating_sub(memory.available)),
            disk_free_bytes: disk_free(data_dir).unwrap_or(0),
        }
    }

    fn cpu_millis(&self) -> Option<u32> {
        let mut last = self.last.lock().ok()?;
        let at = Instant::now();
        if let Some(last) = *last
            && at.duration_since(last.at) < MEASURE_EVERY
        {
            return Some(last.cpu_millis);
        }
        let busy = busy_ticks(&std::fs::read_to_string("/proc/stat").ok()?)?;
        let cpu_millis = last.and_then(|last| {
            let worked = u128::from(busy.saturating_sub(last.busy_ticks)) * 1_000_000 / u128::from(ticks_per_second());
            u32::try_from(worked.checked_div(at.duration_since(last.at).as_millis())?).ok()
        });
        *last = Some(Look { at, busy_ticks: busy, cpu_millis: cpu_millis.unwrap_or(0) });
        cpu_millis
    }
}

/// Ticks that all cores together have not been idle for.
fn busy_ticks(stat: &str) -> Option<u64> {
    let numbers = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = numbers.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; the guests that follow are in user already.
    let &[user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields.as_slice() else { return None };
    Some(user + nice + system + irq + softirq + steal)
}

struct Memory {
    total: u64,
    available: u64,
}

fn memory() -> Option<Memory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    };
    Some(Memory { total: field("MemTotal")?, available: field("MemAvailable")? })
}

/// Bytes of memory that this machine has.
#[must_use]
pub fn memory_total() -> Option<u64> {
    memory().map(|memory| memory.total)
}

/// The disk that a directory is on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub total: u64,
    pub used: u64,
}

#[must_use]
pub fn disk(path: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Disk { total: bytes(stat.f_blocks), used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)) })
}

#[must_use]
pub fn disk_free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// `v2`, `v1` or `none`: what this machine's cgroups are.
#[must_use]
pub fn cgroup_version() -> &'static str {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        "v2"
    } else if root.join("memory").exists() || root.join("pids").exists() {
        "v1"
    } else {
        "none"
    }
}

fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// The machine's own address in its home network: that of the interface which the default route
/// leaves by, without a packet being sent; else a private one of any interface.
#[must_use]
pub fn primary_address() -> Option<Ipv4Addr> {
    // Connecting a datagram socket asks the routing table and nothing else. The address is one
    // reserved for documentation.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    let routed = match routed {
        Ok(address) => match address.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        },
        Err(_) => None,
    };
    routed.filter(is_reachable).or_else(|| {
        let table = std::fs::read_to_string("/proc/net/fib_trie").ok()?;
        local_addresses(&table).into_iter().find(|address| is_reachable(address) && address.is_private())
    })
}

fn is_reachable(address: &Ipv4Addr) -> bool {
    // 172.17.0.0/16 is the bridge that Docker makes where nobody told it otherwise.
    let docker = matches!(address.octets(), [172, 17, ..]);
    !(address.is_unspecified() || address.is_loopback() || address.is_link_local() || docker)
}

/// The addresses that the kernel's table marks as this machine's own.
fn local_addresses(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut last = None;
    let mut found = Vec::new();
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = last
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// Whether somebody on this machine has the port. Tried by binding it on all interfaces, which is
/// how games and Docker's proxy take theirs.
#[must_use]
pub fn port_is_busy(protocol: Protocol, port: u16) -> bool {
    let busy = |address: IpAddr| {
        let address = SocketAddr::new(address, port);
        let error = match protocol {
            Protocol::Udp => UdpSocket::bind(address).err(),
            Protocol::Tcp => TcpListener::bind(address).err(),
        };
        // A machine without IPv6, or a port that we may not take, is no sign of somebody else.
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    };
    busy(Ipv4Addr::UNSPECIFIED.into()) || busy(Ipv6Addr::UNSPECIFIED.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something() {
        let meter = UsageMeter::default();
        meter.measure(Path::new("/"));
        let usage = meter.measure(Path::new("/"));
        assert!(usage.memory_used_bytes > 0 && usage.disk_free_bytes > 0);
        let capabilities = capabilities(&Config::new("/"), Path::new("/"), Vec::new());
        assert!(capabilities.cpus > 0 && capabilities.memory_bytes > usage.memory_used_bytes);
    }

    #[test]
    fn idle_time_is_not_work() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 500 8 16 32 64 128\ncpu0 1"), Some(63));
        assert_eq!(busy_ticks("cpu 1 2"), None);
    }

    #[test]
    fn finds_own_addresses_in_the_kernels_table() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.168.1.0\n        /24 link UNICAST\n     \
                     |-- 192.168.1.10\n        /32 host LOCAL\n";
        let found = local_addresses(table);
        assert_eq!(found, [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(192, 168, 1, 10)]);
    }

    #[test]
    fn a_bound_port_is_busy() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("there are free ports");
        let port = socket.local_addr().expect("it is bound").port();
        assert!(port_is_busy(Protocol::Udp, port));
        drop(socket);
        assert!(!port_is_busy(Protocol::Udp, port));
    }
}
