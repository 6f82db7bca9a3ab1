//! What the supervision of a running game tells.

use manman_common::spec::StopMode;
use manman_common::status::Condition;
use manman_common::{InstanceId, Timestamp};
use serde_json::json;

use crate::{Happening, Record, Stopping};

/// Conditions kept per instance; the supervision knows fewer kinds.
const CONDITIONS_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub enum Sign {
    Ready,
    Unready {
        reason: String,
    },
    /// A person typed the line that stops the game.
    TypedStop,
    Condition {
        kind: String,
        message: String,
        hint: Option<String>,
    },
    ConditionOver {
        kind: String,
    },
}

/// Folds a sign of `instance` into the record; one of an instance that is not current says nothing.
#[must_use]
pub fn signal(record: &mut Record, instance: InstanceId, sign: Sign, now: Timestamp) -> Vec<Happening> {
    let tried = &mut record.tried;
    if tried.instance != Some(instance) {
        return Vec::new();
    }
    match sign {
        Sign::Ready => {
            tried.never_ready = 0;
            tried.trouble = None;
            tried.conditions.retain(|condition| condition.kind != "Unready");
            let first = tried.ready_at.is_none();
            let again = std::mem::take(&mut tried.unready);
            tried.ready_at.get_or_insert(now);
            if first || again {
                return vec![Happening::new("server.ready", "is ready", json!({ "instance": instance }))];
            }
        }
        Sign::Unready { reason } => {
            if tried.ready_at.is_some() && !tried.unready {
                tried.unready = true;
                put(&mut tried.conditions, Condition { kind: "Unready".to_owned(), message: reason.clone(), hint: None, since: now });
                let data = json!({ "instance": instance, "reason": reason });
                return vec![Happening::new("server.unready", format!("no longer answers: {reason}"), data)];
            }
        }
        Sign::TypedStop => {
            tried.stopping.entry(instance).or_insert_with(|| Stopping {
                since: now,
                mode: StopMode::Graceful,
                typed: true,
                stuck: false,
                attempts: 0,
                retry_at: None,
                exit: None,
                error: None,
            });
        }
        Sign::Condition { kind, message, hint } => put(&mut tried.conditions, Condition { kind, message, hint, since: now }),
        Sign::ConditionOver { kind } => tried.conditions.retain(|condition| condition.kind != kind),
    }
    Vec::new()
}

fn put(conditions: &mut Vec<Condition>, condition: Condition) {
    let room = conditions.len() < CONDITIONS_MAX;
    match conditions.iter_mut().find(|known| known.kind == condition.kind) {
        Some(known) => {
            known.message = condition.message;
            known.hint = condition.hint;
        }
        None if room => conditions.push(condition),
        None => {}
    }
}
