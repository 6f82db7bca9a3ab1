//! The engine: starts a process, waits for its answer on the socket, and leaves nothing behind.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use manman_stage::command::Command;
//! use manman_stage::engine::{Answer, Engine, Job, Options};
//!
//! let engine = Engine::open(Options::new("/run/manman/actions.sock"))?;
//! let command = Command::find(&["./backup.sh".to_owned()], "/srv/game".as_ref(), None)?;
//! let mut job = Job::new("backup", command, "/srv/game");
//! job.env.push(("SERVER_ID".into(), "0199…".into()));
//! job.timeout = std::time::Duration::from_secs(600);
//! let mut running = engine.start(job);
//! while let Some(event) = running.event().await {
//!     println!("{event:?}"); // progress and lines, until the process has ended
//! }
//! match running.answer().await {
//!     Answer::Reply(reply) => println!("{}: {:?}", reply.status, reply.body),
//!     Answer::Failed(failure) => println!("{failure}"),
//! }
//! # Ok(()) }
//! ```
//!
//! A script finds `REQUEST_ID`, `UROCKET_SOCKET` and `DEADLINE_MS` (since 1970) in its environment and
//! sends `POST /uri/$REQUEST_ID` on that socket, or runs `manman-worker reply`. `POST
//! /uri/$REQUEST_ID/progress` tells how far it is and may be sent any number of times before.
//! Dropping a [`Running`] before its answer kills the process, unless the job says otherwise.

mod arbiter;
mod cgi;
mod history;
pub(crate) mod kept;
mod launch;
mod leaf;
mod output;
pub(crate) mod procfs;
mod supervise;
mod sweep;

use std::any::Any;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub(crate) use self::arbiter::{Arbiter, Delivery};
pub(crate) use self::history::History;
pub use self::history::Record;
pub(crate) use self::launch::Launcher;
pub use crate::config::file::{OnDisconnect, OnExit};
pub use crate::shim::Stand;

use crate::back;
use crate::clock;
use crate::command::Command;
use crate::metrics::Metrics;
use crate::pool::Pools;

/// Events that nobody has taken yet; more are counted and dropped, a script never waits for a reader.
const EVENTS: usize = 256;

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where scripts answer. Its directory is made if it is missing (0700), and never changed.
    pub socket: PathBuf,
    pub policy: Policy,
    /// This process has no children but the engine's: orphans may be made its own, and killed. Only
    /// for a stage that is a program of its own.
    pub alone: bool,
    /// The executable and first arguments that set limits and then become the command: see
    /// [`crate::shim`].
    pub shim: Vec<OsString>,
    /// Start every process by the shim, so that none outlives this process.
    pub bound: bool,
    /// Jobs may run as other users ([`Job::stand`]), which then may answer: each its own request alone.
    pub users: bool,
}

/// Who may answer, and with what. May change while the engine runs.
#[derive(Clone, Debug)]
pub struct Policy {
    /// A second user who may answer.
    pub reply_uid: Option<u32>,
    /// Only the request's own processes may answer it.
    pub strict_peer: bool,
    pub max_body: usize,
    /// Lower case; `x-…` is always allowed.
    pub reply_headers: std::collections::BTreeSet<String>,
}

impl Options {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let policy = Policy { reply_uid: None, strict_peer: false, max_body: 64 << 20, reply_headers: Default::default() };
        let shim = vec!["/proc/self/exe".into(), crate::shim::WORD.into()];
        Self { socket: socket.into(), policy, alone: false, shim, bound: false, users: false }
    }
}

