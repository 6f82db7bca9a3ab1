//! Leases of the registry: how fast one is renewed, and what ten thousand weigh.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use manman_e2e::{Home, Program, Result, binary};
use manman_front_door::registry::{HostLease, Keep, Registry, RegistryConfig};
use serde_json::json;
use tokio::process::Command;
use uuid::Uuid;

use crate::row;
use crate::stats::{megabytes, resident};

const NAMES: u32 = 10_000;
const RENEWALS: u32 = 500_000;

fn lease(number: u32) -> Option<HostLease> {
    let ip = Ipv4Addr::from(0x0a00_0000 + number);
    Some(HostLease {
        name: format!("service-{number:05}").parse().ok()?,
        address: SocketAddr::from((ip, 8000)),
        id: Uuid::from_u128(number.into()),
        expire: 3600,
        tags: Vec::new(),
    })
}

/// In one process, all names held: the whole way that a request goes once it is read.
pub(crate) fn renew() {
    let registry = Registry::new(RegistryConfig::default(), Keep::Nowhere);
    let leases: Vec<HostLease> = (0..NAMES).filter_map(lease).collect();
    for lease in &leases {
        assert!(registry.lease(lease.clone()), "the name is free");
    }
    let start = Instant::now();
    for (lease, _) in leases.iter().cycle().zip(0..RENEWALS) {
        registry.lease(lease.clone());
    }
    let each = start.elapsed().as_secs_f64() / f64::from(RENEWALS);
    let start = Instant::now();
    for (lease, _) in leases.iter().cycle().zip(0..RENEWALS) {
        std::hint::black_box(lease.clone());
    }
    let copy = start.elapsed().as_secs_f64() / f64::from(RENEWALS);
    row(
        "registry: a lease renewed, among 10,000",
        &format!("{:.2} µs, {:.0} a second", each * 1e6, 1.0 / each),
        &format!("{:.1} times a copy of the request", each / copy),
    );
}

/// The program itself, with nothing and with ten thousand records.
pub(crate) async fn weigh() -> Result<()> {
    let (empty, full) = (resident_with(0).await?, resident_with(NAMES).await?);
    row(
        "registry: 10,000 leases",
        &megabytes(full.saturating_sub(empty)),
        &format!("{} resident with none, {} with all", megabytes(empty), megabytes(full)),
    );
    Ok(())
}

async fn resident_with(names: u32) -> Result<u64> {
    let home = Home::empty()?;
    let file = home.data().join("registry.json");
    let records: Vec<_> = (0..names)
        .map(|number| {
            json!({
                "name": format!("service-{number:05}"), "ip": Ipv4Addr::from(0x0a00_0000 + number), "port": 8000,
                "expire": 3600, "expires_at": "2999-01-01T00:00:00Z", "token": "00".repeat(32),
            })
        })
        .collect();
    std::fs::write(&file, json!({"version": 1, "services": records}).to_string())?;
    let mut command = Command::new(binary("manman-host")?);
    command.args(["registry", "--internal", "127.0.0.1:0", "--data"]).arg(home.data()).arg("--snapshot").arg(&file);
    let mut program = Program::spawn("manman-host registry", &mut command)?;
    let line = program.line("ready", Duration::from_secs(20)).await?;
    let url = line.split_whitespace().last().unwrap_or_default().to_owned();
    // Read out once, as a home's programs do.
    let list: serde_json::Value = reqwest::Client::builder().build()?.get(format!("{url}/discover")).send().await?.json().await?;
    anyhow::ensure!(list.as_object().map(serde_json::Map::len) == Some(names as usize), "not all records were taken in");
    let pid = program.pid().map_or(0, rustix::process::Pid::as_raw_pid);
    resident(pid)
}
