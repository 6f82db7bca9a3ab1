//! How a worker's memory stands with the host: whether it is trusted, which timeline it goes with,
//! and whether somebody else lives under its identity.

use std::time::Instant;

use manman_common::link::InventoryItem;
use manman_common::session::{Quarantine, SessionTerms};
use manman_common::wire::ProcessIdentity;
use manman_common::{Revision, RunId, SessionEpoch};
use uuid::Uuid;

use crate::clock;
use crate::db::worker::TrustFacts;

/// Servers of an inventory that are kept for a look at what a rebase would do.
pub(crate) const INVENTORY_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) quarantine: Option<Quarantine>,
    /// Since when, or since the host's start.
    pub(crate) quarantined_since: Option<Instant>,
    /// Found on the data directory of the session before.
    pub(crate) at_home: bool,
    /// The timeline that the worker goes with.
    timeline: Option<Uuid>,
    pub(crate) rebased_timeline: Option<Uuid>,
    /// The highest number of its own transactions that the worker has told of in this session.
    pub(crate) state_seq: u64,
    /// The resume token before the newest is still good.
    pub(crate) unconfirmed: bool,
    /// The host has taken another timeline: the worker hears of it by registering again.
    pub(crate) dismissed: bool,
    /// The process of a session that was revoked.
    left: Option<(SessionEpoch, ProcessIdentity)>,
    /// A process elsewhere, whose session another has taken over.
    displaced: Option<(SessionEpoch, ProcessIdentity)>,
    refused: Option<Refused>,
    rival_at: Option<Instant>,
    /// What the worker said at the beginning of its link.
    pub(crate) inventory: Option<Vec<InventoryItem>>,
    /// Something of it has been given to another worker since.
    pub(crate) holds_what_was_moved: bool,
    /// The revision in which the last of what was moved away from the worker is; it has not stored
    /// that yet.
    must_let_go: Option<Revision>,
    /// In this session, generations that are equal say nothing: the host has counted anew.
    pub(crate) lift_equal: bool,
}

/// A process that asked for a session while another had it.
#[derive(Clone, Copy, Debug)]
struct Refused {
    run_id: RunId,
    since: Instant,
    told: bool,
}

impl Standing {
    pub(crate) fn of(facts: &TrustFacts) -> Self {
        Self {
            quarantine: facts.quarantine,
            quarantined_since: facts.quarantine.map(|_| clock::instant()),
            at_home: facts.quarantine_at_home,
            timeline: facts.timeline,
            rebased_timeline: facts.rebased_timeline,
            state_seq: facts.state_seq,
            unconfirmed: facts.resume_before.is_some(),
            must_let_go: facts.must_let_go,
            ..Self::default()
        }
    }

    /// A session has begun with what is stored now, by this process.
    pub(crate) fn begin(&mut self, facts: &TrustFacts, old: Option<(SessionEpoch, ProcessIdentity)>, new: Option<&ProcessIdentity>) {
        let since = self.quarantined_since.filter(|_| self.quarantine == facts.quarantine);
        let left = old.or_else(|| self.left.take());
        *self = Self {
            displaced: left.filter(|(_, old)| new.is_some_and(|new| is_elsewhere(old, new))),
            refused: self.refused,
            rival_at: self.rival_at,
            ..Self::of(facts)
        };
        if since.is_some() {
            self.quarantined_since = since;
        }
    }

    pub(crate) fn revoked(&mut self, epoch: SessionEpoch, process: Option<ProcessIdentity>) {
        self.left = process.map(|process| (epoch, process));
    }

    /// What the worker is told with every answer.
    pub(crate) fn terms(&self, host: Uuid) -> SessionTerms {
        SessionTerms { timeline: Some(host), rebased: self.rebased_timeline == Some(host), quarantine: self.quarantine }
    }

    /// The worker goes with another timeline than the host's, and nobody has said that it should not.
    pub(crate) fn rebase_needed(&self, host: Uuid) -> bool {
        self.timeline.is_some_and(|timeline| timeline != host) && self.rebased_timeline != Some(host)
    }

    pub(crate) fn distrust(&mut self, why: Quarantine) {
        self.quarantine = Some(why);
        self.quarantined_since = Some(clock::instant());
        self.at_home = false;
    }

    pub(crate) fn trust(&mut self, timeline: Option<Uuid>) {
        self.quarantine = None;
        self.quarantined_since = None;
        self.rebased_timeline = timeline.or(self.rebased_timeline);
    }

