//! The rules of sessions: who may begin one, and what is said to whoever speaks in one that is
//! over. Pure; of two copies of one worker only one is ever heard.

use std::time::Duration;

use manman_common::SessionEpoch;
use manman_common::error::GoneReason;
use manman_common::wire::ProcessIdentity;

/// The session that a worker has now.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    /// Absent for a registration by hand.
    pub(crate) process: Option<ProcessIdentity>,
    pub(crate) linked: bool,
    /// It has had a link, so that a closed one says that its process is gone or cut off.
    pub(crate) had_link: bool,
    pub(crate) silent_for: Duration,
    /// The process is on the host's own machine and does not live any more.
    pub(crate) process_gone: bool,
}

/// Another process of this worker is alive; trying again makes sense after so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    pub(crate) retry_after: u32,
}

/// Whether `asking` may begin a session in place of `current`.
pub(crate) fn may_begin(current: Option<&Current>, asking: Option<&ProcessIdentity>, unknown_after: Duration) -> Result<(), Rival> {
    let Some(current) = current else { return Ok(()) };
    let itself = match (&current.process, asking) {
        (None, None) => true,
        (Some(old), Some(new)) => old.run_id == new.run_id,
        (None, Some(_)) | (Some(_), None) => false,
    };
    if itself || current.process_gone || current.silent_for >= unknown_after {
        return Ok(());
    }
    // A restarted worker's old socket was closed by its kernel; a copy has another directory, and
    // a clone another boot.
    let restarted = match (&current.process, asking) {
        (Some(old), Some(new)) => old.boot_id == new.boot_id && old.home == new.home,
        (None, _) | (_, None) => false,
    };
    if restarted && current.had_link && !current.linked {
        return Ok(());
    }
    let left = unknown_after.saturating_sub(current.silent_for);
    Err(Rival { retry_after: u32::try_from(left.as_secs()).unwrap_or(u32::MAX).saturating_add(1) })
}

/// Why a message that carries `epoch` (none: it does not say) is not heard; `None` if it is.
/// `open` is whether a session exists at all under `current`, the newest epoch.
pub(crate) fn gone(open: bool, current: SessionEpoch, epoch: Option<SessionEpoch>) -> Option<GoneReason> {
    match epoch {
        _ if !open => Some(GoneReason::Revoked),
        None => None,
        Some(epoch) if epoch < current => Some(GoneReason::Superseded),
        // Newer than anything this host remembers: its database has been set back.
        Some(epoch) if epoch > current => Some(GoneReason::Revoked),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use manman_common::RunId;
    use uuid::Uuid;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);

    fn process(run: u128, boot: &str, home: &str) -> ProcessIdentity {
        ProcessIdentity {
            run_id: RunId::from_uuid(Uuid::from_u128(run)),
            boot_id: boot.to_owned(),
            pid: 7,
            start_ticks: 9,
            home: home.to_owned(),
        }
    }

    fn live(linked: bool) -> Current {
        Current {
            process: Some(process(1, "boot", "home")),
            linked,
            had_link: true,
            silent_for: Duration::from_secs(3),
            process_gone: false,
        }
    }

    #[test]
    fn a_clone_never_evicts_the_original() {
        let clone = process(2, "another boot", "home");
        assert_eq!(may_begin(Some(&live(true)), Some(&clone), LIMIT), Err(Rival { retry_after: 13 }));
        assert!(may_begin(Some(&live(false)), Some(&clone), LIMIT).is_err(), "it beats, though its link is down");
        let silent = Current { silent_for: LIMIT, ..live(false) };
        assert_eq!(may_begin(Some(&silent), Some(&clone), LIMIT), Ok(()));
    }

    #[test]
    fn a_copy_of_the_directory_is_no_restart() {
        let copy = process(2, "boot", "elsewhere");
        assert!(may_begin(Some(&live(true)), Some(&copy), LIMIT).is_err());
        assert!(may_begin(Some(&live(false)), Some(&copy), LIMIT).is_err());
    }

    #[test]
    fn a_restart_is_immediate() {
        let restarted = process(2, "boot", "home");
        assert_eq!(may_begin(Some(&live(false)), Some(&restarted), LIMIT), Ok(()));
        assert!(may_begin(Some(&live(true)), Some(&restarted), LIMIT).is_err(), "while the old link is open, two may be running");
        let gone = Current { process_gone: true, ..live(true) };
        assert_eq!(may_begin(Some(&gone), Some(&restarted), LIMIT), Ok(()));
        let never_linked = Current { had_link: false, ..live(false) };
        assert!(may_begin(Some(&never_linked), Some(&restarted), LIMIT).is_err(), "without links only silence tells");
    }

    #[test]
    fn the_same_process_and_a_person_by_hand_may_register_again() {
        assert_eq!(may_begin(Some(&live(true)), Some(&process(1, "boot", "home")), LIMIT), Ok(()));
        let by_hand = Current { process: None, linked: false, had_link: false, ..live(false) };
        assert_eq!(may_begin(Some(&by_hand), None, LIMIT), Ok(()));
        assert!(may_begin(Some(&live(true)), None, LIMIT).is_err());
        assert_eq!(may_begin(None, None, LIMIT), Ok(()));
    }

    #[test]
    fn every_ended_session_has_its_reason() {
        let epoch = SessionEpoch::new;
        assert_eq!(gone(true, epoch(3), Some(epoch(3))), None);
        assert_eq!(gone(true, epoch(3), None), None, "an empty beat speaks for the session there is");
        assert_eq!(gone(true, epoch(3), Some(epoch(2))), Some(GoneReason::Superseded));
        assert_eq!(gone(true, epoch(3), Some(epoch(9))), Some(GoneReason::Revoked));
        assert_eq!(gone(false, epoch(4), Some(epoch(3))), Some(GoneReason::Revoked));
        assert_eq!(gone(false, epoch(4), None), Some(GoneReason::Revoked));
    }
}