/// One process to start, once.
pub struct Job {
    /// For logs: `POST /pets`, `action backup`.
    pub label: String,
    pub command: Command,
    pub wd: PathBuf,
    /// The whole environment, but for what the engine adds.
    pub env: Vec<(OsString, OsString)>,
    pub input: Input,
    pub timeout: Duration,
    pub on_exit: OnExit,
    pub on_disconnect: OnDisconnect,
    pub limits: Limits,
    /// Whether lines are logged. They are kept for [`Engine::record`] in any case.
    pub log: bool,
    /// Whether lines are events, too.
    pub lines: bool,
    /// Another user, another view of its directory; both need a stage that is root.
    pub stand: Stand,
    /// Kept until the process has gone: a permit, a lock.
    pub hold: Option<Box<dyn Any + Send>>,
}

impl Job {
    pub fn new(label: impl Into<String>, command: Command, wd: impl Into<PathBuf>) -> Self {
        Self {
            label: label.into(),
            command,
            wd: wd.into(),
            env: Vec::new(),
            input: Input::None,
            timeout: Duration::from_secs(1),
            on_exit: OnExit::Error,
            on_disconnect: OnDisconnect::Kill,
            limits: Limits::default(),
            log: false,
            lines: false,
            stand: Stand::default(),
            hold: None,
        }
    }
}

/// How a payload reaches the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    None,
    /// One argument, byte for byte; no NUL, at most [`crate::command::ARGUMENT_MAX`].
    Argument(Bytes),
    Stdin(Bytes),
    /// A file (0600) whose path is in `UROCKET_PAYLOAD`; it is gone with the process.
    File(Bytes),
}

/// What a process and its descendants may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    pub memory: Option<u64>,
    pub cpu: Option<f64>,
    pub pids: Option<u64>,
    pub files: Option<u64>,
}

impl Limits {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(Reply),
    Failed(Failure),
}

/// What a script has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: Option<HeaderValue>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// It was sent to `/error`: the script says itself that it has failed.
    pub is_error: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came within the timeout; the process is being ended.
    Timeout,
    /// It ended and had not answered.
    Exited { code: Option<i32>, signal: Option<i32>, out_of_memory: bool, stderr_tail: String },
    /// It could not be started.
    Spawn(String),
    /// What it printed is no answer.
    BadOutput(String),
    /// The stage ends.
    Stopping,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("the process did not answer in time"),
            Self::Exited { out_of_memory: true, .. } => f.write_str("the process was killed for want of memory (oom)"),
            Self::Exited { signal: Some(signal), .. } => write!(f, "the process was ended by signal {signal} without an answer"),
            Self::Exited { code, .. } => write!(f, "the process ended with code {} without an answer", code.unwrap_or_default()),
            Self::Spawn(why) => write!(f, "the process could not be started: {why}"),
            Self::BadOutput(why) => write!(f, "what the process printed is no answer: {why}"),
            Self::Stopping => f.write_str("the stage is ending"),
        }
    }
}

/// Something a process says before it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Sent to `/progress`: any text, JSON by custom.
    Progress(String),
    Line {
        stream: Stream,
        text: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How a process ended, and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub usage: Usage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    /// Bytes.
    pub max_rss: u64,
    pub wall: Duration,
}

/// A process on its way. Dropped before the answer, it is the caller who has gone.
pub struct Running {
    pub id: Uuid,
    answer: oneshot::Receiver<Answer>,
    ended: oneshot::Receiver<Ended>,
    events: mpsc::Receiver<Event>,
    _caller: DropGuard,
}

impl Running {
    /// The one answer; asked again, it is [`Failure::Stopping`].
    pub async fn answer(&mut self) -> Answer {
        (&mut self.answer).await.unwrap_or(Answer::Failed(Failure::Stopping))
    }

    /// Once the process has gone; `None` if it never was.
    pub async fn ended(&mut self) -> Option<Ended> {
        (&mut self.ended).await.ok()
    }

