//! What the data of a world is told before anybody hears that the world has stopped.
//!
//! The record says so, too, but a database may be put back to a day on which it did not.

use std::time::Duration;

use manman_common::status::Condition;
use manman_common::{DesiredState, InstallMethod, ServerId, ServerStatus, Timestamp};
use manman_worker_core::{Origin, Plan, Record};
use tokio::time::timeout;

use super::task::Reconciler;
use crate::api::error_chain;
use crate::driver::Stops;

/// Before data that could not be told that its server has stopped is told again: whoever has ended may
/// hold it for a moment yet. Twice as long each time, until the scan comes before it.
const AGAIN: Duration = Duration::from_millis(250);
const DOUBLES: u32 = 8;
/// A disk that takes longer for a line is not waited for; nothing else happens meanwhile.
const WITHIN: Duration = Duration::from_secs(3);
/// The condition of a server that has ended, whose data can not be told.
const NOT_LET_GO: &str = "NotLetGo";

impl Reconciler {
    /// Has the data of worlds that are stopped, or another worker's now, refuse starts by the wishes so
    /// far. Where that can not be said, the plan may not say that they have stopped.
    pub(super) async fn let_go(&mut self, method: InstallMethod, plan: &mut Plan, now: Timestamp) {
        let Some(driver) = self.drivers.get(&method).cloned() else { return };
        let mut unsaid = Vec::new();
        let mut hangs = false;
        for (server, status) in &plan.statuses {
            let Some(Record { spec, tried, .. }) = self.records.get(server) else { continue };
            let rests = match spec.desired {
                DesiredState::Running => false,
                DesiredState::Stopped => !status.phase.is_live(),
                DesiredState::Deleted => tried.deleted && !spec.purge,
            };
            if !rests {
                self.let_go.remove(server);
                self.not_let_go.remove(server);
            } else if self.let_go.get(server) != Some(&spec.generation) {
                // A disk that gives no answer is asked once in a round.
                let said = if hangs { None } else { timeout(WITHIN, driver.let_go(spec)).await.ok() };
                hangs |= said.is_none();
                let why = match said {
                    Some(Ok(())) => {
                        self.let_go.insert(*server, spec.generation);
                        self.not_let_go.remove(server);
                        continue;
                    }
                    Some(Err(error)) => error_chain(&error),
                    None => "the disk does not answer".to_owned(),
                };
                unsaid.push((*server, why));
            }
        }
        for (server, why) in unsaid {
            let tries = self.not_let_go.entry(server).or_default();
            *tries = tries.saturating_add(1);
            let again = now.plus(AGAIN * 2_u32.saturating_pow((*tries).min(DOUBLES)));
            plan.wake_at = Some(plan.wake_at.map_or(again, |moment| moment.min(again)));
            plan.statuses.remove(&server);
            // The first time is nothing yet.
            if let Some(said) = self.publisher.planned().get(&server).filter(|_| *tries > 1) {
                plan.statuses.insert(server, not_let_go(said, why, now));
            }
        }
    }

    /// A person at this machine wants a stopped server to run, by a wish of the same generation.
    pub(super) async fn take_up(&mut self, server: ServerId) {
        let Some(Record { spec, origin, .. }) = self.records.get(&server) else { return };
        let Some(driver) = self.drivers.get(&spec.run.game_id.method()).cloned() else { return };
        if spec.desired == DesiredState::Deleted {
            return;
        }
        let stops = match origin {
            // Nobody else has a say in it.
            Origin::Here => Stops::All,
            // The host may have stopped it since, and moved it, by a wish that this database has forgotten.
            Origin::Host => Stops::OfThisWish,
        };
        self.let_go.remove(&server);
        // Where this can not be said, the start is refused, and says so.
        match timeout(WITHIN, driver.take_up(spec, stops)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(server.id = %server, error = error_chain(&error), "its data was not told of a start"),
            Err(_) => tracing::warn!(server.id = %server, "its data was not told of a start: the disk does not answer"),
        }
    }
}

/// What was last said of it, and why nothing newer is.
fn not_let_go(said: &ServerStatus, why: String, now: Timestamp) -> ServerStatus {
    let mut status = said.clone();
    let since = status.conditions.iter().find(|one| one.kind == NOT_LET_GO).map_or(now, |one| one.since);
    status.conditions.retain(|one| one.kind != NOT_LET_GO);
    let hint = Some("it is tried again; what still runs there has to end first".to_owned());
    let message = format!("it has ended, and is not told to have: {why}");
    status.conditions.push(Condition { kind: NOT_LET_GO.to_owned(), message, hint, since });
    status
}
