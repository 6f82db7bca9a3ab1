//! One stream of the game's output, cut into lines.

use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::log::{LINE_MAX, Log};

/// Most that one read takes.
pub(crate) const READ: usize = 64 * 1024;
/// A line that has no end yet is shown once nothing has followed it for so long: it is a prompt.
pub(crate) const PROMPT_AFTER: Duration = Duration::from_secs(1);

pub(crate) struct Stream {
    descriptor: OwnedFd,
    letter: u8,
    buffer: Box<[u8]>,
    /// Bytes at the buffer's start that are a line without its end.
    begun: usize,
    /// When the last of them came.
    since: Option<Instant>,
}

/// What a read has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing ever again.
    End,
}

impl Stream {
    /// The descriptor must not block.
    pub(crate) fn new(descriptor: OwnedFd, letter: u8) -> Self {
        Self { descriptor, letter, buffer: vec![0; LINE_MAX + READ].into_boxed_slice(), begun: 0, since: None }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Reads once and hands the whole lines to the log, which the caller then flushes.
    pub(crate) fn read(&mut self, log: &mut Log, now: Instant) -> Found {
        // At most LINE_MAX bytes are ever carried over, so there is always room for a whole read.
        let end = match rustix::io::read(&self.descriptor, &mut self.buffer[self.begun..]) {
            Ok(0) => return Found::End,
            Ok(count) => self.begun + count,
            Err(Errno::AGAIN | Errno::INTR) => return Found::Nothing,
            Err(_) => return Found::End,
        };
        let count = end - self.begun;
        log.tick();
        let mut rest = &self.buffer[..end];
        loop {
            let mut after = rest;
            // The only vectorised search for a byte that std offers on bytes; it can not fail on a slice.
            let length = after.skip_until(b'\n').unwrap_or(0);
            let Some((b'\n', line)) = rest[..length].split_last() else { break };
            lines(log, self.letter, line.strip_suffix(b"\r").unwrap_or(line));
            rest = after;
        }
        while rest.len() > LINE_MAX {
            let (piece, more) = rest.split_at(cut(rest));
            log.record(self.letter, piece);
            rest = more;
        }
        let begun = rest.len();
        self.buffer.copy_within(end - begun..end, 0);
        self.begun = begun;
        self.since = (begun > 0).then_some(now);
        Found::Bytes(count)
    }

    /// When [`show_prompt`](Self::show_prompt) will have something to show.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.since.map(|since| since + PROMPT_AFTER)
    }

    /// Hands over a line without its end, if it has waited long enough or `anyway`.
    pub(crate) fn show_prompt(&mut self, log: &mut Log, now: Instant, anyway: bool) {
        if self.begun > 0 && (anyway || self.next().is_some_and(|next| next <= now)) {
            log.tick();
            let line = &self.buffer[..self.begun];
            log.record(self.letter, line.strip_suffix(b"\r").unwrap_or(line));
            log.flush();
            (self.begun, self.since) = (0, None);
        }
    }
}

fn lines(log: &mut Log, letter: u8, mut line: &[u8]) {
    while line.len() > LINE_MAX {
        let (piece, more) = line.split_at(cut(line));
        log.record(letter, piece);
        line = more;
    }
    log.record(letter, line);
}

/// Where to cut a line that is too long: not within a character, if it is UTF-8.
fn cut(line: &[u8]) -> usize {
    let inside = |at: usize| line.get(at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    (LINE_MAX - 3..=LINE_MAX).rev().find(|at| !inside(*at)).unwrap_or(LINE_MAX)
}