    /// The next thing it says; `None` once it has gone.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another stage answers on `{}`", .0.display())]
    InUse(PathBuf),
    #[error("the socket `{}` can not be opened", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("`{}` is there and is no socket", .0.display())]
    NotASocket(PathBuf),
    #[error("the process can not be set up to start others")]
    Setup(#[source] io::Error),
}

/// Cheap to clone; all clones are one engine, which stops with [`Engine::stop`].
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) policy: RwLock<Arc<Policy>>,
    pub(crate) arbiter: Arbiter,
    pub(crate) history: History,
    pub(crate) launcher: Launcher,
    pub(crate) metrics: Metrics,
    pub(crate) pools: Pools,
    pub(crate) groups: leaf::Groups,
    /// Bodies on their way at the back: an answer may be among them though its process has ended.
    pub(crate) arriving: AtomicUsize,
    /// Users that have a process here now, and how many.
    pub(crate) users: Mutex<HashMap<u32, usize>>,
    pub(crate) sweep: Notify,
    /// Kill what runs.
    pub(crate) stop: CancellationToken,
    /// Close the socket.
    pub(crate) closed: CancellationToken,
}

impl Engine {
    /// Opens the socket and serves it. To be called within a runtime.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let listener = back::listen(&options.socket, options.users)?;
        if options.alone {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|error| OpenError::Setup(error.into()))?;
        }
        sweep::leftovers(&options.socket);
        let inner = Arc::new(Inner {
            policy: RwLock::new(Arc::new(options.policy.clone())),
            arbiter: Arbiter::default(),
            history: History::default(),
            launcher: Launcher::start().map_err(OpenError::Setup)?,
            metrics: Metrics::default(),
            pools: Pools::default(),
            groups: leaf::Groups::find(options.alone),
            arriving: AtomicUsize::new(0),
            users: Mutex::default(),
            sweep: Notify::new(),
            stop: CancellationToken::new(),
            closed: CancellationToken::new(),
            options,
        });
        let engine = Self { inner };
        tokio::spawn(back::serve(engine.clone(), listener));
        tokio::spawn(sweep::run(engine.inner.clone()));
        Ok(engine)
    }

    pub fn socket(&self) -> &Path {
        &self.inner.options.socket
    }

    pub fn policy(&self) -> Arc<Policy> {
        self.inner.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_policy(&self, policy: Policy) {
        *self.inner.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Starts a job under an id of its own.
    pub fn start(&self, job: Job) -> Running {
        self.start_as(clock::request_id(), job)
    }

    pub(crate) fn start_as(&self, id: Uuid, job: Job) -> Running {
        let (answer_tx, answer) = oneshot::channel();
        let (ended_tx, ended) = oneshot::channel();
        let (events_tx, events) = mpsc::channel(EVENTS);
        // The entry first: an answer can not come before there is one to take it.
        let reply = self.inner.arbiter.open(id, &job.label, Some(events_tx.clone()));
        self.inner.arbiter.set_user(id, job.stand.user.map(|(uid, _)| uid));
        let caller = CancellationToken::new();
        let guard = caller.clone().drop_guard();
        let ends = supervise::Ends { reply, answer: Some(answer_tx), ended: ended_tx, events: events_tx, caller };
        tokio::spawn(supervise::run(self.inner.clone(), id, job, ends));
        Running { id, answer, ended, events, _caller: guard }
    }

    /// What is known of a request, while it runs and for a minute after.
    pub fn record(&self, id: Uuid) -> Option<Record> {
        self.inner.arbiter.record(id).or_else(|| self.inner.history.find(id))
    }

    /// Processes that have not ended yet.
    pub fn in_flight(&self) -> usize {
        self.inner.arbiter.len()
    }

    /// Ends what runs, closes the socket and removes it.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        // Each supervisor kills within its own bounds; the last word is the kernel's.
        let gone = async {
            while self.in_flight() > 0 || self.inner.pools.alive() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(supervise::TERM_GRACE + Duration::from_secs(3), gone).await.is_err() {
            tracing::error!(processes = self.in_flight(), "processes are left that can not be killed");
        }
        sweep::all(&self.inner);
        self.inner.closed.cancel();
        let _ = std::fs::remove_file(&self.inner.options.socket);
    }
}
