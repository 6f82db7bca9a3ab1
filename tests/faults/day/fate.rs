//! What befalls whom, for how long: the same for the same seed.

use std::time::Duration;

use manman_e2e::Way;

use crate::stage::Dice;

#[derive(Clone, Debug)]
pub(super) enum Event {
    KillGame(String),
    KillShim(String),
    KillWorker(&'static str, Duration),
    StopWorker(&'static str, Duration),
    KillHost(Duration),
    StopHost(Duration),
    Cut(&'static str, Duration),
    CutOneWay(&'static str, Way, Duration),
    Type(String),
    Wish(String, &'static str),
}

impl Event {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::KillGame(_) => "game killed",
            Self::KillShim(_) => "shim killed",
            Self::KillWorker(..) => "worker killed",
            Self::StopWorker(..) => "worker stopped for a while",
            Self::KillHost(_) => "host killed",
            Self::StopHost(_) => "host stopped for a while",
            Self::Cut(..) => "link cut",
            Self::CutOneWay(..) => "link cut one way",
            Self::Type(_) => "line typed",
            Self::Wish(..) => "wish",
        }
    }
}

/// How it is put right again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    StartWorker(&'static str),
    ContinueWorker(&'static str),
    StartHost,
    ContinueHost,
    Thaw(&'static str),
}

pub(super) struct Fate(Dice);

impl Fate {
    pub(super) const fn new(seed: u64) -> Self {
        Self(Dice::new(seed))
    }

    pub(super) fn next(&mut self, worlds: &[String], workers: &[&'static str]) -> Event {
        let drawn = self.0.below(1000);
        // Always as many draws, so that a seed says the same whatever the branch.
        let (world, worker) = (self.pick(worlds), self.pick(workers));
        let away = self.away();
        let verb = ["start", "start", "stop", "restart"][self.below(4)];
        let way = if self.0.below(2) == 0 { Way::ToHost } else { Way::ToWorker };
        match drawn {
            0..=239 => Event::KillGame(world),
            240..=369 => Event::KillShim(world),
            370..=459 => Event::KillWorker(worker, away / 2),
            460..=559 => Event::StopWorker(worker, away),
            560..=571 => Event::KillHost(away / 4),
            572..=619 => Event::StopHost(away),
            620..=669 => Event::Cut(worker, away),
            670..=709 => Event::CutOneWay(worker, way, away),
            710..=769 => Event::Type(world),
            _ => Event::Wish(world, verb),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap_or(0)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len());
        from[at].clone()
    }

    /// Mostly shorter than anybody notices, now and then longer than a session lives.
    fn away(&mut self) -> Duration {
        let long = self.0.below(40) == 0;
        let milliseconds = self.0.below(1_000);
        Duration::from_millis(if long { 8_000 + 12 * milliseconds } else { milliseconds })
    }
}
