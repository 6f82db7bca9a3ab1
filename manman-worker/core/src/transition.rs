//! How what is seen and what is done changes a record. Decides nothing about what to do next.

mod begin;
mod finish;
mod seen;
mod signal;

pub use begin::begin;
pub use finish::finish;
pub(crate) use seen::keeper;
pub use seen::seen;
pub use signal::{Sign, signal};

#[cfg(test)]
mod tests;

use manman_common::{ServerId, Timestamp};
use serde_json::json;

use crate::backoff::{TRIES_MAX, backoff};
use crate::{Failure, Happening, Record, Trouble};

/// Counts a failed start or a crash: waits longer each time, and gives up after [`TRIES_MAX`] tries
/// that were never Ready.
fn count_failure(server: ServerId, record: &mut Record, trouble: Trouble, now: Timestamp) -> Vec<Happening> {
    let tried = &mut record.tried;
    tried.crashes = tried.crashes.saturating_add(1);
    tried.never_ready = tried.never_ready.saturating_add(1);
    if tried.never_ready >= TRIES_MAX {
        let reason = format!("given up after {TRIES_MAX} tries without being ready once: {}", trouble.reason);
        let hint = trouble.hint.clone();
        tried.trouble = Some(trouble);
        return give_up(record, "Crash", reason, hint, now);
    }
    let until = now.plus(backoff(server, tried.crashes));
    tried.not_before = Some(until);
    let data = json!({ "until": until, "attempt": tried.crashes, "reason": trouble.reason });
    let message = format!("waits until {until} before try {}: {}", tried.crashes + 1, trouble.reason);
    tried.trouble = Some(trouble);
    vec![Happening::new("server.backoff", message, data)]
}

fn give_up(record: &mut Record, kind: &str, reason: String, hint: Option<String>, now: Timestamp) -> Vec<Happening> {
    let data = json!({ "reason": reason, "hint": hint });
    let message = format!("failed: {reason}");
    let attempts = record.tried.never_ready;
    record.tried.not_before = None;
    record.tried.failed =
        Some(Failure { generation: record.spec.generation, kind: kind.to_owned(), reason, hint, at: now, retry_at: None, attempts });
    vec![Happening::new("server.failed", message, data)]
}
