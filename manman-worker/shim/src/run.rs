//! The life of one instance: the loop, and what each thing that may happen does to it.

mod end;
mod halt;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use manman_shim::clock;
use manman_shim::files::{self, Reserve};
use manman_shim::journal::Writer;
use manman_shim::lease::Course;
use manman_shim::lock::Held;
use manman_shim::proto::Notice;
use manman_shim::record::{Exit, Phase, State, StopAsked};
use manman_shim::spec::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};

use crate::ladder::{Do, Ladder};
use crate::log::Log;
use crate::serve::{Server, Source};
use crate::stage;
use crate::stdin::Stdin;
use crate::stream::{Found, Stream};
use crate::sys::Signals;
use crate::timer::BootTimer;

/// Reads of one stream before everything else gets its turn again.
const READS: usize = 16;
/// When the game has ended, so many bytes of what it printed are read at once; a process that it
/// left behind may print for ever.
const LAST_BYTES: usize = 4 * 1024 * 1024;
/// What a stage may say before exec; more is cut.
const HEARD_MAX: usize = 4096;

/// The shim's ends of the game's stdio.
pub(crate) struct Output {
    pub(crate) streams: [Option<Stream>; 2],
    pub(crate) stdin: Stdin,
    /// The game's end of the terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
}

pub(crate) struct Shim {
    pub(crate) spec: Spec,
    /// This is process 1 of a container.
    pub(crate) first: bool,
    pub(crate) held: Option<Held>,
    pub(crate) signals: Signals,
    pub(crate) log: Log,
    pub(crate) ours: Output,
    /// Open until the stage has become the game.
    pub(crate) gate: Option<UnixStream>,
    pub(crate) heard: Vec<u8>,
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) state: State,
    pub(crate) server: Server,
    pub(crate) ladder: Ladder,
    pub(crate) course: Course,
    /// Made with the first lease.
    pub(crate) timer: Option<BootTimer>,
    pub(crate) journal: Option<Writer>,
    pub(crate) oom_before: Option<u64>,
    pub(crate) begun: Instant,
    pub(crate) reserve: Option<Reserve>,
    pub(crate) life: Life,
}

/// How far the instance has come.
#[derive(Default)]
pub(crate) struct Life {
    /// Why it could not be started.
    reason: Option<String>,
    asked: StopAsked,
    rungs: usize,
    /// The lease ran out before the game had ended of anything else.
    lapsed: bool,
    /// SIGKILL has been sent to everything.
    killing: bool,
    /// The game's process has ended.
    exit: Option<Exit>,
    /// The record as it is on the disk is the one in `exit`.
    recorded: bool,
    tries: u32,
    next_try: Option<Instant>,
    /// No child is left, of the game's own or adopted.
    childless: bool,
    /// What the game has left behind is killed then.
    linger_until: Option<Instant>,
    look_again: Option<Instant>,
}

impl Life {
    /// The game's own process has ended and something of it may live on.
    pub(crate) fn is_left(&self) -> bool {
        self.exit.is_some()
    }
}

impl Shim {
    pub(crate) fn run(mut self, _own_lock: File) -> ExitCode {
        let mut ready = Vec::with_capacity(16);
        while !self.is_over() {
            self.wait(&mut ready);
            let now = clock::instant();
            // The stage's last word before all else: the game can print as soon as it has been said.
            self.hear_gate();
            for source in ready.drain(..) {
                match source {
                    // Looked at below, at each wake.
                    Source::Lease => {}
                    Source::Signals => self.take_signals(now),
                    Source::Output(index) => self.read(index, now),
                    Source::Stdin => self.ours.stdin.write(),
                    Source::Listener => self.server.accept(),
                    Source::Client(index) => self.serve(index, now),
                }
            }
            self.tick(now);
            self.server.announce(self.log.last_seq(), now);
        }
        self.finish()
    }

