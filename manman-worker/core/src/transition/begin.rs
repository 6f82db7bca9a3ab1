//! What is noted before a step is done: a crash in the middle of it then finds its traces.

use manman_common::spec::StopMode;
use manman_common::{DesiredState, InstanceId, Timestamp};
use serde_json::json;

use crate::{Happening, Record, Step, Stopping};

/// Notes that `step` is about to be done. `fresh` becomes the instance's id if the step is a start
/// that has none yet; which one it is stands in `tried.starting` afterwards.
#[must_use]
pub fn begin(record: &mut Record, step: &Step, now: Timestamp, fresh: InstanceId) -> Vec<Happening> {
    match step {
        Step::Install { key, .. } => {
            vec![Happening::new("server.installing", format!("installs {}", record.spec.run.game_id), json!({ "key": key }))]
        }
        Step::Start { .. } => {
            let instance = *record.tried.starting.get_or_insert(fresh);
            vec![Happening::new("server.starting", "starts", json!({ "instance": instance }))]
        }
        Step::Stop { instance, mode, .. } => {
            // Of a server that should run only a hung instance is killed; all else is stopped.
            let hung = *mode == StopMode::Kill && record.spec.desired == DesiredState::Running;
            let mut happenings = Vec::new();
            let entry = record.tried.stopping.entry(*instance).or_insert_with(|| {
                happenings.push(Happening::new("server.stopping", "is being stopped", json!({ "instance": instance, "mode": mode })));
                Stopping { since: now, mode: *mode, typed: false, hung, stuck: false, attempts: 0, retry_at: None, exit: None, error: None }
            });
            entry.mode = *mode;
            entry.hung = hung;
            happenings
        }
        Step::Remove { .. } | Step::Purge { .. } => Vec::new(),
    }
}
