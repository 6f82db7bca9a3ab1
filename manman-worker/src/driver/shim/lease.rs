//! Leases on their way to the shims that hold them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use manman_common::{ServerId, ServerSpec};
use manman_shim::client::Reply;
use manman_shim::proto::{Request, VERSION_LEASE};

use super::held::Held;
use crate::driver::{DriverError, DriverErrorKind, Lease};

/// A renewal that a shim does not take in this time is followed by the next one anyway.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);

/// The newest word for each server, so that no start is ever made without its lease.
#[derive(Default)]
pub(crate) struct Granted(Mutex<HashMap<ServerId, Lease>>);

impl Granted {
    pub(crate) fn put(&self, server: ServerId, lease: Option<Lease>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match lease {
            Some(lease) => drop(all.insert(server, lease)),
            None => drop(all.remove(&server)),
        }
    }

    /// What a start of this server is made with; an error where it needs a lease that nobody gave.
    pub(crate) fn for_start(&self, spec: &ServerSpec) -> Result<Option<manman_shim::lease::Lease>, DriverError> {
        if spec.lease_seconds.is_none() {
            return Ok(None);
        }
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&spec.id) {
            Some(lease) => Ok(Some(of(*lease))),
            None => Err(DriverError {
                kind: DriverErrorKind::Retry,
                what: format!("`{}` runs only under a lease, and its host has not granted one", spec.name),
                hint: Some("it starts as soon as the host is heard from".to_owned()),
                source: None,
            }),
        }
    }
}

pub(crate) fn of(lease: Lease) -> manman_shim::lease::Lease {
    // Zeros would say that there is none; this is long over, too.
    let until = lease.until.max(Duration::from_millis(1));
    manman_shim::lease::Lease { until, kill_at: lease.kill_at.max(until) }
}

/// Hands it to the shim; one that has begun to stop its game for want of a lease goes on with that.
pub(crate) async fn tell(held: &Held, lease: Option<Lease>) -> Result<(), DriverError> {
    let lease = lease.map(of);
    // For the case that the shim dies before its game.
    held.keep_lease(lease);
    let (until_ms, kill_ms) = manman_shim::lease::Lease::millis(lease);
    let server = held.run.about.server;
    let asked = held.ask_within(TAKEN_WITHIN, "renew the lease", move |client| {
        // One from before there were leases, which a game still runs behind.
        let knows = client.version >= VERSION_LEASE;
        Ok(if knows { Some(client.ask(&Request::Lease { until_ms, kill_ms })?) } else { None })
    });
    match asked.await {
        Ok(Some(Reply::Refused(why))) => {
            tracing::info!(server.id = %server, why, "a lease was not renewed");
            Ok(())
        }
        Ok(Some(_)) => Ok(()),
        Ok(None) if lease.is_none() => Ok(()),
        Ok(None) => Err(DriverError {
            kind: DriverErrorKind::Final,
            what: "its game was started by an older manman, whose shim holds no lease".to_owned(),
            hint: Some("restart the server: until then it runs without a lease".to_owned()),
            source: None,
        }),
        // The end of the game, or of its shim: the next look says which.
        Err(error) if error.kind == DriverErrorKind::Gone => Ok(()),
        Err(error) => Err(error),
    }
}
