use proptest::prelude::*;

use super::*;

const LIMIT: Duration = Duration::from_secs(15);

fn process(run: u128, boot: &str, home: &str) -> ProcessIdentity {
    ProcessIdentity { run_id: run_id(run), boot_id: boot.to_owned(), pid: 7, start_ticks: 9, home: home.to_owned() }
}

fn run_id(n: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(n))
}

fn live(linked: bool) -> Current {
    Current { process: Some(process(1, "boot", "home")), linked, had_link: true, silent_for: Duration::from_secs(3), process_gone: false }
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

fn hash(n: u64) -> TokenHash {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&n.to_be_bytes());
    hash
}

fn machine(name: &str) -> Machine {
    Machine { hardware: vec![name.to_owned()], software: Vec::new() }
}

/// A worker and what the host has of it, doing what both do with an [`Admitted`].
#[derive(Clone)]
struct Pair {
    ledger: Ledger,
    memory: Memory,
    token: Option<TokenHash>,
    /// Counts tokens, which are never equal.
    tokens: u64,
}

impl Pair {
    fn new() -> Self {
        let ledger = Ledger { timeline: Uuid::from_u128(1), ..Ledger::default() };
        Self { ledger, memory: Memory { blank: true, machine: Some(machine("a")), ..Memory::default() }, token: None, tokens: 0 }
    }

    /// One whose worker has been there for a while.
    fn settled() -> Self {
        let mut pair = Self::new();
        for run in 1..=3 {
            pair.meet(run);
        }
        pair
    }

    fn ask(&mut self, memory: &Memory, token: Option<TokenHash>, run: u128) -> Result<(Admitted, TokenHash), Rival> {
        let admitted = admit(&self.ledger, Some(memory), token, Some(run_id(run)))?;
        self.tokens += 1;
        let given = hash(self.tokens);
        if admitted.host_regressed {
            self.ledger.timeline = Uuid::from_u128(1000 + u128::from(self.tokens));
            self.ledger.rebased = false;
        }
        self.ledger = Ledger {
            session_epoch: admitted.session_epoch,
            resume: Some(given),
            resume_before: Some(admitted.resume_before),
            resume_epoch: admitted.session_epoch,
            run_id: Some(run_id(run)),
            machine: memory.machine.clone(),
            state_seq: memory.state_seq,
            desired_revision: admitted.desired_revision,
            quarantine: admitted.quarantine,
            ..self.ledger.clone()
        };
        Ok((admitted, given))
    }

    /// A registration whose answer is lost.
    fn knock(&mut self, run: u128) -> Result<Admitted, Rival> {
        let (memory, token) = (self.memory.clone(), self.token);
        self.ask(&memory, token, run).map(|(admitted, _)| admitted)
    }

    /// A whole session: registered, stored, confirmed by a beat, worked in.
    fn meet(&mut self, run: u128) -> Admitted {
        let (memory, token) = (self.memory.clone(), self.token);
        let (admitted, given) = self.ask(&memory, token, run).expect("nobody else asks");
        self.token = Some(given);
        self.memory = Memory {
            session_epoch: admitted.session_epoch,
            state_seq: memory.state_seq + 5,
            have_revision: admitted.desired_revision.next(),
            events_stored: memory.events_stored + 3,
            timeline: memory.timeline.or(Some(self.ledger.timeline)),
            blank: false,
            ..memory
        };
        self.ledger.resume_before = None;
        self.ledger.state_seq = self.memory.state_seq;
        self.ledger.desired_revision = self.memory.have_revision;
        self.ledger.event_seq = self.memory.events_stored;
        admitted
    }
}

#[test]
fn a_worker_that_comes_back_is_trusted() {
    let mut pair = Pair::settled();
    let admitted = pair.meet(9);
    assert_eq!((admitted.quarantine, admitted.host_regressed), (None, false));
}

#[test]
fn an_answer_that_is_lost_is_survived_however_often() {
    for mut pair in [Pair::new(), Pair::settled()] {
        for _ in 0..3 {
            let admitted = pair.knock(9).expect("the same process");
            assert_eq!((admitted.quarantine, admitted.host_regressed), (None, false));
        }
        let admitted = pair.meet(10);
        assert_eq!((admitted.quarantine, admitted.host_regressed), (None, false), "and a restart in between");
    }
}

#[test]
fn a_worker_without_a_token_yet_survives_a_lost_answer_too() {
    let mut pair = Pair::settled();
    // As after an update from a version that had no tokens, or a session from before it was accepted.
    pair.token = None;
    pair.ledger.resume = None;
    for run in 9..12 {
        let admitted = pair.knock(run).expect("nobody else asks");
        assert_eq!((admitted.quarantine, admitted.host_regressed), (None, false));
    }
}

