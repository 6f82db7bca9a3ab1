//! The link as a long poll, for networks in which WebSockets do not pass.
//!
//! Each round brings frames and takes frames away. A round that is repeated, because its answer was
//! lost, is answered as before; the next round sets a waiting one free, so that a worker that has
//! something to say need not wait.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use bytes::Bytes;
use manman_common::link::{PollAnswer, PollRequest, ToHost, ToWorker};
use manman_common::{Kind, Problem, SessionEpoch, WorkerId};
use tokio::sync::{Notify, mpsc};

use super::desk::Intake;
use super::{dialling, open};
use crate::app::AppRef;
use crate::clock;
use crate::fleet::link::{Farewell, Link};
use crate::http::auth::Caller;
use crate::http::error::ApiResult;
use crate::http::extract::{Path, parse};

/// How long a round waits for something to say: below the time-outs of proxies on the way.
const WAIT: Duration = Duration::from_secs(20);
/// A worker that has not come back for so long has hung up.
const ABANDONED: Duration = Duration::from_secs(30);
/// How long a round that has come too early waits for the one before it.
const OVERTAKE_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Frames of one answer.
const FRAMES_MAX: usize = 256;

/// The polls that are under way.
#[derive(Default)]
pub(crate) struct Polls(Mutex<HashMap<WorkerId, Arc<Poll>>>);

struct Poll {
    link: Arc<Link>,
    /// A newer round has come.
    overtaken: Notify,
    /// Rounds that have come and are not answered; the next may come before the one under way has
    /// begun to wait.
    here: Mutex<BTreeSet<u64>>,
    turn: tokio::sync::Mutex<Turn>,
    touched: Mutex<Instant>,
}

/// Marks a round as one that has come, for as long as it is not answered.
struct Here<'a> {
    poll: &'a Poll,
    round: u64,
}

impl<'a> Here<'a> {
    fn new(poll: &'a Poll, round: u64) -> Self {
        poll.here.lock().unwrap_or_else(PoisonError::into_inner).insert(round);
        Self { poll, round }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.poll.here.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.round);
    }
}

struct Turn {
    round: u64,
    answer: PollAnswer,
    intake: Intake,
    frames: mpsc::Receiver<ToWorker>,
}

impl Polls {
    fn open(&self, worker: WorkerId, epoch: SessionEpoch) -> Option<Arc<Poll>> {
        let polls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        polls.get(&worker).filter(|poll| poll.link.epoch == epoch && !poll.link.is_closed()).cloned()
    }

    fn put(&self, worker: WorkerId, poll: Arc<Poll>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, poll);
    }

    /// Closes the links of workers that have not come back.
    pub(crate) fn tidy(&self) {
        let now = clock::instant();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, poll| {
            let touched = *poll.touched.lock().unwrap_or_else(PoisonError::into_inner);
            if now.saturating_duration_since(touched) > ABANDONED {
                poll.link.close(Farewell { reason: None, detail: "the worker does not poll any more".to_owned() });
            }
            !poll.link.is_closed()
        });
    }
}

