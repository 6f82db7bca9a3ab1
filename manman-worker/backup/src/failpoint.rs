//! Places at which a test lets this process be killed: what is left then is what a power cut, the
//! kernel or a person with `kill -9` leaves. In release builds there are none.

/// Kills this process if `MANMAN_FAILPOINT` names this place, or is `backup.any@N` and this is the
/// Nth place that is reached.
#[cfg(debug_assertions)]
pub(crate) fn reach(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static REACHED: AtomicU64 = AtomicU64::new(0);
    #[cfg(test)]
    hook::run(name);
    let Ok(wanted) = std::env::var("MANMAN_FAILPOINT") else { return };
    let count = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
    if wanted == name || wanted.strip_prefix("backup.any@").is_some_and(|at| at.parse() == Ok(count)) {
        tracing::warn!(name, count, "failpoint");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
pub(crate) const fn reach(_name: &str) {}

/// Whether a test wants this to fail (`MANMAN_FAILPOINT_DENY`, names with commas between).
#[cfg(debug_assertions)]
pub(crate) fn denied(name: &str) -> bool {
    std::env::var("MANMAN_FAILPOINT_DENY").is_ok_and(|names| names.split(',').any(|denied| denied == name))
}

#[cfg(not(debug_assertions))]
pub(crate) const fn denied(_name: &str) -> bool {
    false
}

#[cfg(test)]
pub(crate) use hook::on;

#[cfg(test)]
mod hook {
    use std::cell::RefCell;

    type Hook = (&'static str, Box<dyn FnMut()>);

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Something happens when this thread reaches the place.
    pub(crate) fn on(name: &'static str, hook: impl FnMut() + 'static) {
        HOOK.with_borrow_mut(|place| *place = Some((name, Box::new(hook))));
    }

    pub(super) fn run(name: &str) {
        HOOK.with_borrow_mut(|place| {
            if let Some((_, hook)) = place.as_mut().filter(|(at, _)| *at == name) {
                hook();
            }
        });
    }
}
