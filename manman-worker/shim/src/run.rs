//! The life of one instance: the loop, and what each thing that may happen does to it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use manman_shim::files::{self, Reserve};
use manman_shim::proto::Notice;
use manman_shim::record::{Exit, Phase, State, StopAsked};
use manman_shim::rung::{Rung, Step, signal_name};
use manman_shim::spec::Spec;
use manman_shim::{clock, exit_code};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, pidfd_send_signal, wait};

use crate::ladder::{Do, Ladder};
use crate::lock::Held;
use crate::log::Log;
use crate::serve::{Server, Source};
use crate::setup::millis;
use crate::stdin::Stdin;
use crate::stream::{Found, Stream};
use crate::sys::Signals;
use crate::{cgroup, stage, tree};

/// Reads of one stream before everything else gets its turn again.
const READS: usize = 16;
/// When the game has ended, so many bytes of what it printed are read at once; a process that it
/// left behind may print for ever.
const LAST_BYTES: usize = 4 * 1024 * 1024;
/// How often a cgroup is looked at that holds processes of nobody's.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// An exit record that can not be written is tried so often, a second apart.
const RECORD_TRIES: u32 = 600;
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
        while let Some(due) = self.ladder.due(now) {
            match due {
                Do::Rung(index) => self.begin_rung(index, now),
                Do::Kill => tree::kill(&self.spec.cgroups, self.life.exit.is_none().then_some(self.pid)),
                Do::Stuck => {
                    self.state.stuck = tree::pids(&self.spec.cgroups);
                    self.set_phase(Phase::Stuck);
                }
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

    fn reap(&mut self, now: Instant) {
        let mut ended = None;
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => ended = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => {
                    self.life.childless = false;
                    break;
                }
                Err(_) => {
                    self.life.childless = true;
                    break;
                }
            }
        }
        match ended {
            Some(status) => self.end(status, now),
            None => self.look(now),
        }
    }

    /// The game's own process has ended.
    fn end(&mut self, status: WaitStatus, now: Instant) {
        self.hear_gate();
        self.read_rest(now);
        let reason = self.life.reason.take();
        let (code, signal) = if reason.is_none() { (status.exit_status(), status.terminating_signal()) } else { (None, None) };
        let words = match (&reason, code, signal) {
            (Some(reason), _, _) => format!("could not be started: {reason}"),
            (None, Some(code), _) => format!("ended: exit code {code}"),
            (None, None, Some(number)) => {
                let name = Signal::from_named_raw(number).map_or_else(|| number.to_string(), signal_name);
                format!("ended: signal {name}")
            }
            (None, None, None) => "ended".to_owned(),
        };
        self.log.note(&format!("instance {} {words}", self.spec.instance));
        let oom_kills = cgroup::oom_kills(&self.spec.cgroups, self.first).map(|now| now.saturating_sub(self.oom_before.unwrap_or(0)));
        self.life.exit = Some(Exit {
            instance: self.spec.instance.clone(),
            code,
            signal,
            core: status.signaled() && status.as_raw() & 0x80 != 0,
            oom_kills,
            reason,
            started: Some(self.state.started.clone()),
            ended: clock::now(),
            ran_ms: millis(now.saturating_duration_since(self.begun)),
            boot_id: self.state.shim.boot_id.clone(),
            boottime_ms: millis(clock::boottime()),
            ..Exit::default()
        });
        if self.is_empty() {
            self.record(now);
            return;
        }
        if !self.ladder.is_begun() {
            // A container ends with its first process; nobody would wait for what it left behind.
            let linger = if self.first { Some(Duration::ZERO) } else { self.spec.linger };
            self.life.linger_until = linger.map(|linger| now + linger);
            self.state.phase = Phase::Leftovers;
        } else if let Some((_, Rung { step: Step::Signal(signal), .. })) = self.ladder.rung() {
            // The process that the signal was for is gone, and it was a mere wrapper: what it has
            // left behind is the game, and gets the signal for what remains of the rung's time.
            tree::signal_all(&self.spec.cgroups, *signal);
        }
        self.record(now);
        self.write_state();
        self.look(now);
    }

    /// Whether anything is left, and when to look again if only a look can tell.
    fn look(&mut self, now: Instant) {
        let left = self.life.exit.is_some() && self.life.childless && !self.is_empty();
        self.life.look_again = left.then(|| now + LOOK_AGAIN);
    }

    fn is_empty(&self) -> bool {
        self.life.childless && self.spec.cgroups.iter().all(|leaf| cgroup::pids(leaf).is_empty())
    }

    /// Nothing lives any more and the record says so.
    fn is_over(&mut self) -> bool {
        if self.life.exit.is_none() || !self.life.childless || !self.is_empty() {
            return false;
        }
        if self.life.exit.as_ref().is_some_and(|exit| !exit.tree_empty) {
            let now = clock::instant();
            self.read_rest(now);
            self.record(now);
        }
        self.life.recorded || self.life.tries > RECORD_TRIES
    }

    /// Writes the exit record as things are now.
    fn record(&mut self, now: Instant) {
        let tree_empty = self.is_empty();
        let Some(exit) = &mut self.life.exit else { return };
        exit.tree_empty = tree_empty;
        exit.last_seq = self.log.last_seq();
        exit.lost_lines = self.log.lost_lines();
        exit.stop = self.life.asked;
        exit.rungs = self.life.rungs;
        let text = exit.to_text();
        self.log.sync();
        let written = match self.reserve.take() {
            Some(reserve) => reserve.fill(files::EXIT, &text),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let written = written.or_else(|_| files::replace(Path::new("."), files::EXIT, &text, 0o600));
        self.life.recorded = written.is_ok();
        self.life.tries += u32::from(written.is_err());
        self.life.next_try = written.is_err().then(|| now + Duration::from_secs(1));
        if written.is_ok() {
            self.server.tell(&Notice::Exit(&text));
        }
    }

    /// Begins the ladder, unless it has been begun.
    pub(crate) fn stop(&mut self, ladder: Vec<Rung>, asked: StopAsked, now: Instant) {
        if !self.ladder.is_begun() {
            self.life.asked = if self.life.exit.is_none() { asked } else { self.life.asked };
            self.life.linger_until = None;
            self.ladder.begin(ladder, now);
            self.set_phase(Phase::Stopping);
        }
    }

    pub(crate) fn kill(&mut self, now: Instant) {
        if !self.ladder.is_killing() {
            self.life.asked = if self.life.exit.is_none() { StopAsked::Kill } else { self.life.asked };
            self.life.linger_until = None;
            self.ladder.kill(now);
            self.state.rung = None;
            self.set_phase(Phase::Stopping);
        }
    }

    fn begin_rung(&mut self, index: usize, now: Instant) {
        let Some(Rung { step, .. }) = self.ladder.get(index).cloned() else { return };
        let text = self.ladder.get(index).map(ToString::to_string).unwrap_or_default();
        self.life.rungs = index + 1;
        self.state.rung = Some(index);
        // Written down and told before it is done: a game may end at once.
        self.set_phase(Phase::Stopping);
        self.server.tell(&Notice::Rung { index: u16::try_from(index).unwrap_or(u16::MAX), text: &text });
        match step {
            Step::Console(line) => {
                if !self.ours.stdin.line(&line) {
                    // Nobody reads there: to wait for the line's effect would be time lost.
                    self.ladder.skip(now);
                }
            }
            Step::Signal(signal) => self.wake_with(signal, false),
            Step::SignalAll(signal) => self.wake_with(signal, true),
        }
    }

    /// A signal that a stopped process must see, too.
    fn wake_with(&mut self, signal: Signal, all: bool) {
        self.signal(signal, all);
        if signal != Signal::STOP {
            self.signal(Signal::CONT, all);
        }
    }

    /// A signal to the game's process, or to its whole tree; to what it left behind once it is gone.
    pub(crate) fn signal(&mut self, signal: Signal, all: bool) {
        if all || self.life.exit.is_some() {
            tree::signal_all(&self.spec.cgroups, signal);
        } else {
            // A process that has just ended is as good as signalled; its end is about to be seen.
            let _ = pidfd_send_signal(&self.pidfd, signal);
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

    fn finish(mut self) -> ExitCode {
        self.server.last_words();
        // Nobody is refused by a missing socket that would have been told anything by this one.
        let _ = std::fs::remove_file(files::SOCKET);
        drop(self.held.take());
        let exit = self.life.exit.unwrap_or_default();
        if !self.life.recorded {
            eprintln!("manman-shim: the exit record could not be written");
            return ExitCode::from(exit_code::IO);
        }
        if !self.first {
            return ExitCode::from(if exit.reason.is_some() { exit_code::START } else { exit_code::ENDED });
        }
        // What the engine shows of its container is then what it would have shown without a shim.
        let like_game = exit.code.or(exit.signal.map(|signal| 128 + signal));
        ExitCode::from(like_game.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit_code::START))
    }
}