/// One round of the worker's link where WebSockets do not pass.
///
/// The first round brings a `hello`. An answer comes as soon as there is something to say, after
/// 20 s at the latest, or when the next round begins.
#[utoipa::path(
    post,
    path = "/worker/{id}/link",
    tag = "worker",
    params(("id" = WorkerId, Path)),
    request_body = Object,
    responses((status = 200), (status = 403, body = Problem), (status = 409, body = Problem), (status = 410, body = Problem))
)]
pub(super) async fn poll(
    State(app): State<AppRef>,
    caller: Caller,
    Path(key): Path<String>,
    body: Bytes,
) -> ApiResult<axum::Json<PollAnswer>> {
    let machine = dialling(&app, &caller, &key).await?;
    let PollRequest { session_epoch, round, mut frames } = parse(&super::storable_bytes(&body))?;
    let hello = frames.iter().find_map(|frame| if let ToHost::Hello(hello) = frame { Some(hello) } else { None });
    let poll = match hello {
        Some(hello) if round <= 1 || app.fleet.polls.open(machine.id, session_epoch).is_none() => {
            let (link, outgoing) = open(&machine, hello).map_err(super::gone)?;
            let intake = Intake::start(&app, &machine, &link);
            let turn = Turn { round: round.saturating_sub(1), answer: PollAnswer::default(), intake, frames: outgoing };
            let poll = Arc::new(Poll {
                link,
                overtaken: Notify::new(),
                here: Mutex::default(),
                turn: tokio::sync::Mutex::new(turn),
                touched: Mutex::new(clock::instant()),
            });
            app.fleet.polls.put(machine.id, Arc::clone(&poll));
            poll
        }
        _ => predecessor(&app, machine.id, session_epoch).await.ok_or_else(out_of_order)?,
    };
    *poll.touched.lock().unwrap_or_else(PoisonError::into_inner) = clock::instant();
    let _here = Here::new(&poll, round);
    poll.overtaken.notify_waiters();
    let mut turn = turn(&poll, round).await;
    if round == turn.round {
        return Ok(axum::Json(turn.answer.clone()));
    }
    if round != turn.round + 1 {
        return Err(out_of_order().into());
    }
    for frame in frames.drain(..) {
        if let Err(fault) = turn.intake.frame(frame).await {
            fault.close(&machine, &poll.link);
            return Err(Problem::new(Kind::Invalid, fault.to_string()).field("frames").into());
        }
    }
    let answer = PollAnswer { frames: wait(&poll, round, &mut turn.frames).await };
    turn.round = round;
    turn.answer = answer.clone();
    Ok(axum::Json(answer))
}

/// The link that this round goes on with. The first round may still be on its way, on another
/// connection.
async fn predecessor(app: &AppRef, worker: WorkerId, epoch: SessionEpoch) -> Option<Arc<Poll>> {
    let found = async {
        loop {
            if let Some(poll) = app.fleet.polls.open(worker, epoch) {
                return poll;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(OVERTAKE_MAX, found).await.ok()
}

/// This round's turn, once the one before it has been taken in; it may have been overtaken on its
/// way. Whose turn never comes, gets the present one, and sees by its number that it does not fit.
async fn turn(poll: &Poll, round: u64) -> tokio::sync::MutexGuard<'_, Turn> {
    let mine = async {
        loop {
            let turn = poll.turn.lock().await;
            if round <= turn.round + 1 {
                return turn;
            }
            drop(turn);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(OVERTAKE_MAX, mine).await {
        Ok(turn) => turn,
        Err(_) => poll.turn.lock().await,
    }
}

/// What there is to say: at once if there is something, else when there is, else nothing.
async fn wait(poll: &Poll, round: u64, frames: &mut mpsc::Receiver<ToWorker>) -> Vec<ToWorker> {
    // Made before the look, so that a round which comes in between is not missed.
    let overtaken = poll.overtaken.notified();
    if poll.here.lock().unwrap_or_else(PoisonError::into_inner).contains(&(round + 1)) {
        return Vec::new();
    }
    let mut said = Vec::new();
    // Cancel-safe: `recv_many` takes nothing unless it wins.
    tokio::select! {
        _ = frames.recv_many(&mut said, FRAMES_MAX) => {}
        () = overtaken => {}
        () = poll.link.closed() => {
            if let Some(Farewell { reason: Some(reason), detail }) = poll.link.farewell() {
                said.push(ToWorker::Goodbye { reason, detail });
            }
        }
        () = tokio::time::sleep(WAIT) => {}
    }
    said
}

fn out_of_order() -> Problem {
    Problem::new(Kind::Conflict, "this round does not follow the last one").field("round").hint("begin again with round 1 and a hello")
}