#[test]
fn an_old_token_is_found() {
    let mut pair = Pair::settled();
    let old = pair.clone();
    pair.meet(8);
    pair.memory = old.memory;
    pair.token = old.token;
    let admitted = pair.knock(9).expect("nobody else asks");
    assert_eq!((admitted.quarantine, admitted.host_regressed), (Some(Quarantine::OldToken), false));
    assert_eq!(pair.meet(10).quarantine, Some(Quarantine::OldToken), "it stays until it is lifted");
    pair.ledger.quarantine = None;
    assert_eq!(pair.meet(11).quarantine, None);
}

#[test]
fn a_database_restored_within_a_session_is_found_by_its_count() {
    let mut pair = Pair::settled();
    pair.memory.state_seq -= 1;
    assert_eq!(pair.knock(9).expect("nobody else asks").quarantine, Some(Quarantine::StateBehind));
}

#[test]
fn a_new_database_is_no_old_one() {
    let mut pair = Pair::settled();
    pair.memory = Memory { blank: true, machine: pair.memory.machine.clone(), ..Memory::default() };
    pair.token = None;
    let admitted = pair.meet(9);
    assert_eq!((admitted.quarantine, admitted.host_regressed), (None, false));
}

#[test]
fn another_machine_waits_for_a_person_whatever_it_remembers() {
    for blank in [false, true] {
        let mut pair = Pair::settled();
        pair.memory.blank = blank;
        pair.memory.machine = Some(machine("b"));
        assert_eq!(pair.meet(9).quarantine, Some(Quarantine::OtherMachine));
        assert_eq!(pair.meet(10).quarantine, Some(Quarantine::OtherMachine), "asking again does not help");
    }
}

#[test]
fn a_request_that_was_overtaken_is_no_old_database() {
    let mut pair = Pair::settled();
    let late = pair.clone();
    pair.meet(9);
    let before = pair.ledger.clone();
    assert_eq!(pair.ask(&late.memory, late.token, 9).map(drop), Err(Rival { retry_after: 1 }));
    assert_eq!(pair.ledger, before);
    let mut new = Pair::new();
    let first = new.clone();
    new.meet(9);
    assert!(new.ask(&first.memory, first.token, 9).is_err(), "nor is it a new database");
    assert!(new.ask(&first.memory, first.token, 10).is_ok(), "which it is in another process");
}

#[test]
fn a_process_whose_answers_overtook_each_other_is_itself_still() {
    let mut pair = Pair::settled();
    let (memory, token) = (pair.memory.clone(), pair.token);
    let (first, given) = pair.ask(&memory, token, 9).expect("nobody else asks");
    // The same request once more; the first answer is the one that was stored.
    pair.ask(&memory, token, 9).expect("the same process");
    let memory = Memory { session_epoch: first.session_epoch, ..memory };
    let admitted = pair.ask(&memory, Some(given), 9).expect("it is the same process").0;
    assert_eq!((admitted.quarantine, admitted.host_regressed), (None, false));
}

#[test]
fn a_revocation_does_not_make_an_old_database_of_a_regressed_host() {
    let mut pair = Pair::settled();
    let backup = pair.ledger.clone();
    pair.meet(9);
    // Nothing but a session was forgotten, and the worker was silent until its session was ended.
    pair.ledger = Ledger { session_epoch: backup.session_epoch.next().next(), run_id: None, ..backup };
    pair.ledger.desired_revision = pair.memory.have_revision;
    pair.ledger.event_seq = pair.memory.events_stored;
    let admitted = pair.meet(10);
    assert_eq!((admitted.quarantine, admitted.host_regressed), (None, true));
}

#[test]
fn a_person_s_word_of_an_earlier_life_does_not_count() {
    let mut pair = Pair::settled();
    // Confirmed on timeline 1 long ago; that is the backup.
    pair.ledger.rebased = true;
    let backup = pair.ledger.clone();
    pair.ledger.timeline = Uuid::from_u128(2);
    pair.memory.timeline = Some(Uuid::from_u128(2));
    pair.meet(9);
    pair.ledger = backup;
    assert!(pair.meet(10).host_regressed, "or timeline 1 would be followed without reserve");
    assert!(!pair.ledger.rebased);
}

