//! How long leased servers may run: from the sending of the last beat that the host acknowledged.
//!
//! The end of a lease is not seen to here: whatever holds the instance is told the deadline and keeps
//! it alone, since this process may be stopped, or asleep with its machine, by then.

use std::collections::BTreeSet;
use std::time::Duration;

use manman_common::{Revision, ServerId, ServerSpec};
use manman_worker_core::{Instance, Observation};

use super::execute::ladder_seconds;
use super::task::Reconciler;
use crate::api::error_chain;
use crate::clock;
use crate::driver::Lease;

/// A holder that has not taken its lease in this time is told again with the next beat.
const GRANT_WITHIN: Duration = Duration::from_secs(5);

/// The lease of a server by a beat that was sent then; none for one that needs none.
fn lease(spec: &ServerSpec, beat_sent: Option<Duration>) -> Option<Lease> {
    let seconds = spec.lease_seconds?;
    // Without a beat it is over already.
    let until = beat_sent.map_or(Duration::ZERO, |sent| sent + Duration::from_secs(seconds.into()));
    Some(Lease { until, kill_at: until + Duration::from_secs(ladder_seconds(spec)) })
}

impl Reconciler {
    pub(super) fn lease_of(&self, spec: &ServerSpec) -> Option<Lease> {
        lease(spec, self.beat_sent)
    }

    /// Servers that may start under a lease: it is live, and all of the host's wishes are known here. A
    /// worker that was silent may have been acknowledged before it heard that a server is another's.
    pub(super) fn leased(&self) -> BTreeSet<ServerId> {
        if self.revision < self.host_at {
            return BTreeSet::new();
        }
        let now = clock::boottime();
        let live = |spec: &ServerSpec| self.lease_of(spec).is_some_and(|lease| lease.until > now);
        self.records.values().filter(|record| live(&record.spec)).map(|record| record.spec.id).collect()
    }

    /// The host, at that revision, has acknowledged a beat that was sent then: every lease runs anew
    /// from there.
    pub(super) fn lease_renewed(&mut self, sent: Duration, host_at: Revision) {
        if self.beat_sent.is_some_and(|known| known >= sent) {
            return;
        }
        let before = self.leased();
        self.beat_sent = Some(sent);
        self.host_at = host_at;
        let servers: Vec<ServerId> = self.records.keys().copied().collect();
        servers.into_iter().for_each(|server| self.tell_lease(server));
        if !self.leased().is_subset(&before) {
            self.look_everywhere();
        }
    }

    /// Tells whatever holds the server's instance how long it may run, without waiting for it.
    pub(super) fn tell_lease(&mut self, server: ServerId) {
        let Some(record) = self.records.get(&server) else { return };
        let lease = self.lease_of(&record.spec);
        // Before a beat nothing is known.
        if lease.is_some() && self.beat_sent.is_none() {
            return;
        }
        let Some(driver) = self.drivers.get(&record.spec.run.game_id.method()).cloned() else { return };
        let live: Vec<Instance> = match self.observed.get(&server) {
            Some(Observation::Known(instances)) => instances.iter().filter(|instance| instance.is_live()).cloned().collect(),
            Some(Observation::Unknown { .. }) | None => Vec::new(),
        };
        // So nobody has been told. What is being started has the lease of when that began, and hears of
        // this one with the next beat.
        if live.is_empty() {
            self.leases_told.remove(&server);
            return;
        }
        // Whoever was told that it needs none has nothing more to be told.
        if self.leases_told.insert(server, lease) == Some(None) && lease.is_none() {
            return;
        }
        for live in live {
            let driver = driver.clone();
            // A handful, each with an end; a later one says more than an earlier one.
            tokio::spawn(async move { grant(&*driver, server, live, lease).await });
        }
    }
}

async fn grant(driver: &dyn crate::driver::Driver, server: ServerId, live: Instance, lease: Option<Lease>) {
    match tokio::time::timeout(GRANT_WITHIN, driver.grant_lease(server, Some(&live), lease)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(server.id = %server, error = error_chain(&error), "a renewed lease did not reach its game; it ends with the old one");
        }
        Err(_) => tracing::warn!(server.id = %server, "a renewed lease was not taken in time; the game ends with the old one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::test_spec;

    #[test]
    fn a_lease_runs_from_the_sending_and_ends_after_the_ladder() {
        let seconds = Duration::from_secs;
        let mut spec = test_spec(1);
        assert_eq!(lease(&spec, Some(seconds(100))), None);
        spec.lease_seconds = Some(60);
        let ladder = seconds(ladder_seconds(&spec));
        assert_eq!(lease(&spec, Some(seconds(100))), Some(Lease { until: seconds(160), kill_at: seconds(160) + ladder }));
        assert_eq!(lease(&spec, None).map(|lease| lease.until), Some(Duration::ZERO), "before any beat it is over");
    }
}
