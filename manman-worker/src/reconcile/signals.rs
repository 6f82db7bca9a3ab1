//! What passes between the reconcile loop and those who watch over running games: the log
//! followers, the ready rules, the queries and the console.
//!
//! The loop tells a [`Supervision`] which instances there are; the supervision tells the loop what
//! it sees of them, as [`Signal`]s in a bounded channel. Neither waits for the other's work: every
//! method but [`Supervision::drain`] and [`Supervision::purge`] returns at once, and a signal that
//! finds the channel full may be dropped where a newer one follows anyway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manman_common::spec::StopStep;
use manman_common::status::{Players, Usage};
use manman_common::{InstanceId, Kind, Problem, ServerId, ServerSpec};
use manman_worker_core::Instance;
use tokio::sync::mpsc;

use crate::driver::Driver;

/// Signals that may wait for the loop. Fifty servers that each tell players and usage at once fill
/// a tenth of it.
const SIGNALS_MAX: usize = 1024;

/// Sends signals to the loop; cheap to clone, shared by supervision and console.
///
/// `send().await` for what must arrive (`Ready`, `TypedStop`, conditions), `try_send` for what is
/// told again soon (`Players`, `Usage`).
pub type SignalSender = mpsc::Sender<Signal>;
pub type SignalReceiver = mpsc::Receiver<Signal>;

/// The channel between supervision and loop, made first: both ends are handed out from here.
#[must_use]
pub fn channel() -> (SignalSender, SignalReceiver) {
    mpsc::channel(SIGNALS_MAX)
}

/// Something seen of one instance. The loop ignores it once that instance is not the server's
/// current one.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    pub server: ServerId,
    pub instance: InstanceId,
    pub observed: Observed,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// The ready rule is met, for the first time or again.
    Ready,
    /// It was ready, and no longer answers.
    Unready {
        reason: String,
    },
    /// Neither its query nor its console has answered for so long, counted by a monotonic clock from
    /// when it last did, became ready or was taken over. Only where its hang rule asks for it, and
    /// only what the game owes: a failure of the worker's own is no silence.
    Silent {
        seconds: u64,
    },
    /// It answers again after a [`Silent`](Self::Silent).
    Answers,
    Players(Players),
    /// Somebody came, as the game's log tells.
    Joined {
        player: String,
    },
    Left {
        player: String,
    },
    /// What the query tells besides: `map`, `version`. Replaces what was told before.
    Extra(BTreeMap<String, serde_json::Value>),
    Usage(Usage),
    /// A person typed the line that stops this game: the end that follows is no crash. Sent before
    /// the line is written.
    TypedStop,
    /// Something that a person should know for as long as it holds: `ReadyLate`, `LogLost`, `DiskFull`.
    Condition {
        kind: String,
        message: String,
        hint: Option<String>,
    },
    ConditionOver {
        kind: String,
    },
}

/// An instance to be watched over.
#[derive(Clone)]
pub struct Watched {
    pub instance: Instance,
    /// The newest spec; a running game may have been started with an older one.
    pub spec: Arc<ServerSpec>,
    pub driver: Arc<dyn Driver>,
    /// Whether its ready rule has been met before (by an earlier run of this worker): a log line
    /// that was printed then need not be seen again.
    pub was_ready: bool,
}

/// What came of a rung of the stop plan that a console climbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Climbed {
    /// The line is with the game; its end is to be waited for.
    Told,
    /// The action has come to its end.
    Done,
    /// The action's answer has not come in the time it had.
    Unanswered,
}

#[async_trait]
pub trait Supervision: Send + Sync + 'static {
    /// This instance is on the machine. Called at every pass of the loop for every instance that
    /// has a spec, live or dead; the first call begins the watch, later ones bring changes of
    /// state and spec and cost nothing where there are none.
    fn watch(&self, watched: Watched);

    /// The instance has been removed from the machine: every task that goes on for it ends.
    fn unwatch(&self, server: ServerId, instance: InstanceId);

    /// Returns once all that a dead instance has printed is in the server's log; asked before the
    /// instance is removed. An instance that is not watched is drained already. The caller sets
    /// the time limit.
    async fn drain(&self, server: ServerId, instance: InstanceId);

    /// A word of the manager's for the server's log: `started`, `SIGTERM sent`, `exited with code 1`.
    fn note(&self, server: ServerId, text: String);

    /// Climbs a rung of the stop plan that only a console can; within `within` at the latest it is
    /// done. An error means that it was not climbed, and there is nothing to wait for.
    async fn climb(
        &self,
        spec: &ServerSpec,
        instance: &Instance,
        driver: &dyn Driver,
        step: &StopStep,
        within: Duration,
    ) -> Result<Climbed, Problem> {
        let _ = (spec, instance, driver, step, within);
        Err(Problem::new(Kind::Unavailable, "nobody here speaks with consoles"))
    }

    /// Deletes the server's log; its data is the driver's to delete. A log that is not there is a
    /// success.
    async fn purge(&self, server: ServerId) -> std::io::Result<()>;
}
