//! Whether the host begins a session with a worker, and what it makes of the worker's memory.

use std::time::Duration;

use manman_common::session::{Memory, Quarantine};
use manman_common::wire::ProcessIdentity;
use manman_common::{Revision, SessionEpoch};
use uuid::Uuid;

/// SHA-256 of a resume token; the host keeps no token.
pub type TokenHash = [u8; 32];

/// What the host's database says of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub session_epoch: SessionEpoch,
    /// Handed over with the newest session; none for a worker that has never had one.
    pub resume: Option<TokenHash>,
    /// The one before. Good until the worker has spoken in the newest session: the answer that
    /// carried the new token may have been lost.
    pub resume_before: Option<TokenHash>,
    /// The highest that the worker has told of.
    pub state_seq: u64,
    pub desired_revision: Revision,
    pub event_seq: u64,
    /// The host's own.
    pub timeline: Uuid,
    /// Found earlier and not lifted by anybody since.
    pub quarantine: Option<Quarantine>,
}

/// The session that a worker has now.
#[derive(Clone, Debug)]
pub struct Current {
    /// Absent for a registration by hand.
    pub process: Option<ProcessIdentity>,
    pub linked: bool,
    /// It has had a link, so that a closed one says that its process is gone or cut off.
    pub had_link: bool,
    pub silent_for: Duration,
    /// The process is on the host's own machine and does not live any more.
    pub process_gone: bool,
}

/// Another process of this worker is alive; trying again makes sense after so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    pub retry_after: u32,
}

/// What a new session begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Above all that either side remembers.
    pub session_epoch: SessionEpoch,
    pub quarantine: Option<Quarantine>,
    /// The worker remembers what this host does not: the host's database went back in time, and
    /// needs a new timeline unless it has taken one since.
    pub host_regressed: bool,
    /// The revision from which the host goes on, above all that the worker has seen.
    pub desired_revision: Revision,
}

/// Whether `asking` may begin a session in place of `current`.
pub fn may_begin(current: Option<&Current>, asking: Option<&ProcessIdentity>, unknown_after: Duration) -> Result<(), Rival> {
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

/// What the host makes of a worker's memory once it [may begin](may_begin). `shown` is the hash of
/// the resume token in `memory`.
#[must_use]
pub fn admit(ledger: &Ledger, memory: Option<&Memory>, shown: Option<TokenHash>) -> Admitted {
    let nothing = Memory::default();
    let remembered = memory.unwrap_or(&nothing);
    // Of one timeline, whoever remembers more is right; of two, numbers say nothing.
    let same_timeline = remembered.timeline.is_none_or(|timeline| timeline == ledger.timeline);
    let ahead = remembered.session_epoch > ledger.session_epoch
        || remembered.have_revision > ledger.desired_revision
        || remembered.events_stored > ledger.event_seq;
    let host_regressed = same_timeline && ahead;
    let found = match memory {
        // A host that has forgotten is no judge of who remembers too little.
        Some(memory) if !memory.blank && same_timeline && !ahead => doubt(ledger, memory, shown),
        // By hand, which runs nothing; a new database, which remembers nothing wrong; another timeline.
        None | Some(_) => None,
    };
    let above = |mine: u64, theirs: u64| if theirs > mine { theirs.saturating_add(1) } else { mine };
    Admitted {
        session_epoch: ledger.session_epoch.max(remembered.session_epoch).next(),
        quarantine: ledger.quarantine.or(found),
        host_regressed,
        desired_revision: Revision::new(above(ledger.desired_revision.get(), remembered.have_revision.get())),
    }
}

fn doubt(ledger: &Ledger, memory: &Memory, shown: Option<TokenHash>) -> Option<Quarantine> {
    let known = |hash: Option<TokenHash>| hash.is_some() && hash == shown;
    if ledger.resume.is_some() && !known(ledger.resume) && !known(ledger.resume_before) {
        return Some(Quarantine::OldToken);
    }
    (memory.state_seq < ledger.state_seq).then_some(Quarantine::StateBehind)
}
