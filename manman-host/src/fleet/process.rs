//! Processes of workers on the host's own machine, named for ever by boot, pid and start time.

use std::io;
use std::os::fd::OwnedFd;

use manman_common::wire::ProcessIdentity;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SignalError {
    #[error("it runs on another machine")]
    Elsewhere,
    #[error("it is this very process")]
    Own,
    #[error("it has ended")]
    Ended,
    #[error("the kernel refused")]
    Kernel(#[source] io::Error),
}

fn same_boot(process: &ProcessIdentity) -> bool {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").is_ok_and(|boot| boot.trim() == process.boot_id)
}

/// Field 22 of `/proc/PID/stat`. The second field is the program's name, in brackets and with
/// whatever characters it likes, so counting begins after the last bracket. A zombie has ended, and
/// only waits for a parent that does not ask.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether a process of this machine has ended; `false` wherever that can not be known.
pub(crate) fn has_ended(process: &ProcessIdentity) -> bool {
    same_boot(process) && start_ticks(process.pid) != Some(process.start_ticks)
}

/// Sends a signal to this process alone: what has taken over its pid is never hit, because the
/// descriptor is held before the start time is compared.
pub(crate) fn signal(process: &ProcessIdentity, signal: Signal) -> Result<(), SignalError> {
    let descriptor = open(process)?;
    pidfd_send_signal(&descriptor, signal).map_err(|error| match error {
        rustix::io::Errno::SRCH => SignalError::Ended,
        other => SignalError::Kernel(other.into()),
    })
}

fn open(process: &ProcessIdentity) -> Result<OwnedFd, SignalError> {
    if !same_boot(process) {
        return Err(SignalError::Elsewhere);
    }
    if process.pid == std::process::id() {
        return Err(SignalError::Own);
    }
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or(SignalError::Ended)?;
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| match error {
        rustix::io::Errno::SRCH => SignalError::Ended,
        other => SignalError::Kernel(other.into()),
    })?;
    if start_ticks(process.pid) == Some(process.start_ticks) { Ok(descriptor) } else { Err(SignalError::Ended) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};

    use manman_common::RunId;
    use uuid::Uuid;

    use super::*;

    fn identity(pid: u32) -> ProcessIdentity {
        ProcessIdentity {
            run_id: RunId::from_uuid(Uuid::nil()),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux has it").trim().to_owned(),
            pid,
            start_ticks: start_ticks(pid).expect("it lives"),
            home: String::new(),
        }
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().expect("there is a sleep")
    }

    #[test]
    fn the_right_process_gets_the_signal() {
        let mut child = sleeper();
        let process = identity(child.id());
        assert!(!has_ended(&process));
        signal(&process, Signal::TERM).expect("it is ours");
        assert_eq!(child.wait().expect("it ends").signal(), Some(15));
        assert!(has_ended(&process));
        assert!(matches!(signal(&process, Signal::KILL), Err(SignalError::Ended)));
    }

    #[test]
    fn nobody_else_does() {
        let mut child = sleeper();
        let process = identity(child.id());
        let successor = ProcessIdentity { start_ticks: process.start_ticks + 1, ..process.clone() };
        assert!(matches!(signal(&successor, Signal::KILL), Err(SignalError::Ended)));
        let elsewhere = ProcessIdentity { boot_id: "another".to_owned(), ..process.clone() };
        assert!(matches!(signal(&elsewhere, Signal::KILL), Err(SignalError::Elsewhere)));
        assert!(!has_ended(&elsewhere));
        assert!(matches!(signal(&identity(std::process::id()), Signal::KILL), Err(SignalError::Own)));
        assert_eq!(child.try_wait().expect("it can be asked"), None, "it has been left alone");
        signal(&process, Signal::KILL).expect("now it is meant");
        child.wait().expect("it ends");
    }
}
