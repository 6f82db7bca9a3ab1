//! What has come of one log stream and its reader has not taken yet: at most a window of bytes,
//! since the worker sends no more than it was granted. Nobody waits for the reader here.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use manman_common::LogSeq;
use manman_common::link::LOG_WINDOW;
use manman_common::logs::{LogEnd, LogGap, RECORD_MAX};
use tokio::sync::Notify;

/// One thing that a reader of a log gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The stream is open; the numbers are those of the whole log.
    Opened {
        first_seq: LogSeq,
        last_seq: LogSeq,
    },
    /// Whole records.
    Chunk(Bytes),
    Gap(LogGap),
    /// Nothing follows.
    End(LogEnd),
}

/// The worker has sent more than it was granted: its stream is not to be trusted.
#[derive(Debug, thiserror::Error)]
#[error("a log stream ran over its window")]
pub(crate) struct Overrun;

/// With so many pieces waiting, small chunks are put together: each piece else keeps alive the
/// whole buffer that it was cut from.
const MERGE_FROM: usize = 4;
/// A chunk grows to this size before the next one begins.
const MERGED_MAX: usize = 256 * 1024;
/// Gaps are rare; a worker that sends them without end is broken.
const PIECES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct LogQueue {
    waiting: Mutex<Waiting>,
    /// There is something to take.
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Held>,
    /// Bytes sent by the worker and not yet credited back to it.
    outstanding: u64,
    ended: bool,
}

#[derive(Debug)]
enum Held {
    Piece(Piece),
    Growing(BytesMut),
}

impl LogQueue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, piece: Piece) -> Result<(), Overrun> {
        {
            let mut waiting = self.lock();
            if waiting.ended {
                return Ok(());
            }
            waiting.push(piece)?;
        }
        self.filled.notify_one();
        Ok(())
    }

    /// What comes next. Cancel-safe: nothing is taken before it is returned.
    pub(crate) async fn take(&self) -> Piece {
        loop {
            let filled = self.filled.notified();
            if let Some(piece) = self.lock().pop() {
                return piece;
            }
            filled.await;
        }
    }

    /// The reader has taken so many bytes, and the worker is told.
    pub(crate) fn credit(&self, bytes: u64) {
        let mut waiting = self.lock();
        waiting.outstanding = waiting.outstanding.saturating_sub(bytes);
    }
}

impl Waiting {
    fn push(&mut self, piece: Piece) -> Result<(), Overrun> {
        match piece {
            Piece::Chunk(chunk) => {
                self.outstanding += chunk.len() as u64;
                // A worker may round a chunk up to the end of a record.
                if self.outstanding > LOG_WINDOW + RECORD_MAX as u64 {
                    return Err(Overrun);
                }
                self.push_chunk(chunk);
            }
            Piece::End(end) => {
                self.ended = true;
                self.pieces.push_back(Held::Piece(Piece::End(end)));
            }
            piece @ (Piece::Opened { .. } | Piece::Gap(_)) => self.pieces.push_back(Held::Piece(piece)),
        }
        if self.pieces.len() > PIECES_MAX { Err(Overrun) } else { Ok(()) }
    }

    fn push_chunk(&mut self, chunk: Bytes) {
        if self.pieces.len() < MERGE_FROM {
            self.pieces.push_back(Held::Piece(Piece::Chunk(chunk)));
            return;
        }
        match self.pieces.back_mut() {
            Some(Held::Growing(growing)) if growing.len() + chunk.len() <= MERGED_MAX => growing.extend_from_slice(&chunk),
            _ => self.pieces.push_back(Held::Growing(BytesMut::from(&chunk[..]))),
        }
    }

    fn pop(&mut self) -> Option<Piece> {
        Some(match self.pieces.pop_front()? {
            Held::Piece(piece) => piece,
            Held::Growing(growing) => Piece::Chunk(growing.freeze()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(byte: u8, len: usize) -> Piece {
        Piece::Chunk(Bytes::from(vec![byte; len]))
    }

    #[tokio::test]
    async fn a_stalled_readers_small_chunks_are_put_together_in_order() {
        let queue = LogQueue::default();
        for n in 0..2000_u32 {
            let byte = u8::try_from(n % 251).expect("it is below 251");
            queue.push(chunk(byte, 100)).expect("200 kB fit the window");
        }
        let gap = LogGap { from_seq: LogSeq::new(5), to_seq: LogSeq::new(6), count: 2 };
        queue.push(Piece::Gap(gap)).expect("a gap fits");
        queue.push(chunk(1, 1)).expect("it fits");
        assert!(queue.lock().pieces.len() < 10);
        let mut bytes = Vec::new();
        loop {
            match queue.take().await {
                Piece::Chunk(chunk) => bytes.extend_from_slice(&chunk),
                other => {
                    assert_eq!(other, Piece::Gap(gap));
                    break;
                }
            }
        }
        let expected: Vec<u8> = (0..2000_u32).flat_map(|n| [u8::try_from(n % 251).expect("below 251"); 100]).collect();
        assert!(bytes == expected, "the bytes come in order and whole");
        assert_eq!(queue.take().await, chunk(1, 1));
    }

    #[tokio::test]
    async fn a_worker_that_ignores_the_window_is_found_out() {
        let queue = LogQueue::default();
        let window = usize::try_from(LOG_WINDOW).expect("it fits");
        queue.push(chunk(0, window)).expect("the window is granted");
        assert!(queue.push(chunk(0, RECORD_MAX + 1)).is_err());
        let queue = LogQueue::default();
        queue.push(chunk(0, window)).expect("the window is granted");
        queue.take().await;
        queue.credit(LOG_WINDOW);
        queue.push(chunk(0, window)).expect("it was granted again");
        queue.push(Piece::End(LogEnd::Complete)).expect("it ends");
        queue.push(chunk(0, window)).expect("after the end nothing counts");
        queue.take().await;
        assert_eq!(queue.take().await, Piece::End(LogEnd::Complete));
    }
}
