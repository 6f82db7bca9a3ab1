//! Planted violations: a checker that finds nothing has to be shown to be able to.

use super::super::{Settled, Stored, Wish};
use super::*;

fn process(pid: i32) -> Process {
    Process { pid, ticks: 1000 + u64::from(pid.unsigned_abs()) }
}

fn entry(at_ms: u64, machine: &str, instance: &str, what: What) -> Entry {
    Entry { at_ms, machine: machine.to_owned(), server: "world".to_owned(), instance: instance.to_owned(), what }
}

fn begins(at_ms: u64, machine: &str, instance: &str, epoch: u64, pid: i32) -> Entry {
    entry(at_ms, machine, instance, What::Begins { epoch, process: process(pid) })
}

fn ends(at_ms: u64, machine: &str, instance: &str, code: Option<i32>, asked: bool) -> Entry {
    entry(at_ms, machine, instance, What::Ends { code, signal: None, cause: None, asked })
}

fn stored(seq: u64, kind: &str, instance: &str) -> Stored {
    let instance = Some(instance.to_owned());
    Stored { id: 0, seq, worker: "attic".to_owned(), server: "world".to_owned(), kind: kind.to_owned(), instance }
}

/// A crash, a move to another machine, and a stop that a person asked for.
fn sound() -> History {
    let settled = Settled { server: "world".to_owned(), generation: 3, applied: 3, instance: None, wanted: false, leased: false };
    History {
        journal: vec![
            begins(10, "attic", "a", 1, 100),
            ends(20, "attic", "a", Some(9), false),
            begins(30, "attic", "b", 1, 101),
            entry(35, "attic", "b", What::Adopts { process: process(102) }),
            entry(40, "attic", "b", What::Signalled { process: process(101) }),
            entry(41, "attic", "b", What::Signalled { process: process(102) }),
            ends(45, "attic", "b", Some(0), true),
            begins(60, "cellar", "c", 2, 103),
            ends(80, "cellar", "c", Some(0), true),
        ],
        witness: Vec::new(),
        stored: vec![
            stored(1, "server.started", "a"),
            stored(2, "server.crashed", "a"),
            stored(3, "server.started", "b"),
            stored(4, "server.stopped", "b"),
        ],
        wishes: vec![
            Wish { server: "world".to_owned(), at_ms: 38, ends_it: true, once: None },
            Wish { server: "world".to_owned(), at_ms: 70, ends_it: true, once: Some((1, 1)) },
        ],
        settled: vec![settled],
        told: [("attic".to_owned(), 4)].into(),
    }
}

fn broken(history: &History) -> Vec<&'static str> {
    let mut broken: Vec<_> = check(history).into_iter().map(|violation| violation.invariant).collect();
    broken.dedup();
    broken
}

#[test]
fn a_sound_history_is_found_sound() {
    assert_eq!(check(&sound()), []);
}

#[test]
fn an_overlap_on_two_machines_is_caught() {
    let mut history = sound();
    // The other machine begins before the first has ended.
    history.journal[7].at_ms = 44;
    assert_eq!(broken(&history), ["I1"]);

    // A game that never ended overlaps whatever begins later.
    let mut history = sound();
    history.journal.remove(1);
    assert!(broken(&history).contains(&"I1"));
}

#[test]
fn a_game_that_saw_another_is_believed() {
    let mut history = sound();
    let line = r#"{"world":"world","what":"begins","pid":1,"ticks":2,"boot_ms":3,"cwd":"/","alone":false,"others":["another copy"]}"#;
    history.witness.push(serde_json::from_str(line).unwrap());
    assert_eq!(broken(&history), ["I1"]);
}

#[test]
fn an_epoch_that_falls_is_caught() {
    let mut history = sound();
    history.journal[7].what = What::Begins { epoch: 0, process: process(103) };
    assert_eq!(broken(&history), ["I2"]);
}

#[test]
fn a_command_done_twice_or_never_answered_is_caught() {
    for once in [(2, 1), (1, 0)] {
        let mut history = sound();
        history.wishes[1].once = Some(once);
        assert_eq!(broken(&history), ["I3"], "{once:?}");
    }
}

#[test]
fn a_signal_to_a_stranger_is_caught() {
    let mut history = sound();
    // The right pid, of a process that began at another time.
    history.journal[4].what = What::Signalled { process: Process { pid: 101, ticks: 1 } };
    assert_eq!(broken(&history), ["I4"]);
}

#[test]
fn an_exit_recorded_twice_is_caught() {
    let mut history = sound();
    history.journal.insert(2, ends(21, "attic", "a", Some(9), false));
    assert_eq!(broken(&history), ["I5"]);

    let mut history = sound();
    history.stored.push(stored(5, "server.crashed", "a"));
    assert_eq!(broken(&history), ["I5"]);
}

#[test]
fn an_end_without_code_or_cause_or_without_a_record_is_caught() {
    let mut history = sound();
    history.journal[1] = ends(20, "attic", "a", None, false);
    assert_eq!(broken(&history), ["I5"]);

    let mut history = sound();
    history.journal.pop();
    assert_eq!(broken(&history), ["I5"]);
}

#[test]
fn an_end_that_nobody_wished_is_caught() {
    let mut history = sound();
    // Long before is no wish either: it was met, or given up, by then.
    history.wishes.pop();
    for entry in &mut history.journal {
        entry.at_ms += if entry.at_ms >= 60 { 200_000 } else { 0 };
    }
    assert_eq!(broken(&history), ["I6"]);
}

#[test]
fn a_wish_that_is_not_met_is_caught() {
    let mut history = sound();
    history.settled[0].wanted = true;
    assert_eq!(broken(&history), ["I7"]);
}

#[test]
fn an_event_lost_or_doubled_is_caught() {
    let mut history = sound();
    history.stored.remove(2);
    assert_eq!(broken(&history), ["I8"]);

    let mut history = sound();
    history.told.insert("attic".to_owned(), 5);
    assert_eq!(broken(&history), ["I8"]);

    let mut history = sound();
    let again = history.stored[0].clone();
    history.stored.push(again);
    assert_eq!(broken(&history), ["I8"]);
}
