//! The socket: who may speak, what is asked and answered, who is told what.
//!
//! Nobody here can hold anything up: all sockets are non-blocking, each client has a bounded place
//! for what it has not read, and who leaves it full is dropped.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use manman_shim::lease::Lease;
use manman_shim::proto::{self, Answer, CLIENTS_MAX, Frame, Notice, PENDING_MAX, ProtoError, Request, VERSION};
use manman_shim::record::StopAsked;
use manman_shim::rung::{RUNGS_MAX, Rung};
use manman_shim::spec::Spec;
use manman_shim::text::{put, put_display};
use rustix::event::PollFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, geteuid, getpid};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::run::Shim;
use crate::sys::peer;
use crate::tree;

/// The newest line is told at most so often to one client.
const ANNOUNCE: Duration = Duration::from_millis(1);

/// What a wait has found something at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Signals,
    Lease,
    Output(usize),
    Stdin,
    Listener,
    Client(usize),
}

pub(crate) struct Server {
    listener: UnixListener,
    clients: [Option<Client>; CLIENTS_MAX],
    nonce: String,
    peers: Vec<u32>,
    is_init: bool,
    /// Counts what clients did, to know which has been silent longest.
    steps: u64,
    /// Last line that was announced, when, and whether there is a newer one.
    announced: u64,
    next: Option<Instant>,
    behind: bool,
}

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    greeted: bool,
    seqs: bool,
    events: bool,
    told: u64,
    active: u64,
    gone: bool,
}

impl Server {
    pub(crate) fn new(listener: UnixListener, spec: &Spec) -> Self {
        let mut peers = spec.peers.clone();
        peers.extend([0, geteuid().as_raw()]);
        let clients = std::array::from_fn(|_| None);
        let is_init = getpid() == Pid::INIT;
        Self { listener, clients, nonce: spec.nonce.clone(), peers, is_init, steps: 0, announced: 0, next: None, behind: false }
    }

    pub(crate) fn sources<'a>(&'a self, add: &mut impl FnMut(Source, BorrowedFd<'a>, PollFlags)) {
        add(Source::Listener, self.listener.as_fd(), PollFlags::IN);
        for (index, client) in self.clients.iter().enumerate() {
            if let Some(client) = client {
                let flags = if client.output.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
                add(Source::Client(index), client.stream.as_fd(), flags);
            }
        }
    }

    pub(crate) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // As the first process of a container it hears those outside alone: its game has the same user.
            let known = peer(&stream).is_ok_and(|(pid, uid)| self.peers.contains(&uid) && (pid == 0 || !self.is_init));
            if !known || stream.set_nonblocking(true).is_err() {
                continue;
            }
            // A worker that hangs holds its connections; the one that has taken its place must get in.
            let silent = |client: &Option<Client>| client.as_ref().map(|client| client.active);
            let Some(place) = self.clients.iter_mut().min_by_key(|client| silent(client)) else { return };
            self.steps += 1;
            *place = Some(Client {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                greeted: false,
                seqs: false,
                events: false,
                told: 0,
                active: self.steps,
                gone: false,
            });
        }
    }

    /// When a newer line may be announced.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next.filter(|_| self.behind)
    }

    /// Tells those who asked which line is the newest in the log.
    pub(crate) fn announce(&mut self, last_seq: u64, now: Instant) {
        if last_seq == self.announced && !self.behind {
            return;
        }
        self.announced = last_seq;
        self.behind = false;
        if self.next.is_some_and(|next| now < next) {
            self.behind = self.clients.iter().flatten().any(|client| client.seqs);
            return;
        }
        self.next = Some(now + ANNOUNCE);
        for client in self.clients.iter_mut() {
            if let Some(client) = client {
                client.announce(last_seq);
            }
            drop_if_gone(client);
        }
    }

    /// Tells those who asked what has happened.
    pub(crate) fn tell(&mut self, notice: &Notice<'_>) {
        for client in self.clients.iter_mut() {
            if let Some(client) = client.as_mut().filter(|client| client.events) {
                notice.encode(&mut client.output);
                client.write();
            }
            drop_if_gone(client);
        }
    }

    /// Gives everybody the last line and what still waits, as far as they take it now.
    pub(crate) fn last_words(&mut self) {
        for client in self.clients.iter_mut().flatten() {
            client.announce(self.announced);
            client.write();
        }
    }
}

fn drop_if_gone(client: &mut Option<Client>) {
    if client.as_ref().is_some_and(|client| client.gone) {
        *client = None;
    }
}

impl Client {
    fn announce(&mut self, last_seq: u64) {
        // Whoever has not read the last announcement needs no second one: it gets the newest after it.
        if self.seqs && self.told < last_seq && self.output.is_empty() {
            self.told = last_seq;
            Notice::LastSeq(last_seq).encode(&mut self.output);
            self.write();
        }
    }

    fn write(&mut self) {
        while !self.output.is_empty() && !self.gone {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.gone = true,
            }
        }
        self.gone |= self.output.len() > PENDING_MAX;
    }

    /// Takes what has come, up to one frame's length at a time.
    fn read(&mut self) {
        let mut chunk = [0; 4096];
        while self.input.len() < proto::FRAME_MAX {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.gone = true;
                    break;
                }
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
    }
}

