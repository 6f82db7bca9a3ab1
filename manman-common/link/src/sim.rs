//! The simulator: a host, workers, machines and people over a network that loses, doubles, delays,
//! overtakes and cuts; databases put back, lost and copied; and the invariants checked after each step.
//!
//! Both ends are made of the very rules of this crate and of the worker's own judgement. A [`Bug`]
//! can be planted: a simulator that lets a known one pass proves nothing by passing.
//!
//! A scheduler of its own, since turmoil simulates hosts that are tasks over sockets: here each end
//! is a value, may die between any two steps with what it had written, be copied, or get yesterday's
//! database, a thousand times a second.

mod host;
mod machine;
mod net;
mod people;
mod rng;
mod round;
mod rows;
mod truth;
mod worker;
mod world;

use self::world::World;

/// Mistakes that somebody could make at either end, each of which must be caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    AnyTokenWillDo,
    ForgetsLostAnswers,
    EveryMachineIsWelcome,
    RivalsDisplace,
    IgnoresQuarantine,
    ObeysARegressedHost,
    KeepsItsTimeline,
    LiftsNoGenerations,
    LiftsOnlyWhatIsAbove,
    AbsentMeansDeleted,
    AcknowledgesWhatIsNotThere,
    TakesLowerEpochs,
    KeepsItsNumbers,
    ForgetsEventsUnderWay,
    ForgetsReplies,
    MovesWithoutProof,
    ForgetsStops,
}

const BUGS: [Bug; 17] = [
    Bug::AnyTokenWillDo,
    Bug::ForgetsLostAnswers,
    Bug::EveryMachineIsWelcome,
    Bug::RivalsDisplace,
    Bug::IgnoresQuarantine,
    Bug::ObeysARegressedHost,
    Bug::KeepsItsTimeline,
    Bug::LiftsNoGenerations,
    Bug::LiftsOnlyWhatIsAbove,
    Bug::AbsentMeansDeleted,
    Bug::AcknowledgesWhatIsNotThere,
    Bug::TakesLowerEpochs,
    Bug::KeepsItsNumbers,
    Bug::ForgetsEventsUnderWay,
    Bug::ForgetsReplies,
    Bug::MovesWithoutProof,
    Bug::ForgetsStops,
];

/// Seeds of one part of the ordinary run.
const CASES: u64 = 1000;

/// As many as one likes: `MANMAN_SIM_CASES=100000 cargo test -p manman-link sim`, or a single one, with
/// what happened in it: `MANMAN_SIM_SEED=7 cargo test -p manman-link sim`.
fn lives_through(part: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match (number("MANMAN_SIM_SEED"), number("MANMAN_SIM_CASES")) {
        (Some(seed), _) => seed..seed + 1,
        (None, cases) => {
            let cases = cases.map_or(CASES, |cases| cases.div_ceil(3));
            part * cases..(part + 1) * cases
        }
    };
    for seed in seeds {
        let mut world = World::new(seed, None);
        if let Err(broken) = world.live() {
            panic!("{}\nseed {seed}: {broken}\nagain: MANMAN_SIM_SEED={seed} cargo test -p manman-link sim", world.trace());
        }
    }
}

#[test]
fn host_and_workers_live_through_a_third_of_the_storms() {
    lives_through(0);
}

#[test]
fn host_and_workers_live_through_another_third_of_the_storms() {
    lives_through(1);
}

#[test]
fn host_and_workers_live_through_the_last_third_of_the_storms() {
    lives_through(2);
}

#[test]
fn every_planted_bug_is_caught() {
    // These take more than chance finds in the first thousand: a world that went away and came back in a life that was
    // forgotten; one that was stopped, forgot it, and was given away before it spoke again.
    let from = |bug: Bug| match bug {
        Bug::LiftsOnlyWhatIsAbove | Bug::TakesLowerEpochs => 1500,
        Bug::ForgetsStops => 6000,
        _ => 0,
    };
    let caught = |bug: Bug| (from(bug)..from(bug) + CASES).any(|seed| World::new(seed, Some(bug)).live().is_err());
    let missed: Vec<Bug> = BUGS.into_iter().filter(|bug| !caught(*bug)).collect();
    assert!(missed.is_empty(), "not caught within {CASES} seeds: {missed:?}");
}
