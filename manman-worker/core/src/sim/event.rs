//! What may happen next.

use proptest::prelude::*;

use crate::{FailureKind, Mode};

/// Servers in a simulation; a bug that needs more than three to show has not been met.
pub(super) const SERVERS: u128 = 3;

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The host wishes something new of a server.
    Wish {
        server: u128,
        change: Change,
    },
    /// An old wish comes again: a link that repeats, a host restored from a backup.
    OldWish {
        server: u128,
        age: usize,
    },
    /// Somebody at this machine starts or stops it.
    Here {
        server: u128,
        start: bool,
    },
    /// The step under way for a server ends this way.
    StepEnds {
        server: u128,
        how: How,
    },
    /// SIGKILL of the worker. Of the steps under way, some take effect all the same, some later.
    WorkerDies {
        fates: [Fate; SERVERS as usize],
    },
    /// The game ends by itself.
    GameEnds {
        server: u128,
        code: i32,
    },
    /// Somebody removed the instance behind the worker's back.
    Vanishes {
        server: u128,
    },
    Ready {
        server: u128,
    },
    /// It has not answered for so long, perhaps after having done so for a while.
    Silent {
        server: u128,
        was_ready: bool,
        seconds: u64,
    },
    /// A person types the stop command, and the game obeys.
    TypedStop {
        server: u128,
    },
    /// Another live instance of the server is there: a database that was lost, a copied label.
    Intruder {
        server: u128,
    },
    /// Something that no record mentions runs.
    Orphan,
    Blind {
        blind: bool,
    },
    Mode(Mode),
    /// A host of yesterday, which has not heard that the server was given elsewhere, wishes it anew.
    OldEpoch {
        server: u128,
    },
    /// The host has renewed every lease.
    LeaseRenewed,
    /// It has not, and whatever holds the game has ended it.
    LeaseEnds,
    Time {
        seconds: u32,
    },
    /// The clock is set, forwards or back.
    ClockStep {
        seconds: i32,
    },
    /// An effect that was thought lost takes place now.
    Lands {
        which: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Run,
    Stop,
    Kill,
    Restart,
    /// Other arguments.
    Edit,
    /// Another image.
    OtherImage,
    Delete {
        purge: bool,
    },
    /// Given to another worker, and given back.
    Away,
    Back,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// It takes effect and says so.
    Well,
    /// It takes effect and says that it failed.
    ReplyLost,
    /// It has no effect and says so.
    Fails(FailureKind),
    /// It says that it failed, and takes effect later.
    Late,
    /// A start that leaves an instance which never ran.
    HalfWay,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Lost,
    Done,
    Late,
    HalfWay,
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let server = 1..=SERVERS;
    prop_oneof![
        6 => (server.clone(), change()).prop_map(|(server, change)| Event::Wish { server, change }),
        1 => (server.clone(), 1..4usize).prop_map(|(server, age)| Event::OldWish { server, age }),
        1 => (server.clone(), any::<bool>()).prop_map(|(server, start)| Event::Here { server, start }),
        16 => (server.clone(), how()).prop_map(|(server, how)| Event::StepEnds { server, how }),
        2 => [fate(), fate(), fate()].prop_map(|fates| Event::WorkerDies { fates }),
        4 => (server.clone(), prop_oneof![Just(0), Just(1), Just(137)]).prop_map(|(server, code)| Event::GameEnds { server, code }),
        1 => server.clone().prop_map(|server| Event::Vanishes { server }),
        4 => server.clone().prop_map(|server| Event::Ready { server }),
        6 => (server.clone(), any::<bool>(), 20..200u64).prop_map(|(server, was_ready, seconds)| Event::Silent { server, was_ready, seconds }),
        1 => server.clone().prop_map(|server| Event::TypedStop { server }),
        1 => server.clone().prop_map(|server| Event::Intruder { server }),
        1 => Just(Event::Orphan),
        2 => any::<bool>().prop_map(|blind| Event::Blind { blind }),
        6 => mode().prop_map(Event::Mode),
        1 => server.clone().prop_map(|server| Event::OldEpoch { server }),
        2 => Just(Event::LeaseRenewed),
        1 => Just(Event::LeaseEnds),
        4 => (1..30u32).prop_map(|seconds| Event::Time { seconds }),
        2 => (30..2000u32).prop_map(|seconds| Event::Time { seconds }),
        1 => (-100_000..100_000i32).prop_map(|seconds| Event::ClockStep { seconds }),
        2 => any::<usize>().prop_map(|which| Event::Lands { which }),
    ]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![2 => Just(Mode::Normal), 2 => Just(Mode::Frozen), 2 => Just(Mode::Regressed), 1 => Just(Mode::Quarantined)]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => Just(Change::Run),
        3 => Just(Change::Stop),
        1 => Just(Change::Kill),
        2 => Just(Change::Restart),
        2 => Just(Change::Edit),
        1 => Just(Change::OtherImage),
        1 => any::<bool>().prop_map(|purge| Change::Delete { purge }),
        1 => Just(Change::Away),
        1 => Just(Change::Back),
    ]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        12 => Just(How::Well),
        1 => Just(How::ReplyLost),
        2 => Just(How::Fails(FailureKind::Retry)),
        1 => Just(How::Fails(FailureKind::Final)),
        1 => Just(How::Fails(FailureKind::Gone)),
        2 => Just(How::Late),
        1 => Just(How::HalfWay),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![Just(Fate::Lost), Just(Fate::Done), Just(Fate::Late), Just(Fate::HalfWay)]
}