impl Shim {
    /// Something has come from a client, or it takes more.
    pub(crate) fn serve(&mut self, index: usize, now: Instant) {
        let Some(mut client) = self.server.clients[index].take() else { return };
        self.server.steps += 1;
        client.active = self.server.steps;
        client.write();
        client.read();
        let input = std::mem::take(&mut client.input);
        let mut rest = input.as_slice();
        let mut spoken = true;
        while spoken {
            match proto::split(rest) {
                Ok(Some((frame, used))) => {
                    spoken = self.hear(&mut client, &frame, now) && client.output.len() <= PENDING_MAX;
                    rest = &rest[used..];
                }
                Ok(None) => break,
                Err(_) => spoken = false,
            }
        }
        client.input = rest.to_vec();
        client.write();
        // What it asked before it hung up has been done; only the answer has nobody to go to.
        if spoken && !client.gone {
            client.announce(self.server.announced);
            self.server.clients[index] = Some(client);
        }
    }

    /// Answers one frame; false when nothing more is to be heard from this client.
    fn hear(&mut self, client: &mut Client, frame: &Frame<'_>, now: Instant) -> bool {
        let request = match Request::decode(frame) {
            Ok(request) => request,
            Err(error @ ProtoError::Unknown(_)) if client.greeted => {
                Answer::Refused(&error.to_string()).encode(frame.id, &mut client.output);
                return true;
            }
            Err(_) => return false,
        };
        if let Request::Hello { nonce, .. } = request {
            // Not in constant time: who can connect at all may trace this process and read the nonce.
            client.greeted = nonce == self.server.nonce.as_bytes();
            let answer =
                if client.greeted { Answer::Welcome { version: VERSION } } else { Answer::Refused("that is another instance's nonce") };
            answer.encode(frame.id, &mut client.output);
            client.write();
            return client.greeted;
        }
        if !client.greeted {
            return false;
        }
        self.answer(client, request, frame.id, now);
        true
    }

    fn answer(&mut self, client: &mut Client, request: Request<'_>, id: u32, now: Instant) {
        let text;
        let answer = match request {
            Request::Stdin(_) if !self.ours.stdin.is_open() => Answer::Refused("the game has closed its stdin"),
            Request::Stdin(bytes) => Answer::Taken(u32::try_from(self.ours.stdin.offer(bytes)).unwrap_or(u32::MAX)),
            Request::Resize { rows, columns } => match &self.ours.terminal {
                Some(terminal) => {
                    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                    tcsetwinsize(terminal, size).map_or(Answer::Refused("the terminal does not take that size"), |()| Answer::Done)
                }
                None => Answer::Refused("the game has no terminal"),
            },
            Request::Status => {
                text = self.status();
                Answer::Status(&text)
            }
            Request::Signal { number, all } => match Signal::from_named_raw(i32::from(number)) {
                Some(signal) => {
                    self.signal(signal, all);
                    Answer::Done
                }
                None => Answer::Refused("that is no signal"),
            },
            Request::Stop { ladder } => match self.ladder_of(ladder) {
                Some(rungs) => {
                    self.stop(rungs, StopAsked::Ladder, now);
                    Answer::Done
                }
                None => Answer::Refused("that is no ladder"),
            },
            Request::Kill => {
                self.kill(now);
                Answer::Done
            }
            Request::Subscribe { seqs, events } => {
                (client.seqs, client.events) = (seqs, events);
                Answer::Done
            }
            Request::Descriptors => return self.send_descriptors(client, id),
            Request::Note(words) => match self.log.note(&String::from_utf8_lossy(words)) {
                Some(seq) => Answer::Appended(seq),
                None => Answer::Refused("the log can not be written"),
            },
            Request::CloseStdin if self.ours.terminal.is_some() => Answer::Refused("a terminal is not closed, ^D is typed to it"),
            Request::CloseStdin => {
                self.ours.stdin.close();
                Answer::Done
            }
            Request::Lease { until_ms, kill_ms } => match self.lease(Lease::from_millis(until_ms, kill_ms)) {
                Ok(()) => Answer::Done,
                Err(why) => Answer::Refused(why),
            },
            Request::Hello { .. } => return,
        };
        answer.encode(id, &mut client.output);
    }

    /// The spec's own rungs, or those that were given.
    fn ladder_of(&self, text: &[u8]) -> Option<Vec<Rung>> {
        if text.is_empty() {
            return Some(self.spec.ladder.clone());
        }
        let rungs: Option<Vec<Rung>> = std::str::from_utf8(text).ok()?.lines().map(Rung::parse).collect();
        rungs.filter(|rungs| rungs.len() <= RUNGS_MAX)
    }

    fn status(&self) -> Vec<u8> {
        let mut text = self.state.to_text();
        put_display(&mut text, "last_seq", self.log.last_seq());
        put_display(&mut text, "stdin_waiting", self.ours.stdin.waiting());
        put_display(&mut text, "stdin_open", u8::from(self.ours.stdin.is_open()));
        put_display(&mut text, "lost_lines", self.log.lost_lines());
        if let Some(error) = self.log.error() {
            put(&mut text, "log_error", error);
        }
        if self.life.is_left() {
            put_display(&mut text, "tree", tree::pids(&self.spec.cgroups).len());
        }
        text
    }

    fn send_descriptors(&self, client: &mut Client, id: u32) {
        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::with_capacity(3);
        descriptors.extend(self.ours.stdin.descriptor());
        if self.ours.terminal.is_none() {
            descriptors.extend(self.ours.streams.iter().flatten().map(|stream| stream.descriptor()));
        }
        let mut bytes = Vec::new();
        Answer::Descriptors(u8::try_from(descriptors.len()).unwrap_or(0)).encode(id, &mut bytes);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        // They go with this frame or not at all, so nothing may wait in front of it.
        client.write();
        let sent = client.output.is_empty().then(|| sendmsg(&client.stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL));
        if sent.is_none_or(|sent| sent != Ok(bytes.len())) {
            client.gone = true;
        }
    }
}
