//! What this process knows stays in its memory.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From here on no crash leaves a core with tokens and passwords in it, in a file or with whoever
/// collects cores, and no other process of the same user reads our memory or environment: a game
/// that runs as the worker's own user is one. What is started from here is as it always was.
pub fn keep_memory_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash could leave a core with secrets in it");
    }
}
