//! The network: it loses, doubles, delays, overtakes, and cuts either way.

use std::collections::{BTreeMap, BTreeSet};

use manman_common::error::GoneReason;
use manman_common::link::{Hello, ToHost, ToWorker};
use manman_common::session::{Memory, SessionTerms};
use manman_common::wire::ProcessIdentity;
use manman_common::{Revision, RunId, SessionEpoch};

use super::world::{Event, World};

/// To the host.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Register { request: u64, process: ProcessIdentity, memory: Memory },
    Beat { request: u64, epoch: SessionEpoch, state_seq: u64 },
    Dial { conn: u64, hello: Hello },
    Frame { conn: u64, frame: ToHost },
}

/// To a worker's process.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Registered { request: u64, answer: Result<Registered, u32> },
    BeatAnswer { request: u64, answer: Result<(SessionTerms, Revision), GoneReason> },
    Frame { conn: u64, frame: ToWorker },
}

#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) session_epoch: SessionEpoch,
    pub(super) resume_token: String,
    pub(super) terms: SessionTerms,
}

#[derive(Clone, Debug)]
pub(super) struct Conn {
    pub(super) machine: usize,
    pub(super) run: RunId,
    pub(super) alive: bool,
    last_up: u64,
    last_down: u64,
}

#[derive(Default)]
pub(super) struct Net {
    /// Machines whose words do not come through, and those that hear nothing.
    pub(super) cut_up: BTreeSet<usize>,
    pub(super) cut_down: BTreeSet<usize>,
    /// Of a thousand messages.
    pub(super) loses: u64,
    pub(super) doubles: u64,
    pub(super) overtakes: u64,
    pub(super) conns: BTreeMap<u64, Conn>,
    pub(super) last_conn: u64,
}

/// After so long a side notices that nothing comes any more.
const NOTICED_WITHIN: u64 = 12_000;

impl World {
    fn delay(&mut self) -> u64 {
        if self.rng.chance(self.net.overtakes) { 1 + self.rng.below(4000) } else { 1 + self.rng.below(30) }
    }

    pub(super) fn send_up(&mut self, machine: usize, message: Up) {
        let cut = self.net.cut_up.contains(&machine);
        let conn = match &message {
            Up::Frame { conn, .. } | Up::Dial { conn, .. } => Some(*conn),
            Up::Register { .. } | Up::Beat { .. } => None,
        };
        let at = self.arrival(conn, cut, true);
        for at in at {
            self.at(at, Event::ToHost { machine, message: message.clone() });
        }
    }

    pub(super) fn send_down(&mut self, machine: usize, run: RunId, message: Down) {
        let cut = self.net.cut_down.contains(&machine);
        let conn = match &message {
            Down::Frame { conn, .. } => Some(*conn),
            Down::Registered { .. } | Down::BeatAnswer { .. } => None,
        };
        let at = self.arrival(conn, cut, false);
        for at in at {
            self.at(at, Event::ToWorker { machine, run, message: message.clone() });
        }
    }

    /// When a message arrives: never, once or twice. What a link loses ends the link; what it
    /// delivers comes in order, but for what overtakes.
    fn arrival(&mut self, conn: Option<u64>, cut: bool, up: bool) -> Vec<u64> {
        if conn.is_some_and(|conn| self.net.conns.get(&conn).is_none_or(|conn| !conn.alive)) {
            return Vec::new();
        }
        if cut || self.rng.chance(self.net.loses) {
            if let Some(conn) = conn {
                self.break_conn(conn, NOTICED_WITHIN);
            }
            return Vec::new();
        }
        let overtakes = self.rng.chance(self.net.overtakes);
        let mut at = self.now + self.delay();
        if let Some(conn) = conn.and_then(|conn| self.net.conns.get_mut(&conn)) {
            let last = if up { &mut conn.last_up } else { &mut conn.last_down };
            if !overtakes {
                at = at.max(*last + 1);
            }
            *last = at.max(*last);
        }
        if self.rng.chance(self.net.doubles) {
            let again = at + 1 + self.rng.below(6000);
            return vec![at, again];
        }
        vec![at]
    }

    pub(super) fn open_conn(&mut self, machine: usize, run: RunId) -> u64 {
        self.net.last_conn += 1;
        let conn = Conn { machine, run, alive: true, last_up: self.now, last_down: self.now };
        self.net.conns.insert(self.net.last_conn, conn);
        self.net.last_conn
    }

    /// Both ends notice in their own time; until then what they send goes nowhere.
    pub(super) fn break_conn(&mut self, number: u64, within: u64) {
        let Some(conn) = self.net.conns.get_mut(&number).filter(|conn| conn.alive) else { return };
        conn.alive = false;
        let (machine, run) = (conn.machine, conn.run);
        let (host, worker) = (1 + self.rng.below(within), 1 + self.rng.below(within));
        self.after(host, Event::HostNotices { conn: number });
        self.after(worker, Event::WorkerNotices { machine, run, conn: number });
    }

    /// One end closes it; the other hears of that at once, if the network lets it.
    pub(super) fn close_conn(&mut self, number: u64) {
        let machine = self.net.conns.get(&number).map(|conn| conn.machine);
        let cut = machine.is_some_and(|machine| self.net.cut_up.contains(&machine) || self.net.cut_down.contains(&machine));
        self.break_conn(number, if cut { NOTICED_WITHIN } else { 50 });
    }

    /// What is under way still comes; nothing else goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.net.cut_up.clear();
        self.net.cut_down.clear();
        self.net.loses = 0;
        self.net.doubles = 0;
        self.net.overtakes = 0;
    }
}
