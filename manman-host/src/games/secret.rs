//! The password of a game's console over the network: where nobody gives one, one is made and kept.
//!
//! Else most consoles were dead until a person thought of a password, and an empty one would let
//! everybody in, or swallow the next word of a command line.

use std::collections::BTreeMap;

use manman_common::spec::{InputKind, InputSpec};

use super::Definition;
use crate::clock;
use crate::domain::variables;

/// 32 of these are 190 bits.
const LENGTH: i64 = 32;
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Puts a fresh password into `values` where the console needs one and there is none.
pub fn ensure_console_secret(definition: Option<&Definition>, values: &mut BTreeMap<String, String>) {
    let Some(definition) = definition else { return };
    let Some((name, spec)) = definition.console.secret.as_ref().and_then(|name| Some((name, definition.variables.get(name)?))) else {
        return;
    };
    if values.get(name).is_none_or(String::is_empty) {
        let letter = |_| char::from(ALPHABET[usize::try_from(clock::random_below(62)).unwrap_or(0)]);
        values.insert(name.clone(), (0..length(spec)).map(letter).collect());
    }
}

fn length(spec: &InputSpec) -> i64 {
    LENGTH.min(spec.max.unwrap_or(LENGTH)).max(spec.min.unwrap_or(0)).clamp(0, 128)
}

/// Whether such a password passes the variable's own rules, whatever its letters are.
pub(super) fn can_be_made(spec: &InputSpec) -> bool {
    let length = usize::try_from(length(spec)).unwrap_or(0);
    let all = |c: &str| variables::check(spec, &c.repeat(length)).is_ok();
    spec.kind == InputKind::Text && length >= 4 && ["A", "Z", "a", "z", "0", "9"].into_iter().all(all)
}