    /// Waits until something happens or is due.
    fn wait(&self, ready: &mut Vec<Source>) {
        let mut sources = Vec::with_capacity(16);
        let mut polled = Vec::with_capacity(16);
        let mut add = |source, descriptor, flags| {
            sources.push(source);
            polled.push(PollFd::from_borrowed_fd(descriptor, flags));
        };
        use std::os::fd::AsFd;
        add(Source::Signals, self.signals.as_fd(), PollFlags::IN);
        for (index, stream) in self.ours.streams.iter().enumerate() {
            if let Some(stream) = stream {
                add(Source::Output(index), stream.descriptor(), PollFlags::IN);
            }
        }
        if let Some(stdin) = self.ours.stdin.wants() {
            add(Source::Stdin, stdin, PollFlags::OUT);
        }
        if let Some(timer) = &self.timer {
            add(Source::Lease, timer.as_fd(), PollFlags::IN);
        }
        self.server.sources(&mut add);
        if let Some(gate) = &self.gate {
            // It is listened to after each wait; here it only ends one.
            add(Source::Signals, gate.as_fd(), PollFlags::IN);
        }
        let timeout = self.next().map(|next| {
            let left = next.saturating_duration_since(clock::instant());
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) }
        });
        // Interrupted or not: what is not ready now is ready the next time.
        let _ = poll(&mut polled, timeout.as_ref());
        ready.extend(sources.into_iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty()).map(|(source, _)| source));
    }

    /// When something will be due though nothing happens.
    fn next(&self) -> Option<Instant> {
        let streams = self.ours.streams.iter().flatten().filter_map(Stream::next);
        let life = [self.life.next_try, self.life.linger_until, self.life.look_again];
        let others = [self.ladder.next(), self.log.next(), self.server.next()];
        streams.chain(life.into_iter().flatten()).chain(others.into_iter().flatten()).min()
    }

    fn tick(&mut self, now: Instant) {
        for stream in self.ours.streams.iter_mut().flatten() {
            stream.show_prompt(&mut self.log, now, false);
        }
        if self.log.next().is_some_and(|next| next <= now) {
            self.log.tick();
        }
        if self.life.linger_until.is_some_and(|until| until <= now) {
            self.life.linger_until = None;
            self.ladder.kill(now);
        }
        self.keep_lease(now);
        while let Some(due) = self.ladder.due(now) {
            match due {
                Do::Rung(index) => self.begin_rung(index, now),
                Do::Kill => self.kill_all(),
                Do::Stuck => self.stuck(),
            }
        }
        if self.life.look_again.is_some_and(|at| at <= now) {
            self.look(now);
        }
        if self.life.next_try.is_some_and(|at| at <= now) {
            self.record(now);
        }
    }

    fn read(&mut self, index: usize, now: Instant) {
        let Some(stream) = &mut self.ours.streams[index] else { return };
        for _ in 0..READS {
            match stream.read(&mut self.log, now) {
                Found::Bytes(_) => {}
                Found::Nothing => break,
                Found::End => {
                    stream.show_prompt(&mut self.log, now, true);
                    self.ours.streams[index] = None;
                    break;
                }
            }
        }
        self.log.flush();
    }

    /// What was printed up to now, for a record that says which line was the last.
    fn read_rest(&mut self, now: Instant) {
        for index in 0..self.ours.streams.len() {
            let mut left = LAST_BYTES;
            while let Some(stream) = &mut self.ours.streams[index] {
                match stream.read(&mut self.log, now) {
                    Found::Bytes(count) if count < left => left -= count,
                    Found::Bytes(_) => break,
                    Found::Nothing => {
                        stream.show_prompt(&mut self.log, now, true);
                        break;
                    }
                    Found::End => {
                        stream.show_prompt(&mut self.log, now, true);
                        self.ours.streams[index] = None;
                    }
                }
            }
        }
        self.log.flush();
    }

    /// Listens to the stage until it has become the game or has said why not.
    fn hear_gate(&mut self) {
        let Some(gate) = &mut self.gate else { return };
        let mut chunk = [0; 512];
        loop {
            match gate.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) if self.heard.len() < HEARD_MAX => self.heard.extend_from_slice(&chunk[..count]),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.gate = None;
        match self.heard.split_first() {
            Some((&stage::READY, [])) => {
                self.log.note(&format!("instance {} started", self.spec.instance));
                if self.state.phase == Phase::Gated {
                    self.set_phase(Phase::Running);
                }
            }
            Some((&stage::READY, failure)) => self.life.reason = Some(String::from_utf8_lossy(failure).into_owned()),
            Some(_) => self.life.reason = Some(String::from_utf8_lossy(&self.heard).into_owned()),
            None => self.life.reason = Some("it was ended before it had become the game".to_owned()),
        }
        self.heard = Vec::new();
    }

    fn take_signals(&mut self, now: Instant) {
        let mut reap = false;
        while let Some(signal) = self.signals.take() {
            match signal {
                Signal::CHILD => reap = true,
                Signal::TERM | Signal::INT => self.stop(self.spec.ladder.clone(), StopAsked::Signal, now),
                Signal::QUIT if self.first => self.stop(self.spec.ladder.clone(), StopAsked::Signal, now),
                // As process 1 it stands in the game's place, and these were meant for the game.
                Signal::HUP | Signal::USR1 | Signal::USR2 if self.first => self.signal(signal, false),
                _ => {}
            }
        }
        if reap {
            self.reap(now);
        }
    }

    fn set_phase(&mut self, phase: Phase) {
        self.state.phase = phase;
        self.write_state();
    }

    /// For those who look later. The start was written down for certain; this is as good as it gets.
    fn write_state(&mut self) {
        let text = self.state.to_text();
        let _ = files::swap(Path::new("."), files::STATE, &text, 0o600);
        self.server.tell(&Notice::State(&text));
    }
}
