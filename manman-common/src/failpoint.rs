//! Named places at which a test lets this process be killed: what is left then is what a power cut,
//! the kernel or a person with `kill -9` leaves. In release builds there are none.

/// Kills this process if `MANMAN_FAILPOINT` names this place.
#[cfg(debug_assertions)]
pub fn reach(name: &str) {
    if std::env::var("MANMAN_FAILPOINT").is_ok_and(|wanted| wanted == name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
pub const fn reach(_name: &str) {}