    /// Another process was refused while `current` has the session, which was last heard of at
    /// `heard`; whether that is news. A machine that has just been started anew asks as well, but
    /// then nothing is heard of the process that it was before.
    pub(crate) fn note_refused(&mut self, current: Option<&ProcessIdentity>, asking: Option<&ProcessIdentity>, heard: Instant) -> bool {
        let (Some(current), Some(asking)) = (current, asking) else { return false };
        if !is_elsewhere(current, asking) {
            return false;
        }
        let now = clock::instant();
        let refused = match self.refused {
            Some(known) if known.run_id == asking.run_id => known,
            _ => Refused { run_id: asking.run_id, since: now, told: false },
        };
        let both_live = heard > refused.since;
        if both_live {
            self.rival_at = Some(now);
        }
        self.refused = Some(Refused { told: refused.told || both_live, ..refused });
        both_live && !refused.told
    }

    /// Whether a word of this ended session comes from a process that lives elsewhere, under the
    /// same identity as the one that has the session now. True once.
    pub(crate) fn is_rival(&mut self, epoch: Option<SessionEpoch>) -> bool {
        let Some((old, process)) = &self.displaced else { return false };
        // What lies unread in a socket is no sign of life.
        if epoch != Some(*old) || super::process::has_ended(process) {
            return false;
        }
        self.displaced = None;
        self.rival_at = Some(clock::instant());
        true
    }

    /// Something was moved away, or is about to be: until the worker has stored this revision, no beat
    /// of its is acknowledged, and so no lease begins.
    pub(crate) fn let_go_by(&mut self, revision: Revision) {
        self.must_let_go = self.must_let_go.max(Some(revision));
    }

    /// It was not moved after all, or is as it was.
    pub(crate) fn let_go_as(&mut self, before: Option<Revision>) {
        self.must_let_go = before;
    }

    pub(crate) fn must_let_go(&self) -> Option<Revision> {
        self.must_let_go
    }

    /// Whether a worker that has stored so much has let go of all that was moved away from it.
    pub(crate) fn has_let_go(&mut self, observed: Revision) -> bool {
        self.must_let_go = self.must_let_go.filter(|revision| observed < *revision);
        self.must_let_go.is_none()
    }

    pub(crate) fn rival_at(&self) -> Option<Instant> {
        self.rival_at
    }
}

/// Not merely a restart: another boot, or another directory.
fn is_elsewhere(one: &ProcessIdentity, other: &ProcessIdentity) -> bool {
    one.run_id != other.run_id && (one.boot_id != other.boot_id || one.home != other.home)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::fake_worker::process;

    #[test]
    fn only_who_lives_beside_another_is_a_rival() {
        let (original, copy) = (process("home"), process("copy"));
        let mut standing = Standing::default();
        let before = clock::instant();
        assert!(!standing.note_refused(Some(&original), Some(&copy), before), "it may have been the original's last word");
        assert!(standing.note_refused(Some(&original), Some(&copy), clock::instant()), "both are heard of");
        assert!(!standing.note_refused(Some(&original), Some(&copy), clock::instant()), "it is told once");
        assert!(standing.rival_at().is_some());
        let restarted = process("home");
        assert!(!standing.note_refused(Some(&original), Some(&restarted), clock::instant()), "a restart is none");
    }

    #[test]
    fn a_displaced_process_that_speaks_is_a_rival_once() {
        let (old, new) = (SessionEpoch::new(3), process("copy"));
        let mut standing = Standing::default();
        // A process of another boot: whether it lives can not be seen from here.
        standing.begin(&TrustFacts::default(), Some((old, process("home"))), Some(&new));
        assert!(!standing.is_rival(Some(SessionEpoch::new(2))) && !standing.is_rival(None));
        assert!(standing.is_rival(Some(old)));
        assert!(!standing.is_rival(Some(old)));
        standing.begin(&TrustFacts::default(), Some((old, process("copy"))), Some(&new));
        assert!(!standing.is_rival(Some(old)), "it was restarted");
    }

    #[test]
    fn a_worker_of_another_timeline_follows_with_reserve_until_it_is_rebased() {
        let (t1, t2) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut standing = Standing::of(&TrustFacts { timeline: Some(t1), ..TrustFacts::default() });
        assert!(!standing.rebase_needed(t1) && standing.rebase_needed(t2));
        standing.trust(Some(t2));
        assert!(!standing.rebase_needed(t2) && standing.terms(t2).rebased);
        assert!(standing.rebase_needed(Uuid::from_u128(3)), "of the next timeline nobody has said anything");
    }
}
