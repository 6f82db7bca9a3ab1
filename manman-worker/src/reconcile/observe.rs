//! Drivers to observations: what could not be looked at is Unknown, never empty.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use manman_common::{InstallMethod, ServerId};
use manman_worker_core::{Instance, Observation};

use super::execute::sentence;
use crate::driver::Driver;

/// An engine that has not listed a few hundred containers in this time is not well.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// One driver's answer. `started` is the loop's count when the look began: whatever the loop did
/// since may be missing from it.
pub(super) struct Look {
    pub(super) method: InstallMethod,
    pub(super) started: u64,
    pub(super) seen: Result<Vec<Instance>, String>,
}

pub(super) async fn look(method: InstallMethod, driver: Option<Arc<dyn Driver>>, started: u64) -> Look {
    let seen = match driver {
        Some(driver) => match tokio::time::timeout(LOOK_WITHIN, driver.list()).await {
            Ok(Ok(instances)) => Ok(instances),
            Ok(Err(error)) => Err(sentence(&error)),
            Err(_) => Err(format!("the {} driver did not answer within {} s", method.as_str(), LOOK_WITHIN.as_secs())),
        },
        // Without a driver of this kind nothing can be begun; what was begun with one is not looked at.
        None => Ok(Vec::new()),
    };
    Look { method, started, seen }
}

/// One observation per server: of those with a record, and of whatever else was found.
pub(super) fn observations(
    seen: Result<Vec<Instance>, String>,
    servers: impl Iterator<Item = ServerId>,
) -> BTreeMap<ServerId, Observation> {
    match seen {
        Err(reason) => servers.map(|server| (server, Observation::Unknown { reason: reason.clone() })).collect(),
        Ok(instances) => {
            let mut by_server: BTreeMap<ServerId, Vec<Instance>> = servers.map(|server| (server, Vec::new())).collect();
            for instance in instances {
                by_server.entry(instance.server).or_default().push(instance);
            }
            by_server.into_iter().map(|(server, instances)| (server, Observation::Known(instances))).collect()
        }
    }
}
