//! What an event tells of a server's wish: never the value of a secret.

use manman_common::wire::CreateServer;
use manman_common::{DesiredState, Name};
use serde_json::{Value, json};

use crate::games::Definition;

const HIDDEN: &str = "•••";

/// A wish, as much of it as a person changes.
pub(super) struct Sight<'a> {
    pub(super) name: &'a Name,
    pub(super) desired: DesiredState,
    pub(super) request: &'a CreateServer,
}

/// All of it, for an event that something came to be or is no more.
pub(super) fn whole(sight: &Sight<'_>, definition: Option<&Definition>) -> Value {
    let mut told = raw(sight);
    hide(&mut told, definition);
    told["game_id"] = json!(sight.request.game_id);
    told
}

/// Only what differs, as it was and as it has become.
pub(super) fn change(before: &Sight<'_>, after: &Sight<'_>, definition: Option<&Definition>) -> (Value, Value) {
    let (mut old, mut new) = (raw(before), raw(after));
    // Compared as they are and hidden afterwards: a secret that has changed is told to have changed.
    drop_equal(&mut old, &mut new);
    for part in ["variables", "env"] {
        if let (Some(old), Some(new)) = (old.get_mut(part), new.get_mut(part)) {
            drop_equal(old, new);
        }
    }
    hide(&mut old, definition);
    hide(&mut new, definition);
    (old, new)
}

fn raw(sight: &Sight<'_>) -> Value {
    let CreateServer { variables, env, limits, restart, lease_seconds, .. } = sight.request;
    json!({ "lease_seconds": lease_seconds, "name": sight.name, "desired": sight.desired, "variables": variables, "env": env, "limits": limits, "restart": restart })
}

fn drop_equal(old: &mut Value, new: &mut Value) {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return };
    let same: Vec<String> = old.iter().filter(|(key, value)| new.get(*key) == Some(value)).map(|(key, _)| key.clone()).collect();
    for key in same {
        old.remove(&key);
        new.remove(&key);
    }
}

fn hide(told: &mut Value, definition: Option<&Definition>) {
    let open = |name: &str| definition.and_then(|known| known.variables.get(name)).is_some_and(|spec| !spec.secret);
    if let Some(Value::Object(variables)) = told.get_mut("variables") {
        variables.iter_mut().filter(|(name, _)| !open(name)).for_each(|(_, value)| *value = json!(HIDDEN));
    }
    // Nobody has said of these what they are, and tokens are often among them.
    if let Some(Value::Object(env)) = told.get_mut("env") {
        env.iter_mut().for_each(|(_, value)| *value = json!(HIDDEN));
    }
}
