//! Whether the host begins a session with a worker, and what it makes of the worker's memory.
//!
//! A token is handed over with each session, so a session's epoch and its token go together. Whoever
//! shows a token that is not known remembers either too little (its database is a copy, or was
//! restored) or too much (the host's was); the epoch tells which.

use std::time::Duration;

use manman_common::error::GoneReason;
use manman_common::session::{Machine, Memory, Quarantine};
use manman_common::wire::ProcessIdentity;
use manman_common::{Revision, RunId, SessionEpoch};
use uuid::Uuid;

/// SHA-256 of a resume token; the host keeps no token.
pub type TokenHash = [u8; 32];

/// Stands for a worker that shows no token: it has not been given one yet.
pub const NO_TOKEN: TokenHash = [0; 32];

/// What the host's database says of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub session_epoch: SessionEpoch,
    /// Handed over with the newest session; none for a worker that has never had one.
    pub resume: Option<TokenHash>,
    /// What the worker showed when it was given `resume`. Good until the worker has spoken in that
    /// session: the answer that carried the new token may have been lost.
    pub resume_before: Option<TokenHash>,
    /// The session with which `resume` was handed over; a revocation makes `session_epoch` grow, too.
    pub resume_epoch: SessionEpoch,
    /// The process that began that session, unless it was revoked.
    pub run_id: Option<RunId>,
    /// The machine that it was begun from.
    pub machine: Option<Machine>,
    /// The highest that the worker has told of in that session, its registration first: what is lower
    /// was found then, and is not found again.
    pub state_seq: u64,
    pub desired_revision: Revision,
    pub event_seq: u64,
    /// The host's own.
    pub timeline: Uuid,
    /// A person has confirmed that the worker follows this timeline.
    pub rebased: bool,
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
    /// To be stored as [`Ledger::resume_before`]: what the worker goes on showing if the answer with
    /// the new token does not reach it.
    pub resume_before: TokenHash,
    pub quarantine: Option<Quarantine>,
    /// The worker remembers what this host does not: the host's database went back in time, and
    /// needs a new timeline.
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
        // What a process said that was there before it comes late: it is no restart.
        (Some(old), Some(new)) => old.boot_id == new.boot_id && old.home == new.home && new.start_ticks >= old.start_ticks,
        (None, _) | (_, None) => false,
    };
    if restarted && current.had_link && !current.linked {
        return Ok(());
    }
    let left = unknown_after.saturating_sub(current.silent_for);
    Err(Rival { retry_after: u32::try_from(left.as_secs()).unwrap_or(u32::MAX).saturating_add(1) })
}

/// What the host makes of a worker's memory once its process `run` [may begin](may_begin). `shown`
/// is the hash of the resume token in `memory`.
pub fn admit(ledger: &Ledger, memory: Option<&Memory>, shown: Option<TokenHash>, run: Option<RunId>) -> Result<Admitted, Rival> {
    let nothing = Memory::default();
    let remembered = memory.unwrap_or(&nothing);
    let shown = shown.unwrap_or(NO_TOKEN);
    let known = [ledger.resume, ledger.resume_before].contains(&Some(shown));
    let newer_token = ledger.resume.is_some() && !known && remembered.session_epoch > ledger.resume_epoch;
    let ahead = !remembered.blank
        && (newer_token
            || remembered.session_epoch > ledger.session_epoch
            || remembered.have_revision > ledger.desired_revision
            || remembered.events_stored > ledger.event_seq);
    // A host that renewed its timeline since knows already, unless what it holds for a person's word
    // on it is itself of an earlier life.
    let same_timeline = remembered.timeline.is_none_or(|timeline| timeline == ledger.timeline);
    let host_regressed = ahead && (same_timeline || ledger.rebased);
    let mut found = match memory {
        // By hand, which runs nothing.
        None => None,
        Some(memory) if elsewhere(ledger, memory) => Some(Quarantine::OtherMachine),
        // A new database remembers nothing wrong; a host that has forgotten is no judge of others.
        Some(memory) if memory.blank || ahead => None,
        Some(_) if ledger.resume.is_some() && !known => Some(Quarantine::OldToken),
        Some(memory) => (memory.state_seq < ledger.state_seq).then_some(Quarantine::StateBehind),
    };
    // A process does not forget while it runs: this is a request of its own that was overtaken. Until
    // it has spoken, its answers may have been overtaken, too, and it holds any one of them.
    if run.is_some() && run == ledger.run_id {
        let forgets = matches!(found, Some(Quarantine::OldToken | Quarantine::StateBehind));
        let is_new = remembered.blank && ledger.resume.is_some();
        match ledger.resume_before {
            None if forgets || is_new => return Err(Rival { retry_after: 1 }),
            Some(_) if forgets => found = None,
            None | Some(_) => {}
        }
    }
    let above = |mine: u64, theirs: u64| if theirs > mine { theirs.saturating_add(1) } else { mine };
    Ok(Admitted {
        session_epoch: ledger.session_epoch.max(remembered.session_epoch).next(),
        resume_before: shown,
        quarantine: graver(ledger.quarantine, found),
        host_regressed,
        desired_revision: Revision::new(above(ledger.desired_revision.get(), remembered.have_revision.get())),
    })
}

/// The first machine may be off, or out of sight with all its games: nobody but a person knows.
fn elsewhere(ledger: &Ledger, memory: &Memory) -> bool {
    match (&ledger.machine, &memory.machine) {
        (Some(known), Some(here)) => !known.is_same(here),
        (None, _) | (_, None) => false,
    }
}

/// Of two doubts the one that is harder to dispel.
fn graver(a: Option<Quarantine>, b: Option<Quarantine>) -> Option<Quarantine> {
    let weight = |cause: &Quarantine| match cause {
        Quarantine::OtherMachine => 3,
        Quarantine::Rival => 2,
        Quarantine::OldToken => 1,
        Quarantine::StateBehind => 0,
    };
    a.into_iter().chain(b).max_by_key(weight)
}

/// Whether a doubt goes away without a person: the worker is on the very data directory and machine
/// of the session before, nobody else has asked for a session in so long, and nothing that it has
/// was given to another worker meanwhile.
#[must_use]
pub fn lifts_itself(cause: Quarantine, at_home: bool, no_rival_for: Duration, lift_after: Duration, given_elsewhere: bool) -> bool {
    match cause {
        Quarantine::OldToken | Quarantine::StateBehind => at_home && no_rival_for >= lift_after && !given_elsewhere,
        Quarantine::Rival | Quarantine::OtherMachine => false,
    }
}

/// Why a message that carries `epoch` (none: it does not say) is not heard; `None` if it is.
/// `open` is whether a session exists at all under `current`, the newest epoch.
#[must_use]
pub fn gone(open: bool, current: SessionEpoch, epoch: Option<SessionEpoch>) -> Option<GoneReason> {
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
mod tests;
