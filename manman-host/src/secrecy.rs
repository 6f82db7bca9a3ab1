//! What this process knows stays in its memory.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing_subscriber::EnvFilter;

/// From here on no crash leaves a core with tokens and passwords in it, in a file or with whoever
/// collects cores, and no other process of the same user reads our memory or environment: a game
/// that runs as the worker's own user is one. What is started from here is as it always was.
pub fn keep_memory_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash could leave a core with secrets in it");
    }
}

/// Libraries that write what they carry, passwords of games and tokens among it, where they are asked
/// to tell much. Whoever wants to hear that names the very library after these words.
const QUIET: &str = "tungstenite=info,tokio_tungstenite=info,bollard=info,hyper=info,hyper_util=info,h2=info,reqwest=info,rustls=info";

/// What is told: by the words of `MANMAN_LOG`, in those of `RUST_LOG`.
#[must_use]
pub fn log_filter(default: &str) -> EnvFilter {
    let asked = std::env::var("MANMAN_LOG").ok().and_then(|words| EnvFilter::try_new(format!("{QUIET},{words}")).ok());
    asked.unwrap_or_else(|| EnvFilter::new(default))
}
