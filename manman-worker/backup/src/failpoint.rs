//! Places at which a test lets this process be killed: what is left then is what a power cut, the
//! kernel or a person with `kill -9` leaves. In release builds there are none.

/// Kills this process if `MANMAN_FAILPOINT` names this place, or is `backup.any@N` and this is the
/// Nth place that is reached.
#[cfg(debug_assertions)]
pub(crate) fn reach(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static REACHED: AtomicU64 = AtomicU64::new(0);
    let Ok(wanted) = std::env::var("MANMAN_FAILPOINT") else { return };
    let count = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
    if wanted == name || wanted.strip_prefix("backup.any@").is_some_and(|at| at.parse() == Ok(count)) {
        tracing::warn!(name, count, "failpoint");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
pub(crate) const fn reach(_name: &str) {}
