//! What the supervision of a running game tells.

use manman_common::spec::StopMode;
use manman_common::status::Condition;
use manman_common::{DesiredState, InstanceId, Timestamp};
use serde_json::json;

use crate::{Happening, Hung, Record, Stopping, Tried};

/// Conditions kept per instance; the supervision knows fewer kinds.
const CONDITIONS_MAX: usize = 16;

/// The condition of an instance that is to be killed.
const HUNG: &str = "Hung";

#[derive(Clone, Debug, PartialEq)]
pub enum Sign {
    Ready,
    Unready {
        reason: String,
    },
    /// Neither its query nor its console has answered for so long, by a clock that nobody sets.
    Silent {
        seconds: u64,
    },
    /// It answers again.
    Answers,
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
    let Record { tried, spec, .. } = record;
    if tried.instance != Some(instance) {
        return Vec::new();
    }
    match sign {
        Sign::Ready => {
            tried.never_ready = 0;
            tried.trouble = None;
            no_longer_hung(tried, instance);
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
        Sign::Silent { seconds } => {
            let rule = spec.run.hang.filter(|rule| seconds >= u64::from(rule.silent_seconds));
            let stops = spec.desired != DesiredState::Running || tried.stopping.contains_key(&instance);
            if rule.is_some() && tried.ready_at.is_some() && !stops && tried.hung.is_none() {
                tried.hung = Some(Hung { instance, silent_seconds: seconds });
                let message = format!("has not answered for {seconds} s");
                let hint = Some("raise or take away its hang rule if it is only slow".to_owned());
                put(&mut tried.conditions, Condition { kind: HUNG.to_owned(), message, hint, since: now });
                let data = json!({ "instance": instance, "silent_seconds": seconds });
                return vec![Happening::new("server.hung", format!("hangs: it has not answered for {seconds} s"), data)];
            }
        }
        Sign::Answers => no_longer_hung(tried, instance),
        Sign::TypedStop => {
            tried.hung = None;
            tried.conditions.retain(|condition| condition.kind != HUNG);
            let stopping = tried.stopping.entry(instance).or_insert_with(|| Stopping {
                since: now,
                mode: StopMode::Graceful,
                typed: true,
                hung: false,
                stuck: false,
                attempts: 0,
                retry_at: None,
                exit: None,
                error: None,
            });
            // A kill under way becomes the person's own.
            stopping.typed |= std::mem::take(&mut stopping.hung);
        }
        Sign::Condition { kind, message, hint } => put(&mut tried.conditions, Condition { kind, message, hint, since: now }),
        Sign::ConditionOver { kind } => tried.conditions.retain(|condition| condition.kind != kind),
    }
    Vec::new()
}

/// A kill that has not helped by now is not tried again.
fn no_longer_hung(tried: &mut Tried, instance: InstanceId) {
    tried.hung = None;
    tried.conditions.retain(|condition| condition.kind != HUNG);
    if tried.stopping.get(&instance).is_some_and(|stopping| stopping.hung) {
        tried.stopping.remove(&instance);
    }
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
