//! Time, and everything that is in it.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Write};
use std::time::Duration;

use manman_common::{RunId, ServerId, Timestamp};
use uuid::Uuid;

use super::Bug;
use super::host::{Host, Seat};
use super::machine::Machine;
use super::net::{Down, Net, Up};
use super::rng::Rng;
use super::rows::{HostDb, WorkerRow};
use super::truth::Truth;
use crate::admission::TokenHash;

/// Milliseconds between two rounds of a worker.
pub(super) const TICK: u64 = 2500;
/// As the host is told in its own tests.
pub(super) const UNKNOWN_AFTER: Duration = Duration::from_secs(15);
/// How long things go wrong, at most.
const STORM: u64 = 70_000;
/// How long everything may take to be as it should afterwards.
const CALM: u64 = 400_000;
const TRACE_MAX: usize = 3000;

#[derive(Clone, Debug)]
pub(super) enum Event {
    ToHost { machine: usize, message: Up },
    ToWorker { machine: usize, run: RunId, message: Down },
    HostNotices { conn: u64 },
    WorkerNotices { machine: usize, run: RunId, conn: u64 },
    Tick { machine: usize, run: RunId },
    WorkerStarts { machine: usize },
    PowerOn { machine: usize },
    HostStarts,
    Fault,
    Person,
    Heals,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) bug: Option<Bug>,
    pub(super) net: Net,
    pub(super) host: Host,
    pub(super) machines: Vec<Machine>,
    pub(super) truth: Truth,
    pub(super) highest: BTreeMap<(usize, ServerId), u64>,
    /// Of a thousand steps between which a worker is killed.
    pub(super) crashes: u64,
    pub(super) calm: bool,
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
    trace: Vec<String>,
    broken: Option<String>,
}

/// What stands for SHA-256: equal for equal tokens alone.
pub(super) fn token_hash(token: &str) -> TokenHash {
    let mut hash = [1; 32];
    for (byte, from) in hash.iter_mut().zip(token.bytes()) {
        *byte = from;
    }
    hash
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let db = HostDb {
            timeline: Uuid::from_u128(1),
            workers: vec![WorkerRow::default(), WorkerRow::default()],
            servers: BTreeMap::new(),
            releases: BTreeMap::new(),
            events: BTreeMap::new(),
        };
        let mut world = Self {
            now: 0,
            rng: Rng::new(seed),
            bug,
            net: Net::default(),
            host: Host { up: true, db, backup: None, seats: vec![Seat::default(), Seat::default()], waiting: BTreeMap::new() },
            machines: vec![Machine::new(0, "a"), Machine::new(1, "b")],
            truth: Truth::default(),
            highest: BTreeMap::new(),
            crashes: 0,
            calm: false,
            queue: BTreeMap::new(),
            number: 1000,
            trace: Vec::new(),
            broken: None,
        };
        // Some seeds have a good network and bad people, some the other way round.
        world.net.loses = [0, 20, 80][world.rng.index(3)];
        world.net.doubles = [0, 50, 200][world.rng.index(3)];
        world.net.overtakes = [0, 50, 200][world.rng.index(3)];
        world.crashes = [0, 5, 30][world.rng.index(3)];
        world.people_begin();
        world.power_on(0);
        world.power_on(1);
        let until = STORM / 3 + world.rng.below(STORM * 2 / 3);
        world.after(until, Event::Heals);
        world.after(3000, Event::Fault);
        world.after(500, Event::Person);
        world
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(super) fn stamp(&self) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_millis(self.now + 1_000_000))
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        let number = self.fresh();
        self.queue.insert((at, number), event);
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn note(&mut self, what: Arguments<'_>) {
        let mut line = format!("{:>7} ms  ", self.now);
        if line.write_fmt(what).is_ok() {
            self.trace.push(line);
        }
    }

    pub(super) fn broken(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// The last that happened, for whoever has to understand it.
    pub(super) fn trace(&self) -> String {
        let from = self.trace.len().saturating_sub(TRACE_MAX);
        self.trace[from..].join("\n")
    }

    /// Lives through a storm and the calm after it; answers how much happened.
    pub(super) fn live(&mut self) -> Result<u64, String> {
        let mut happened = 0;
        let mut healed_at = None;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            happened += 1;
            if matches!(event, Event::Heals) {
                healed_at = Some(at);
            }
            let looks = matches!(event, Event::Person);
            self.happens(event);
            self.host_tells();
            self.check_instances();
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            let Some(healed_at) = healed_at else { continue };
            // Late doubles and expiries have had their time, too.
            if looks && at > healed_at + 9000 {
                match self.unsettled() {
                    None if self.host.waiting.is_empty() => break,
                    Some(why) if at > healed_at + CALM => return Err(format!("I7: it never settles: {why}")),
                    None | Some(_) => {}
                }
            }
        }
        self.check_end();
        self.broken.take().map_or(Ok(happened), Err)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::ToHost { machine, message } => {
                self.note(format_args!("machine {machine} -> host  {message:?}"));
                self.host_hears(machine, message);
            }
            Event::ToWorker { machine, run, message } => {
                self.note(format_args!("host -> machine {machine}  {message:?}"));
                self.worker_hears(machine, run, message);
            }
            Event::HostNotices { conn } => self.host_notices(conn),
            Event::WorkerNotices { machine, run, conn } => self.worker_notices(machine, run, conn),
            Event::Tick { machine, run } => self.tick(machine, run),
            Event::WorkerStarts { machine } => self.worker_starts(machine),
            Event::PowerOn { machine } => self.power_on(machine),
            Event::HostStarts => self.host_starts(),
            Event::Fault => self.fault(),
            Event::Person => self.person(),
            Event::Heals => self.heals(),
        }
    }
}