#[test]
fn a_copy_whose_host_regressed_is_still_a_copy() {
    let mut pair = Pair::settled();
    let copy = pair.clone();
    pair.meet(8);
    // The host's timeline is new, and nobody has confirmed it; sessions go on.
    pair.ledger.timeline = Uuid::from_u128(2);
    pair.meet(9);
    let admitted = pair.ask(&copy.memory, copy.token, 10).expect("nobody else asks").0;
    assert_eq!(admitted.quarantine, Some(Quarantine::OldToken));
}

#[test]
fn the_graver_doubt_stays() {
    let mut pair = Pair::settled();
    pair.ledger.quarantine = Some(Quarantine::OtherMachine);
    pair.memory.state_seq = 0;
    assert_eq!(pair.meet(9).quarantine, Some(Quarantine::OtherMachine));
}

#[test]
fn only_what_a_restored_backup_explains_lifts_itself() {
    let long = Duration::from_secs(600);
    assert!(lifts_itself(Quarantine::OldToken, true, long, long, false));
    assert!(!lifts_itself(Quarantine::OldToken, false, long, long, false));
    assert!(!lifts_itself(Quarantine::StateBehind, true, long / 2, long, false));
    assert!(!lifts_itself(Quarantine::StateBehind, true, long, long, true));
    assert!(!lifts_itself(Quarantine::Rival, true, long, long, false));
    assert!(!lifts_itself(Quarantine::OtherMachine, true, long, long, false));
}

#[derive(Clone, Debug)]
enum Happens {
    Meet,
    AnswerLost,
    HostSaves,
    HostRestored,
    WorkerSaves,
    WorkerRestored,
    Revoked,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => Just(Happens::Meet),
        2 => Just(Happens::AnswerLost),
        1 => Just(Happens::HostSaves),
        1 => Just(Happens::HostRestored),
        1 => Just(Happens::WorkerSaves),
        1 => Just(Happens::WorkerRestored),
        1 => Just(Happens::Revoked),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// One end goes back in time, never both: it is found, and the other is not blamed. Numbers jump
    /// above what either has seen.
    #[test]
    fn whoever_went_back_is_found(events in prop::collection::vec(happens(), 1..30), host_side in any::<bool>()) {
        let mut pair = Pair::settled();
        let (mut ledger, mut memory, mut token) = (pair.ledger.clone(), pair.memory.clone(), pair.token);
        let (mut forgot, mut run) = (false, 100_u128);
        for event in events {
            run += 1;
            match event {
                Happens::Meet | Happens::AnswerLost => {
                    let (theirs, mine) = (pair.memory.clone(), pair.ledger.clone());
                    let admitted = match event {
                        Happens::Meet => pair.meet(run),
                        _ => pair.knock(run).expect("nobody else asks"),
                    };
                    prop_assert!(admitted.session_epoch > theirs.session_epoch && admitted.session_epoch > mine.session_epoch);
                    prop_assert!(admitted.desired_revision >= theirs.have_revision && admitted.desired_revision >= mine.desired_revision);
                    if host_side {
                        prop_assert_eq!(admitted.quarantine, None, "the worker is blamed");
                        // One that follows with reserve goes on doing so.
                        let reserved = theirs.timeline.is_some_and(|timeline| timeline != mine.timeline) && !mine.rebased;
                        prop_assert!(admitted.host_regressed || reserved || !forgot, "nobody saw that the host forgot");
                    } else {
                        prop_assert!(!admitted.host_regressed, "the host is blamed");
                        prop_assert_eq!(admitted.quarantine.is_some(), forgot, "nobody saw that the worker forgot");
                        pair.ledger.quarantine = None;
                    }
                    // Found once is enough: it stays found until somebody lifts it.
                    forgot = false;
                    if host_side && admitted.host_regressed {
                        pair.memory.timeline = pair.memory.timeline.or(Some(pair.ledger.timeline));
                    }
                }
                Happens::HostSaves => ledger = pair.ledger.clone(),
                Happens::HostRestored if host_side => {
                    // With a session that the worker knows of lost, or nothing.
                    forgot |= pair.memory.session_epoch > ledger.resume_epoch && pair.ledger != ledger;
                    pair.ledger = ledger.clone();
                }
                Happens::WorkerSaves => (memory, token) = (pair.memory.clone(), pair.token),
                Happens::WorkerRestored if !host_side => {
                    forgot |= pair.token != token && pair.ledger.resume_before != token;
                    (pair.memory, pair.token) = (memory.clone(), token);
                }
                Happens::Revoked => {
                    pair.ledger.session_epoch = pair.ledger.session_epoch.next();
                    pair.ledger.run_id = None;
                }
                Happens::HostRestored | Happens::WorkerRestored => {}
            }
        }
    }
}
