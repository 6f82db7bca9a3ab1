//! The simulator: a worker, its machine and its host in one loop of events, with faults at every
//! step, and the invariants of the plan checked after each.
//!
//! The judgement under test sits behind a [`Brain`], so that a planted [`Bug`] can stand in for it:
//! a simulator that lets a known bug pass proves nothing by passing.

mod brain;
mod event;
pub(crate) mod fixtures;
mod machine;
mod rules;
mod worker;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use self::brain::{BUGS, Brain, Bug};
use self::event::{Change, Event, How, event};
use self::worker::Sim;

/// Cases of the main run; a planted bug must be found within as many. More, by hand:
/// `MANMAN_SIM_CASES=500000 cargo test -p manman-worker-core sim::holds`, with other seeds each time
/// unless PROPTEST_RNG_SEED says which.
const CASES: u32 = 2000;
const EVENTS_MAX: usize = 40;

/// Half of them begin with a game that runs, which much of what goes wrong goes wrong with.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let begin = [
        Event::Wish { server: 1, change: Change::Run },
        Event::StepEnds { server: 1, how: How::Well },
        Event::StepEnds { server: 1, how: How::Well },
        Event::Ready { server: 1 },
    ];
    let rest = prop::collection::vec(event(), 1..EVENTS_MAX);
    (any::<bool>(), rest).prop_map(move |(warm, rest)| if warm { begin.iter().cloned().chain(rest).collect() } else { rest })
}

fn run(brain: Brain, events: &[Event]) -> Result<(), String> {
    let mut sim = Sim::new(brain);
    for (number, event) in events.iter().enumerate() {
        sim.happen(event).map_err(|broken| format!("after event {number} ({event:?}): {broken}"))?;
    }
    sim.settle().map_err(|broken| format!("when the faults had stopped: {broken}"))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long to try is said by who runs the test, not by the world")]
fn holds_its_invariants_whatever_happens() {
    let cases = std::env::var("MANMAN_SIM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&events(), |events| run(Brain::sound(), &events).map_err(TestCaseError::fail));
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, events)) => panic!("{reason}\n{events:#?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

fn is_caught(bug: Bug) -> Option<String> {
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&events(), |events| run(Brain::with(bug), &events).map_err(TestCaseError::fail));
    match result {
        Ok(()) => None,
        Err(TestError::Fail(reason, _) | TestError::Abort(reason)) => Some(reason.to_string()),
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let missed: Vec<Bug> = BUGS.into_iter().filter(|bug| is_caught(*bug).is_none()).collect();
    assert!(missed.is_empty(), "not caught within {CASES} cases: {missed:?}");
}
