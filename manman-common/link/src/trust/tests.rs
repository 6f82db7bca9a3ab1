use super::*;

fn machine(hardware: &[&str], software: &[&str]) -> Machine {
    let own = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    Machine { hardware: own(hardware), software: own(software) }
}

fn terms(timeline: u128, rebased: bool, quarantine: Option<Quarantine>) -> SessionTerms {
    SessionTerms { timeline: Some(Uuid::from_u128(timeline)), rebased, quarantine }
}

fn settled() -> Trust {
    let mut trust = Trust::default();
    trust.started_on(machine(&["board"], &["id"]));
    trust.welcomed(Some("t1".to_owned()), &terms(1, false, None), machine(&["board"], &["id"]));
    trust
}

#[test]
fn one_of_each_half_makes_a_machine() {
    let known = machine(&["board", "mac"], &["id", "disk"]);
    assert!(known.is_same(&machine(&["board", "a new card"], &["id", "disk"])));
    assert!(known.is_same(&machine(&["board"], &["another id", "disk"])));
    assert!(!known.is_same(&machine(&["another board", "another mac"], &["id", "disk"])), "a cloned disk");
    assert!(!known.is_same(&machine(&["board", "mac"], &["another id", "another disk"])), "another system on the same board");
    assert!(known.is_same(&machine(&[], &["id"])), "a container sees no board");
}

#[test]
fn a_new_worker_starts_where_it_is() {
    let mut trust = Trust::default();
    trust.started_on(machine(&["board"], &["id"]));
    assert_eq!(trust.caution(), Caution::None);
}

#[test]
fn a_copy_on_another_machine_does_nothing_until_the_host_says_so() {
    let mut trust = settled();
    let other = machine(&["another"], &["id"]);
    trust.started_on(other.clone());
    assert_eq!(trust.caution(), Caution::Quarantined);
    trust.told(&terms(1, false, None), true);
    assert_eq!(trust.caution(), Caution::Quarantined, "a beat in the old session says nothing of this machine");
    trust.welcomed(Some("t2".to_owned()), &terms(1, false, Some(Quarantine::OtherMachine)), other.clone());
    assert_eq!(trust.caution(), Caution::Quarantined, "the host does not know either");
    trust.started_on(other.clone());
    assert_eq!(trust.caution(), Caution::Quarantined, "nor after a restart");
    trust.welcomed(None, &terms(1, false, Some(Quarantine::OtherMachine)), other.clone());
    trust.told(&terms(1, false, None), true);
    assert_eq!((trust.caution(), trust.resume_token.as_deref()), (Caution::None, Some("t2")));
    trust.started_on(other);
    assert_eq!(trust.caution(), Caution::None, "it belongs here now");
}

#[test]
fn back_on_its_own_machine_it_still_waits_for_its_host() {
    let mut trust = settled();
    trust.started_on(machine(&["another"], &["id"]));
    trust.started_on(machine(&["board"], &["id"]));
    assert_eq!(trust.caution(), Caution::Quarantined, "a copy of it may have been set up there meanwhile");
    trust.welcomed(None, &terms(1, false, None), machine(&["board"], &["id"]));
    assert_eq!(trust.caution(), Caution::Quarantined, "and for what it wishes now");
    trust.told(&terms(1, false, None), true);
    assert_eq!(trust.caution(), Caution::None);
}

#[test]
fn a_person_at_the_machine_may_say_that_it_is_the_one() {
    let mut trust = settled();
    let other = machine(&["another"], &["id"]);
    trust.started_on(other.clone());
    trust.rebased_here();
    assert_eq!((trust.caution(), trust.machine), (Caution::None, Some(other)));
}

#[test]
fn another_timeline_is_followed_with_reserve_until_somebody_confirms_it() {
    let mut trust = settled();
    trust.told(&terms(2, false, None), true);
    assert_eq!((trust.caution(), trust.foreign), (Caution::Regressed, Some(Uuid::from_u128(2))));
    trust.told(&terms(3, false, None), true);
    assert_eq!(trust.caution(), Caution::Regressed, "and yet another");
    trust.told(&SessionTerms::default(), true);
    assert_eq!(trust.caution(), Caution::Regressed, "who does not say confirms nothing");
    trust.told(&terms(3, true, None), true);
    assert_eq!((trust.caution(), trust.timeline), (Caution::None, Some(Uuid::from_u128(3))));
    trust.told(&terms(1, false, None), true);
    assert_eq!(trust.caution(), Caution::Regressed, "the old one comes back from a backup");
}

#[test]
fn a_host_that_finds_back_to_its_timeline_is_trusted_again() {
    let mut trust = settled();
    trust.told(&terms(2, false, None), true);
    trust.told(&terms(1, false, None), true);
    assert_eq!((trust.caution(), trust.foreign), (Caution::None, None));
}

#[test]
fn quarantine_wins_over_reserve_and_is_lifted_alone() {
    let mut trust = settled();
    trust.told(&terms(2, false, Some(Quarantine::OldToken)), true);
    assert_eq!(trust.caution(), Caution::Quarantined);
    let other_life = terms(2, false, None);
    trust.told(&other_life, true);
    assert!(trust.is_of_another_life(&other_life));
    assert_eq!(trust.caution(), Caution::Quarantined, "the session was begun on timeline 1: that may be meant for another process");
    trust.welcomed(None, &terms(2, false, Some(Quarantine::OldToken)), machine(&["board"], &["id"]));
    trust.told(&terms(2, false, None), true);
    assert_eq!(trust.caution(), Caution::Regressed);
}

#[test]
fn what_it_knows_outlives_the_process() {
    let mut trust = settled();
    trust.told(&terms(2, false, Some(Quarantine::StateBehind)), true);
    let text = serde_json::to_string(&trust).expect("it is written");
    assert_eq!(serde_json::from_str::<Trust>(&text).expect("and read"), trust);
    assert_eq!(serde_json::from_str::<Trust>("{}").expect("an empty one is read"), Trust::default());
}

#[test]
fn a_memory_is_trusted_only_once_it_holds_all_that_the_host_wishes() {
    for cause in [Quarantine::OldToken, Quarantine::StateBehind, Quarantine::Rival] {
        let mut trust = Trust::default();
        trust.started_on(machine(&["board"], &["id"]));
        trust.welcomed(None, &terms(1, false, Some(cause)), machine(&["board"], &["id"]));
        // A person has confirmed it; the link is slower than the beat, or the worker is started anew.
        trust.told(&terms(1, true, None), false);
        assert_eq!(trust.caution(), Caution::Quarantined, "{cause:?}");
        trust.welcomed(None, &terms(1, true, None), machine(&["board"], &["id"]));
        assert_eq!(trust.caution(), Caution::Quarantined, "{cause:?}");
        trust.told(&terms(1, true, None), true);
        assert_eq!(trust.caution(), Caution::None, "{cause:?}");
    }
}
