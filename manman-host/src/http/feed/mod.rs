//! `GET /feed`: all that the console shows, over one WebSocket, as a snapshot and what has changed
//! since.
//!
//! One task ([`desk`]) looks at what was stored and turns it into numbered deltas; each is written
//! as text once and kept in a ring. Every socket reads the ring at its own pace, and who has fallen
//! out of it gets a fresh snapshot: nobody waits for anybody. While nobody watches, nothing of it
//! is in memory.

mod desk;
mod dirty;
mod handshake;
mod ring;
mod sight;
mod socket;
mod steady;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::ring::{Board, Change, Frame, Missing};
use self::sight::Sight;
use crate::app::AppRef;
use crate::clock;

pub(crate) use desk::run;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(socket::feed))
}

/// What the task writes and the sockets read.
pub struct Feed {
    /// This process: another one numbers anew.
    epoch: Uuid,
    state: Mutex<State>,
    /// The newest number; 0 while there is no board.
    newest: watch::Sender<u64>,
    watchers: watch::Sender<usize>,
}

struct State {
    board: Option<Board>,
    /// The last number of the boards before.
    seq: u64,
}

/// Somebody who watches, as long as it is kept.
struct Watcher(AppRef);

/// What a socket has to do next.
#[derive(Debug)]
enum Next {
    /// There is no board yet.
    Wait,
    /// Nothing to send up to this number.
    Nothing(u64),
    Send(Bytes, u64),
}

impl Feed {
    #[must_use]
    pub fn new() -> Self {
        Self {
            epoch: clock::new_uuid(),
            state: Mutex::new(State { board: None, seq: 0 }),
            newest: watch::Sender::new(0),
            watchers: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What somebody has not heard yet who has heard all up to `seen`; `None` has heard nothing.
    fn next(&self, sight: Sight, seen: Option<u64>) -> Next {
        let (deltas, worker, newest) = {
            let mut state = self.lock();
            let Some(board) = &mut state.board else { return Next::Wait };
            let newest = board.seq();
            match seen.map(|seen| board.since(seen)) {
                Some(Missing::Deltas(deltas)) => (deltas, board.worker_of(sight), newest),
                Some(Missing::TooMuch) | None => return Next::Send(board.snapshot(sight), newest),
            }
        };
        // Not under the lock: it may be much to join.
        match ring::frame(sight, worker, &deltas) {
            Frame::Nothing => Next::Nothing(newest),
            Frame::Text(text) => Next::Send(text, newest),
            Frame::Anew => self.next(sight, None),
        }
    }

    /// Shows a new board, whose numbers begin where no earlier one's were.
    fn show(&self, changes: Vec<Change>) {
        let mut state = self.lock();
        // One is left out, so that who has heard all of the last board is not told that nothing is new.
        let mut board = Board::new(state.seq + 1);
        board.take(changes);
        state.seq = board.seq();
        self.newest.send_replace(board.seq());
        state.board = Some(board);
    }

    fn publish(&self, changes: Vec<Change>) {
        let mut state = self.lock();
        let State { board: Some(board), seq } = &mut *state else { return };
        if board.take(changes) {
            *seq = board.seq();
            self.newest.send_replace(*seq);
        }
    }

    /// Forgets the board, unless somebody watches again.
    fn sleep(&self) -> bool {
        let mut state = self.lock();
        if *self.watchers.borrow() > 0 {
            return false;
        }
        state.board = None;
        self.newest.send_replace(0);
        true
    }

    /// Reads from the board, where there is one.
    fn with<T>(&self, read: impl FnOnce(&Board) -> T) -> Option<T> {
        self.lock().board.as_ref().map(read)
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}

impl Watcher {
    fn new(app: &AppRef) -> Self {
        app.feed.watchers.send_modify(|count| *count += 1);
        Self(Arc::clone(app))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.feed.watchers.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests;
