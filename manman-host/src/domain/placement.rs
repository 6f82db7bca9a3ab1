//! Which worker a new server goes to where nobody named one.

use manman_common::wire::Capabilities;
use manman_common::{InstallMethod, Name, WorkerId, WorkerStatus};

#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: WorkerId,
    pub name: Name,
    pub status: WorkerStatus,
    pub frozen: bool,
    pub capabilities: Capabilities,
    pub memory_used_bytes: Option<u64>,
    pub servers: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub method: InstallMethod,
    /// A Windows build, which only Proton runs.
    pub proton: bool,
    pub memory_bytes: u64,
}

/// Why a worker can not take a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("waits to be accepted")]
    Pending,
    #[error("is frozen: nothing new starts there")]
    Frozen,
    #[error("has said goodbye")]
    Shutdown,
    #[error("has not been heard of")]
    Unknown,
    #[error("can not run {} games", .method.as_str())]
    Driver { method: InstallMethod, problem: Option<String> },
    #[error("has no Proton, and this game is built for Windows alone")]
    Proton,
    #[error("has not enough free memory")]
    Memory,
}

/// Whether the worker can take the server at all.
pub fn fitness(worker: &Candidate, need: Need) -> Result<(), Unfit> {
    match worker.status {
        WorkerStatus::Pending => return Err(Unfit::Pending),
        WorkerStatus::Frozen => return Err(Unfit::Frozen),
        WorkerStatus::Shutdown => return Err(Unfit::Shutdown),
        WorkerStatus::Unknown => return Err(Unfit::Unknown),
        WorkerStatus::Alive if worker.frozen => return Err(Unfit::Frozen),
        WorkerStatus::Alive => {}
    }
    // A worker registered by hand names no driver; it is believed.
    let drivers = &worker.capabilities.drivers;
    let driver = drivers.iter().find(|driver| driver.method == need.method);
    match driver {
        Some(driver) if driver.ready && need.proton && worker.capabilities.proton.is_none() => Err(Unfit::Proton),
        Some(driver) if driver.ready => Ok(()),
        Some(driver) => Err(Unfit::Driver { method: need.method, problem: driver.problem.clone() }),
        None if drivers.is_empty() && need.proton && worker.capabilities.proton.is_none() => Err(Unfit::Proton),
        None if drivers.is_empty() => Ok(()),
        None => Err(Unfit::Driver { method: need.method, problem: None }),
    }
}

/// The worker with the fewest servers of those that can take this one and have the memory, and of
/// those the one with most memory free.
pub fn place(workers: &[Candidate], need: Need) -> Result<WorkerId, Vec<(Name, Unfit)>> {
    let mut unfit = Vec::new();
    let mut fit = Vec::new();
    for worker in workers {
        match fitness(worker, need) {
            Ok(()) if free_memory(worker).is_some_and(|free| free < need.memory_bytes) => unfit.push((worker.name.clone(), Unfit::Memory)),
            Ok(()) => fit.push(worker),
            Err(why) => unfit.push((worker.name.clone(), why)),
        }
    }
    fit.into_iter()
        .min_by_key(|worker| (worker.servers, std::cmp::Reverse(free_memory(worker)), worker.id))
        .map(|worker| worker.id)
        .ok_or(unfit)
}

fn free_memory(worker: &Candidate) -> Option<u64> {
    let all = Some(worker.capabilities.memory_bytes).filter(|all| *all > 0)?;
    worker.memory_used_bytes.map(|used| all.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use manman_common::wire::DriverReport;
    use uuid::Uuid;

    use super::*;

    const DOCKER: Need = Need { method: InstallMethod::Docker, proton: false, memory_bytes: 1000 };

    fn worker(number: u128, servers: u32) -> Candidate {
        let driver = DriverReport { method: InstallMethod::Docker, ready: true, version: None, problem: None };
        Candidate {
            id: WorkerId::from_uuid(Uuid::from_u128(number)),
            name: format!("w{number}").parse().expect("a name"),
            status: WorkerStatus::Alive,
            frozen: false,
            capabilities: Capabilities { drivers: vec![driver], memory_bytes: 10_000, ..Capabilities::default() },
            memory_used_bytes: Some(1000),
            servers,
        }
    }

    #[test]
    fn fewest_servers_then_most_memory() {
        let roomy = Candidate { memory_used_bytes: Some(0), ..worker(3, 1) };
        assert_eq!(place(&[worker(1, 2), worker(2, 1), roomy.clone()], DOCKER), Ok(roomy.id));
    }

    #[test]
    fn a_windows_build_goes_only_where_proton_is() {
        let driver = DriverReport { method: InstallMethod::Steamcmd, ready: true, version: None, problem: None };
        let with = |proton: Option<&str>| {
            let capabilities = Capabilities { drivers: vec![driver.clone()], proton: proton.map(str::to_owned), ..Capabilities::default() };
            Candidate { capabilities, ..worker(1, 0) }
        };
        let windows = Need { method: InstallMethod::Steamcmd, proton: true, memory_bytes: 0 };
        assert_eq!(fitness(&with(None), windows), Err(Unfit::Proton));
        assert_eq!(fitness(&with(Some("9.0")), windows), Ok(()));
        assert_eq!(fitness(&with(None), Need { proton: false, ..windows }), Ok(()));
        // A worker registered by hand is believed to have what is usual, and Proton is not.
        let by_hand = Candidate { capabilities: Capabilities::default(), ..worker(1, 0) };
        assert_eq!(fitness(&by_hand, windows), Err(Unfit::Proton));
    }

    #[test]
    fn the_unfit_say_why() {
        let frozen = Candidate { frozen: true, ..worker(1, 0) };
        let silent = Candidate { status: WorkerStatus::Unknown, ..worker(2, 0) };
        let full = Candidate { memory_used_bytes: Some(9_500), ..worker(3, 0) };
        let steam = Need { method: InstallMethod::Steamcmd, proton: false, memory_bytes: 0 };
        let reasons = place(&[frozen, silent, full], DOCKER).expect_err("none fits");
        assert_eq!(reasons.into_iter().map(|(_, why)| why).collect::<Vec<_>>(), [Unfit::Frozen, Unfit::Unknown, Unfit::Memory]);
        assert!(matches!(place(&[worker(1, 0)], steam), Err(reasons) if matches!(reasons[0].1, Unfit::Driver { .. })));
    }
}
