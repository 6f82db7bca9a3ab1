//! What is typed to the game: a bounded queue in front of a pipe or terminal that never blocks.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use manman_shim::proto::STDIN_MAX;
use rustix::io::Errno;

pub(crate) struct Stdin {
    descriptor: Option<OwnedFd>,
    waiting: VecDeque<u8>,
    /// The last byte taken ended a line.
    at_line_start: bool,
    /// Close once nothing waits any more.
    closing: bool,
}

impl Stdin {
    /// The descriptor must not block.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor: Some(descriptor), waiting: VecDeque::new(), at_line_start: true, closing: false }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.descriptor.is_some() && !self.closing
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// To be polled for room.
    pub(crate) fn wants(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor().filter(|_| !self.waiting.is_empty())
    }

    /// Takes as much as there is room for; returns how much.
    pub(crate) fn offer(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(STDIN_MAX - self.waiting.len());
        self.waiting.extend(&bytes[..count]);
        if let Some(last) = bytes[..count].last() {
            self.at_line_start = *last == b'\n';
        }
        self.write();
        count
    }

    /// Types a whole line or nothing; says whether it did.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        // What somebody has begun to type must not become the head of this line.
        let head: &[u8] = if self.at_line_start { b"" } else { b"\n" };
        let bytes = [head, line.as_bytes(), b"\n"].concat();
        if !self.is_open() || STDIN_MAX - self.waiting.len() < bytes.len() {
            return false;
        }
        self.offer(&bytes);
        self.is_open()
    }

    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.write();
    }

    /// Writes what the game takes now.
    pub(crate) fn write(&mut self) {
        while let Some(descriptor) = &self.descriptor {
            let (front, _) = self.waiting.as_slices();
            if front.is_empty() {
                break;
            }
            match rustix::io::write(descriptor, front) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The game has closed its end; nobody will ever read what waits.
                Err(_) => {
                    self.descriptor = None;
                    self.waiting.clear();
                }
            }
        }
        if self.closing && self.waiting.is_empty() {
            self.descriptor = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn a_game_that_does_not_read_costs_only_what_there_is_room_for() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).expect("a pipe");
        let mut stdin = Stdin::new(write);
        assert_eq!(stdin.offer(b"half a "), 7);
        assert!(stdin.line("stop"));
        let mut taken = 12;
        while stdin.offer(&[b'x'; 1000]) == 1000 {
            taken += 1000;
        }
        taken += stdin.offer(&[]) + STDIN_MAX;
        assert!(taken >= 2 * STDIN_MAX && stdin.waiting() == STDIN_MAX, "the pipe's room and ours: {taken}");
        assert!(!stdin.line("stop"), "no room for a whole line");
        let mut start = [0; 13];
        rustix::io::read(&read, &mut start).expect("what was typed");
        assert_eq!(&start, b"half a \nstop\n");
        drop(read);
        stdin.write();
        assert!(!stdin.is_open() && stdin.waiting() == 0);
    }
}
